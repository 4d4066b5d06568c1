"""`make serve` looks after its server and workers, and ends with everything it started."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployments.serve import _only_one
from scot_core.lake import Lake
from tests.core.test_orphans import gone
from tests.flows.conftest import ROOT, SMOKE, Served, ask, free_port, wait_for

OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


def descendants(pid: int) -> dict[int, str]:
    """Process ids below a process, with their command lines."""
    found: dict[int, str] = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found |= {child: command_line(child), **descendants(child)}
    return found


def kept(served: Served, words: str) -> int:
    """The process id of a server or worker."""
    return next(pid for pid, line in descendants(served.pid).items() if words in line and not gone(pid))


def submit(served: Served, name: str, parameters: Mapping[str, object]) -> str:
    """Create a run of a deployment; returns its id."""
    deployment = ask(served, f"deployments/name/scot/{name}")["id"]
    return str(ask(served, f"deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])


def state(served: Served, run: str) -> str:
    return str(ask(served, f"flow_runs/{run}")["state_type"])


def test_a_killed_worker_and_a_killed_server_are_replaced_and_a_run_completes(served: Served) -> None:
    worker, server = kept(served, "--pool scot-cpu"), kept(served, "scot.server")
    os.kill(worker, signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    said = [
        f"{what} was killed by SIGKILL; starting it again" for what in ("the worker of scot-cpu", "the Prefect server")
    ]
    assert wait_for(lambda: all(line in served.log.read_text() for line in said)), served.log.read_text()
    run = submit(served, "captions", SMOKE)  # waits in the socket until the new server takes it
    assert wait_for(lambda: state(served, run) in OVER)
    assert state(served, run) == "COMPLETED"
    assert kept(served, "--pool scot-cpu") != worker and kept(served, "scot.server") != server


def test_the_gpu_pool_runs_one_after_the_other(served: Served) -> None:
    assert ask(served, "work_pools/scot-gpu")["concurrency_limit"] == 1
    runs = [submit(served, "train", {"lake": f"{served.lake.url}-empty"}) for _ in range(2)]
    assert wait_for(lambda: {state(served, run) for run in runs} <= OVER)  # both fail: there are no triplets
    times = sorted((found["start_time"], found["end_time"]) for found in (ask(served, f"flow_runs/{r}") for r in runs))
    assert times[0][1] <= times[1][0]


def test_a_second_one_on_the_same_database_is_refused(served: Served) -> None:
    other = {**served.environment, "SCOT_PREFECT_PORT": str(free_port())}
    second = subprocess.run(
        [sys.executable, "-m", "deployments.serve"], env=other, cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert second.returncode == 1 and "another `make serve` has locked" in second.stderr


def test_one_that_serves_is_told_at_once_and_what_a_killed_one_left_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "service.lock"
    held = _only_one(path)
    with pytest.raises(SystemExit, match="another `make serve` has locked"):
        _only_one(path)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_text(str(ended.pid))
    threading.Timer(0.5, os.close, [held]).start()  # its runs end, too
    os.close(_only_one(path))
    assert path.read_text() == str(os.getpid())


class Service:
    """A `make serve` of a test's own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.log, port = folder / "log", free_port()
        env = {**environment, "SCOT_PREFECT_PORT": str(port), "SCOT_LAKE": str(folder / "lake")}
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployments.serve"], env=env, cwd=ROOT, stdout=file, stderr=file
            )
        try:
            assert wait_for(lambda: "ready." in self.log.read_text(), 400), self.log.read_text()
        except BaseException:
            self.process.kill()  # ends all that it started
            raise
        api = f"http://127.0.0.1:{port}/api"
        self.served = Served(Lake(folder / "lake"), {**env, "PREFECT_API_URL": api}, self.process.pid, self.log)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def engines(service: Service) -> dict[int, str]:
    """All processes below a service, once it runs a flow; none before."""
    below = descendants(service.process.pid)
    return below if any("prefect.engine" in line for line in below.values()) else {}


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif("SCOT_TEST_SERVE" not in os.environ, reason="takes minutes: SCOT_TEST_SERVE=1")
def test_nothing_outlives_it_and_runs_it_lost_are_marked_crashed(environment: dict[str, str], tmp_path: Path) -> None:
    environment = {**environment, "PREFECT_HOME": str(tmp_path / "prefect")}
    wanted: dict[str, object] = {"profile_name": "smoke", "until": "finetune"}
    with Service(environment, tmp_path) as service:
        run = submit(service.served, "regenerate", wanted)
        assert wait_for(lambda: len(list((tmp_path / "lake").glob("captions/*/part-*.parquet"))) > 1)
        below = engines(service)
    assert below and wait_for(lambda: all(gone(pid) for pid in below)), below

    with Service(environment, tmp_path) as service:
        running = ask(service.served, "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}})
        assert running == [] and state(service.served, run) == "CRASHED"
        assert f"flow run {run} was cut off" in service.log.read_text()
        run = submit(service.served, "regenerate", wanted)
        assert wait_for(lambda: state(service.served, run) == "RUNNING")
        below = engines(service)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=120) == 0
        with sqlite3.connect(tmp_path / "prefect" / "prefect.db") as database:
            found = database.execute("select state_type from flow_run where id = ?", (run,)).fetchall()
        assert found == [("CRASHED",)]
        assert wait_for(lambda: all(gone(pid) for pid in below)), below
