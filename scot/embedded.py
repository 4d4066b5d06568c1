"""A Prefect server for the length of one run, for people who have none.

Prefect can start one itself, but a run that is killed would leave that server behind, and a server that is killed would
end the run. This one goes with its run, and is started again, on the same socket and database, when it ends before.

Its database is its own: `PREFECT_HOME/scot/0`, or `1` and so on where other runs are at work beside it. Two servers
never share one, and what a killed run left as `Running` is marked as crashed by the next.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from itertools import count
from pathlib import Path
from queue import Empty

from scot.kept import Kept
from scot.server import answers, client_settings, listen
from scot.stale import any_left, crash_all
from scot_core.errors import ScotError

START_LIMIT_S = 300.0
DRAIN_LIMIT_S = 5.0
SETTLE_LIMIT_S = 10.0
STARTS = 5
TAIL = 8
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# Nobody schedules, watches or looks at this server: without these services SQLite's one writer has little to do.
IDLE = ("SCHEDULER", "LATE_RUNS", "PAUSE_EXPIRATIONS", "FOREMAN", "REPOSSESSOR", "TRIGGERS", "EVENT_PERSISTER")
SETTINGS = {
    **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE},
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "flow_runs",  # older than 90 days
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


class EmbeddedServer:
    """A server that is starting or running. `url` is that of its API; `client` is what its clients are told."""

    def __init__(self, folder: Path, lock: int) -> None:
        """Start it. `folder` takes its database and log; `lock` is an open file that stays locked while it lives."""
        self._socket, self._log = listen(), folder / "server.log"
        self._log.write_bytes(b"")
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api"
        self.client = client_settings(self.url, folder)
        given = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        database = folder / "prefect.db"
        own = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
        self._kept = Kept(
            "the embedded Prefect server",
            [sys.executable, "-m", "scot.server", str(self._socket.fileno()), str(database)],
            {**SETTINGS, **given, **own},
            say=_say,
            log=self._log,
            hand_down=(self._socket.fileno(), lock),
            most=STARTS,
            on_lost=self._give_up,
        )

    @property
    def pid(self) -> int:
        """Of the process that serves now."""
        return self._kept.pid

    def wait_until_ready(self) -> None:
        """Wait for the first answer, and mark as crashed what a killed run left behind.

        Raises ScotError where the server fails, or does not answer in five minutes, with the end of its log.
        """
        end = time.monotonic() + START_LIMIT_S
        while not answers(self.url, limit_s=1):
            self.check()
            if time.monotonic() > end:
                raise ScotError(f"the embedded Prefect server did not answer in {START_LIMIT_S:.0f} s; {self._tail()}")
            time.sleep(0.1)
        self._kept.proven = True
        try:
            crash_all(self.url)  # nobody else uses this database
        except (OSError, HTTPException, ValueError) as error:  # nothing depends on it
            self.check()
            _say(f"what a killed run left as Running stays so until the next run: {error!r}")

    def check(self) -> None:
        """Raises ScotError where the server was given up."""
        if self._kept.lost is not None:
            raise ScotError(f"{self._kept.lost}; finished shards are kept, run again; {self._tail()}")

    def stop(self) -> None:
        """End it, once it has taken what Prefect's threads still hold for it."""
        if self._kept.lost is None:
            _hand_over(DRAIN_LIMIT_S)
            if self._kept.proven:
                self._settle()
        else:
            _hand_over(0)
            self._socket.shutdown(socket.SHUT_RDWR)  # ends `_give_up`
        self._kept.stop(grace_s=10)
        self._socket.close()

    def _settle(self) -> None:
        """What the server was handed over it writes a little later, and what it has not when it ends is lost: a task
        that had completed would be Running until the next run calls it crashed. One that was killed may never write it.
        """
        end = time.monotonic() + SETTLE_LIMIT_S
        with suppress(OSError, HTTPException, ValueError):  # the next run does it
            while any_left(self.url) and time.monotonic() < end:
                time.sleep(0.1)
            crash_all(self.url)

    def _give_up(self) -> None:
        """Wake the run, which then calls `check`, and answer in the server's place: what is refused, or not answered,
        Prefect would try for minutes.
        """
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        self._socket.setblocking(True)  # the server, with which it is shared, had set it otherwise
        with suppress(OSError):  # until `stop`
            while True:
                connection, _ = self._socket.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(GONE)

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL:]
        return "\n  ".join([f"{self._log} ends with:" if lines else f"{self._log} is empty", *lines])


@contextmanager
def embedded_server() -> Iterator[EmbeddedServer]:
    """Start a server on a free loopback port; yields it at once, without waiting.

    Raises ScotError where the server was given up, whatever else that made fail.
    """
    with _own_folder() as (folder, lock):
        server = EmbeddedServer(folder, lock)
        try:
            yield server
        except BaseException:
            server.check()
            raise
        finally:
            server.stop()


@contextmanager
def _own_folder() -> Iterator[tuple[Path, int]]:
    """The first folder of PREFECT_HOME/scot that no other run has locked, and the descriptor of its lock.

    Servers inherit the descriptor, so the lock outlives a killed run until its server is gone, too.
    """
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser() / "scot"
    for number in count():
        folder = home / str(number)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise ScotError(f"{folder} cannot be written ({error.strerror}): set PREFECT_HOME") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        try:
            yield folder, lock
        finally:
            os.close(lock)
        return


def _say(words: str) -> None:
    print(f"scot: {words}", file=sys.stderr)


def _hand_over(limit_s: float) -> None:
    """Prefect sends logs and events from threads of its own, and waits for them when this process ends. What they hold
    must arrive before the server goes; what has not within the limit is dropped, or each item is tried for seconds.
    """
    for module, worker in (("prefect.logging.handlers", "APILogWorker"), ("prefect.events.worker", "EventsWorker")):
        if module not in sys.modules:
            continue
        kind = getattr(sys.modules[module], worker)
        services = list(kind._instances.values())
        kind.drain_all(timeout=limit_s)
        for service in services:
            with suppress(Empty):
                while True:
                    service._queue.get_nowait()
            service._queue.put_nowait(None)  # its mark of the end
