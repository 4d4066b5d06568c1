"""`scot run`: the regeneration in this process, with a server of its own where none is configured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.embedded import embedded_server, wait_until_healthy
from scot_core.progress import LISTENERS, Listener, Stopped


def run_inline(
    profile: str, overrides: Sequence[str], *, until: str | None, lake: str, listeners: Sequence[Listener]
) -> bool:
    """Run the flow `regenerate` here. Returns True where every stage was cached. Raises what a stage raised."""
    # what a stage raises is raised here too; Prefect's own copy of it would only say it twice
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    with ExitStack() as stack:
        url = None if _configured() else stack.enter_context(embedded_server())
        if url is not None:
            os.environ["PREFECT_API_URL"] = url
        from prefect.exceptions import CrashedRun

        from flows.regenerate import regenerate  # torch and Prefect load while the server starts

        if url is not None:
            wait_until_healthy(url)
            stack.enter_context(_without_heartbeats())
        token = LISTENERS.set(tuple(listeners))
        stack.callback(LISTENERS.reset, token)
        try:
            state = regenerate(profile, list(overrides), until=until, lake=lake, return_state=True)
            if not state.is_completed():
                state.result()
        except (CrashedRun, Stopped) as error:  # how Ctrl-C may come back out of Prefect
            raise KeyboardInterrupt from error
        return state.name == "Cached"


def _configured() -> bool:
    """True where the environment or the active Prefect profile names a server."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    if not (home / "profiles.toml").exists():
        return False  # asking Prefect itself would mean importing it before its server starts
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


@contextmanager
def _without_heartbeats() -> Iterator[None]:
    """A heartbeat is for a server that outlives its runs; its thread adds a second to every flow."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
