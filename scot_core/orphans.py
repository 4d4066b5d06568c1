"""Processes that end with those they work for."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

_STARTING = threading.Lock()  # one thread at a time does without a main module


@contextmanager
def starting_children() -> Iterator[None]:
    """Processes that this thread starts meanwhile never see Ctrl-C, which a terminal sends to every process of a run.

    They end with their parent, once it has seen to what is under way. The signal is blocked, and a child inherits
    that, so that there is no moment at its start in which it would be told.

    Nor do they import the parent's main module, as those that are spawned do else: what they run lies in modules, and
    the main one may be all of Prefect, or a script that would run again. So what they are handed must not be of a class
    of the main module. The same goes for processes that other threads spawn at that very moment.
    """
    with _STARTING:
        resource_tracker.ensure_running()  # else the first child starts it, and that unblocks the signal
        main = vars(sys.modules["__main__"])
        known: dict[str, Any] = {name: main[name] for name in ("__spec__", "__file__") if name in main}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            main.update(dict.fromkeys(known))
            yield
        finally:
            main.update(known)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_with_parent() -> None:
    """End this process as soon as its parent is gone, however that ended; for pools, an initialiser.

    A child of `multiprocessing` holds a pipe whose other end only its parent has, so `kill -9` of the parent is seen
    at once. The kernel's own signal for it (PR_SET_PDEATHSIG) would come too early: with the thread that started the
    child. In a process that has no such parent this does nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), name="leave-with-parent", daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # nobody is left to clean up for


def leave_with_holder(lock: Path) -> None:
    """End this process as soon as nobody holds the lock on a file: for those that no parent holds a pipe to."""
    threading.Thread(target=_wait_for, args=(lock,), name="leave-with-holder", daemon=True).start()


def _wait_for(lock: Path) -> None:
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # waits
    os._exit(1)
