"""Flows run in this process, with a server of their own where none is configured: for `scot run` and its like."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scot.embedded import embedded_server
from scot_core.config import EmbedConfig, MethodsConfig, PublishedConfig
from scot_core.garbage import loading
from scot_core.lake import Dataset
from scot_core.stages.progress import LISTENERS, Listener, Progress, Stopped
from scot_core.stages.step import Work

if TYPE_CHECKING:  # Prefect is imported while its server starts
    from prefect.client.schemas.objects import State


ASKING = ("captions", "seed")  # a run that ends with one of them needs no torch, or (SEARLE's stages) not at once


class Measured:
    """A listener that keeps the Combiners, and the rows of the last benchmark, that a run made or found: they need not
    be the lake's newest. A benchmark with hidden targets has no rows.
    """

    every_s = float("inf")

    def __init__(self) -> None:
        self.combiners: Dataset | None = None
        self.rows: Dataset | None = None

    def begin(self, step: Work, total: int) -> None:
        """Nothing is there yet."""

    def update(self, progress: Progress) -> None:
        """Nothing is there yet."""

    def end(self, step: Work, cached: bool) -> None:
        found = step.committed() or {}
        self.combiners = found.get("combiners", self.combiners)
        if "benchmarks" in found and found["benchmarks"].rows:
            self.rows = found["benchmarks"]

    def fail(self, step: Work) -> None:
        """It made nothing."""


def run_inline(
    profile: str, overrides: Sequence[str], *, until: str | None, lake: str, promote: bool,
    listeners: Sequence[Listener],
) -> bool:  # fmt: skip
    """The flow `regenerate`. Returns True where every stage was cached. Raises what a stage raised."""

    def load() -> Callable[[], State]:
        from flows.regenerate import regenerate

        return lambda: regenerate(  # captions of one's own were looked at before the server was started
            profile, list(overrides), until=until, lake=lake, promote=promote, anyway=True, return_state=True
        )

    state = _run(load, listeners, computes=until not in ASKING)
    from tasks.states import is_cached

    return is_cached(state)


def benchmark_inline(
    config: PublishedConfig,
    combiner: str | None,
    encoder: EmbedConfig | None,
    methods: MethodsConfig | None = None,
    *,
    lake: str,
    listeners: Sequence[Listener],
) -> dict[str, str]:
    """The flow `benchmark`. Returns the keys of its datasets. Raises what a step raised."""

    def load() -> Callable[[], State]:
        from flows.benchmark import benchmark

        return lambda: benchmark(config, combiner, encoder, methods, lake, return_state=True)

    state = _run(load, listeners)
    from tasks.states import keys_of

    return keys_of(state)


def methods_inline(config: MethodsConfig, *, lake: str, listeners: Sequence[Listener]) -> None:
    """The flow `methods`. Raises what a step raised."""

    def load() -> Callable[[], State]:
        from flows.methods import methods

        return lambda: methods(config, lake=lake, return_state=True)

    _run(load, listeners)


def study_inline(
    name: str, profile: str, overrides: Sequence[str], *, lake: str, listeners: Sequence[Listener]
) -> None:
    """The flow `study`. Raises what a step raised."""

    def load() -> Callable[[], State]:
        from flows.study import study

        return lambda: study(name, profile, list(overrides), lake=lake, return_state=True)

    _run(load, listeners)


def _run(load: Callable[[], Callable[[], State]], listeners: Sequence[Listener], *, computes: bool = True) -> State:
    """Load a flow, with Prefect, and torch where it computes, while the server starts; then run it, and raise what it
    raised.
    """
    # what a stage raises is raised here too; Prefect's own copy of it would only say it twice
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")  # an event that was not sent
    with ExitStack() as stack:
        server = None if _configured() else stack.enter_context(embedded_server())
        if server is not None:
            os.environ.update(server.client)
        with loading():
            from prefect.exceptions import CrashedRun

            from tasks.states import failure_of

            flow = load()
            if computes:
                import torch  # noqa: F401 - a stage would load it when the server waits for nobody
        if server is not None:
            server.wait_until_ready()
            stack.enter_context(_without_heartbeats())
        token = LISTENERS.set(tuple(listeners))
        stack.callback(LISTENERS.reset, token)
        try:
            state = flow()
            if (failure := failure_of(state)) is not None:
                raise failure
        except (CrashedRun, Stopped) as error:  # how Ctrl-C may come back out of Prefect
            raise KeyboardInterrupt from error
        return state


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
