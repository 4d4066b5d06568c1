"""A Prefect server for the length of one run, for people who have none.

Prefect can start one itself, but a run that is killed would leave that server behind; this one watches its
parent and goes with it. It starts while heavy libraries are still being imported.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

START_LIMIT_S = 180.0
DRAIN_LIMIT_S = 5.0
WATCH_EVERY_S = 1.0


@contextmanager
def embedded_server() -> Iterator[str]:
    """Start a server on a free loopback port; yields the URL of its API at once, without waiting."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment.pop("PREFECT_API_URL", None)
    process = subprocess.Popen([sys.executable, "-m", "scot.embedded", str(port), str(os.getpid())], env=environment)
    try:
        yield url
    finally:
        _hand_over()
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def _hand_over() -> None:
    """Prefect sends logs and events from threads of its own: what these still hold must arrive before the server goes,
    or they try for a minute to reach it while this process ends.
    """
    for module, worker in (("prefect.logging.handlers", "APILogWorker"), ("prefect.events.worker", "EventsWorker")):
        if module in sys.modules:
            getattr(sys.modules[module], worker).drain_all(timeout=DRAIN_LIMIT_S)


def wait_until_healthy(url: str) -> None:
    """Raises TimeoutError where the server does not answer in three minutes."""
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        try:
            with urlopen(f"{url}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(f"the embedded Prefect server did not answer at {url} within {START_LIMIT_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_EVERY_S)
    os._exit(0)


def _main(port: int, parent: int) -> None:
    import signal

    import uvicorn

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which then stops this server
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    from prefect.server.api.server import create_app

    uvicorn.Server(uvicorn.Config(create_app(), host="127.0.0.1", port=port, log_level="error")).run()


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
