"""Processes of pools and writers end with the process that started them, `kill -9` included."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from scot_core.config import CaptionsConfig
from scot_core.lake import Lake
from scot_core.orphans import starting_children
from scot_core.stages.captions.catalogue import draw_captions
from scot_core.stages.progress import Stopped

ROOT = Path(__file__).resolve().parents[2]

POOL = """
from pathlib import Path
from scot_core.config import CaptionsConfig
from scot_core.lake import Lake
from scot_core.stages.captions.catalogue import draw_captions

def busy():
    import time
    print("pid", __import__("os").getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    step = draw_captions(Lake("memory://orphans"), CaptionsConfig())
    with step:
        step._open().submit(busy).result()
"""

SLOW = """
import os, time

class Slow:
    def load(self, device):
        print("pid", os.getpid(), flush=True)
        time.sleep(600)
"""

WRITER = """
from scot_core.llm.local import writers
from slow import Slow

with writers.Writers(Slow(), ["cpu", "cpu"]) as both:
    both.write(writers.Job([], [], 1.0, 1, 1), print)
"""

UNGUARDED = """
import multiprocessing
from scot_core.catalogue.teacher import serve_beside
from scot_core.config import CaptionsConfig
from scot_core.lake import Lake
from scot_core.stages.captions.catalogue import FEW, draw_captions

print(__name__, __file__)
step = draw_captions(Lake("memory://unguarded"), CaptionsConfig(count=FEW + 1, image_size=16))
with step, serve_beside() as url:
    step.run(0, lambda _: None)
    assert len(multiprocessing.active_children()) > 1, "the teacher, and who draws"
print(__name__, __file__)
"""


def gone(pid: int) -> bool:
    """True where the process has ended; one that was adopted by a init that does not reap counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("script", [POOL, WRITER], ids=["pool", "writer"])
def test_children_are_gone_when_their_parent_was_killed(script: str, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(script)  # spawn may import the main module again, so it must be a file
    (tmp_path / "slow.py").write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline().removeprefix("pid"))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    end = time.monotonic() + 60
    try:
        while not gone(child):
            assert time.monotonic() < end, f"process {child} outlived its parent"
            time.sleep(0.1)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_a_script_that_starts_processes_is_run_once(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"__main__ {script}\n" * 2), done.stderr


def test_a_process_is_gone_when_nobody_holds_the_lock_it_watches(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom scot_core.orphans import leave_with_holder\n"
        "leave_with_holder(Path(sys.argv[1]))\nprint('up', flush=True)\ntime.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = [sys.executable, "-c", code, str(lock)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
    assert process.wait(timeout=60) == 1


def deaf_to_ctrl_c() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_is_for_the_process_that_started_the_others() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        with starting_children():
            answers = [pool.submit(deaf_to_ctrl_c) for _ in range(2)]
        assert all(answer.result() for answer in answers) and not deaf_to_ctrl_c()


def test_a_drawing_that_is_stopped_leaves_no_child_behind_and_begins_none() -> None:
    """Whoever ends a process waits for its children: for ever, where they were not told in time."""
    before = set(multiprocessing.active_children())
    step = draw_captions(Lake("memory://stopped"), CaptionsConfig())
    stopped: list[BaseException] = []

    def draw() -> None:
        try:
            step.run(0, lambda _: None)
        except BaseException as error:
            stopped.append(error)

    with pytest.raises(KeyboardInterrupt), step:
        thread = threading.Thread(target=draw)
        thread.start()
        while not set(multiprocessing.active_children()) - before and thread.is_alive():
            time.sleep(0.001)
        raise KeyboardInterrupt  # while they start
    assert set(multiprocessing.active_children()) <= before
    thread.join()
    assert stopped
    with pytest.raises(Stopped, match="draw the catalogue"):
        step.run(1, lambda _: None)
