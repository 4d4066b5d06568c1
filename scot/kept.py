"""Processes that are kept: started again when they end by themselves, and ended with whoever keeps them.

A kept process leads a session of its own, so Ctrl-C in the terminal reaches its keeper alone. Its standard input is a
pipe that only the keeper holds: whatever ends the keeper, `kill -9` included, is an end of file there, and
`leave_with_keeper` ends the process and its children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

WINDOW_S = 600.0
LONGEST_WAIT_S = 60.0


class Kept:
    """One process. Its end is told in a line by `say`; it is started again after 0, 1, 2, 4 … seconds.

    Args:
        name: what `say` calls it.
        command: the program and its arguments; the program calls `leave_with_keeper`.
        environment: of the program.
        say: told every end, in one line.
        log: a file that takes all its output, appended; by default that of this process.
        hand_down: file descriptors that it inherits.
        most: how often within ten minutes it is started again; None is without end. Beyond it, or where it fails by
            itself before anybody has set `proven`, it is `lost`.
        on_lost: called then, from another thread.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        say: Callable[[str], object],
        log: Path | None = None,
        hand_down: Sequence[int] = (),
        most: int | None = None,
        on_lost: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self.proven = False
        self.lost: str | None = None
        self._command, self._environment = list(command), dict(environment)
        self._say, self._log, self._hand_down = say, log, tuple(hand_down)
        self._most, self._on_lost = most, on_lost
        self._ends: list[float] = []
        self._groups: list[int] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep, name=f"keep {name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        return self._process.pid

    def signal_stop(self) -> None:
        """Ask the process and its children to end (SIGTERM); it is not started again."""
        with self._lock:
            self._stopping.set()
            self._signal(signal.SIGTERM)

    def stop(self, grace_s: float) -> None:
        """End the process and its children; after `grace_s` seconds without asking."""
        self.signal_stop()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=grace_s)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._thread.join()

    def _start(self) -> subprocess.Popen[bytes]:
        output = None if self._log is None else self._log.open("ab")
        try:
            process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.PIPE, stdout=output, stderr=output,
                pass_fds=self._hand_down, start_new_session=True,
            )  # fmt: skip
        finally:
            if output is not None:
                output.close()
        self._groups.append(process.pid)
        return process

    def _keep(self) -> None:
        while True:
            code = self._process.wait()
            if self._stopping.is_set():
                return
            self._groups = [group for group in self._groups if _signalled(group, 0)]  # numbers are given out again
            now = time.monotonic()
            self._ends = [then for then in self._ends if now - then < WINDOW_S] + [now]
            too_often = self._most is not None and len(self._ends) > self._most
            if too_often or (code > 0 and not self.proven):
                self.lost = f"{self.name} {_ending(code)}" + (f", {len(self._ends)} times" if too_often else "")
                self._on_lost()
                return
            wait_s = min(LONGEST_WAIT_S, float(2 ** (len(self._ends) - 2))) if len(self._ends) > 1 else 0.0
            self._say(f"{self.name} {_ending(code)}; starting it again" + (f" in {wait_s:.0f} s" if wait_s else ""))
            if self._stopping.wait(wait_s):
                return
            with self._lock:
                if self._stopping.is_set():
                    return
                try:
                    self._process = self._start()
                except OSError as error:
                    self.lost = f"{self.name} cannot be started again: {error}"
                    self._on_lost()
                    return

    def _signal(self, number: int) -> None:
        for group in self._groups:  # children of one that was killed go on working in its group
            _signalled(group, number)


def stop_all(kept: Sequence[Kept], grace_s: float) -> None:
    """Stop several processes at once."""
    for one in kept:
        one.signal_stop()
    for one in kept:
        one.stop(grace_s)


def leave_with_keeper() -> None:
    """End this process and its group when standard input ends: whoever kept it is gone, and cannot be reported to."""
    threading.Thread(target=_watch, name="leave-with-keeper", daemon=True).start()


def _watch() -> None:
    while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 1024):
        pass  # nobody writes
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _signalled(group: int, number: int) -> bool:
    """Signal a process group; False where nobody is left in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
