"""Kept processes: started again when they end, ended with their keeper."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from scot.kept import Kept, stop_all
from tests.core.test_orphans import ROOT, gone

BUSY = """
import os, time
from scot.kept import leave_with_keeper
leave_with_keeper()
print(os.getpid(), flush=True)
time.sleep(600)
"""
FAILS = "raise SystemExit('no such thing')"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def pids(log: Path) -> list[int]:
    """Of the processes that came up, in order."""
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_a_killed_process_is_started_again_and_told_in_a_line(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "log"
    kept = Kept("the clerk", [sys.executable, "-c", BUSY], ENVIRONMENT, say=said.append, log=log)
    try:
        first = kept.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: kept.pid != first and kept.pid in pids(log))
        assert said == ["the clerk was killed by SIGKILL; starting it again"]
        assert not gone(kept.pid)
    finally:
        kept.stop(grace_s=5)
    assert gone(kept.pid) and len(said) == 1 and kept.lost is None


def test_one_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    lost, allowed = threading.Event(), tmp_path / "allowed"
    dies = f"import os, time\nwhile not os.path.exists({str(allowed)!r}): time.sleep(0.01)\nraise SystemExit(7)"
    kept = Kept(
        "the clerk", [sys.executable, "-c", dies], ENVIRONMENT, say=lambda words: None, most=2, on_lost=lost.set
    )
    kept.proven = True  # or it would be given up at once
    allowed.touch()
    try:
        assert lost.wait(60)
        assert kept.lost == "the clerk ended with exit code 7, 3 times"
    finally:
        kept.stop(grace_s=5)


def test_one_that_cannot_start_is_given_up_at_once(tmp_path: Path) -> None:
    lost, said, log = threading.Event(), list[str](), tmp_path / "log"
    kept = Kept(
        "the clerk", [sys.executable, "-c", FAILS], ENVIRONMENT, say=said.append, log=log, most=5, on_lost=lost.set
    )
    try:
        assert lost.wait(60)
        assert kept.lost == "the clerk ended with exit code 1" and said == []
        assert "no such thing" in log.read_text()
    finally:
        kept.stop(grace_s=5)


def test_stopping_ends_children_of_one_that_was_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BUSY!r}]).wait()"
    kept = Kept("the clerk", [sys.executable, "-c", parent], ENVIRONMENT, say=lambda words: None, log=log)
    until(lambda: len(pids(log)) == 1)
    os.kill(kept.pid, signal.SIGKILL)
    until(lambda: len(pids(log)) == 2)  # the first child is still at it, beside that of the second parent
    stop_all([kept], grace_s=5)
    until(lambda: all(gone(pid) for pid in pids(log)))


def test_kill_9_of_the_keeper_ends_what_it_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    keeper = (
        "import os, sys, time\nfrom pathlib import Path\nfrom scot.kept import Kept\n"
        f"kept = Kept('clerk', [sys.executable, '-c', {BUSY!r}], dict(os.environ), say=print, log=Path({str(log)!r}))\n"
        "print(kept.pid, flush=True)\ntime.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", keeper], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    until(lambda: len(pids(log)) == 1)
    process.kill()
    process.wait()
    until(lambda: gone(pid))
