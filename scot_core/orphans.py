"""Processes that end with those they work for."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import threading
from multiprocessing.connection import wait
from pathlib import Path


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
