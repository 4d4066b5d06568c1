"""A real Prefect server with pools, workers and deployments, for a lake of its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scot.embedded import embedded_server
from scot_core.lake import Lake

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 600
# Of profile smoke, where it does not matter how much there is, nor how long is tuned and trained.
FEWER = (
    "captions.count=300", "captions.queries_per_split=20", "captions.gallery=360", "finetune.steps=24",
    "finetune.batch_size=12", "finetune.held_out=16", "train.steps=30", "train.batch_size=64",
    "benchmark.resamples=100",
)  # fmt: skip


@dataclass(frozen=True)
class Served:
    """`make serve` in the background."""

    lake: Lake
    environment: dict[str, str]
    pid: int
    log: Path

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A `prefect` command line against the server."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        return subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=600)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a database as a first start sets it up, which takes long: once for all processes that test."""
    own = tmp_path_factory.getbasetemp()
    home = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "first-prefect"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "made").exists():
            for name in [name for name in os.environ if name.startswith(("PREFECT_", "SCOT_"))]:
                patch.delenv(name)
            patch.setenv("PREFECT_HOME", str(home))
            with embedded_server() as server:
                server.wait_until_ready()
            (home / "made").touch()
    return next(home.glob("scot/*/prefect.db")).parent


@pytest.fixture(scope="session")
def environment(database: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without the user's own Prefect settings and keys, with databases that are set up."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCOT_"))}
    home = tmp_path_factory.mktemp("prefect")
    for place in (home, home / "scot" / "0"):
        place.mkdir(parents=True, exist_ok=True)
        for file in database.glob("prefect.db*"):
            shutil.copyfile(file, place / file.name)
    return {
        **kept,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Who waits for a schedule, a worker or a run that is late looks often: the tests wait no longer than they must.
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


@pytest.fixture(scope="session")
def served(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Server, workers and deployments, ready to take runs."""
    port, lake = free_port(), tmp_path_factory.mktemp("served") / "lake"
    env = {**environment, "SCOT_PREFECT_PORT": str(port), "SCOT_LAKE": str(lake)}
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.serve"], env=env, cwd=ROOT, stdout=file, stderr=file
        )
    try:
        end = time.monotonic() + START_LIMIT_S
        while "ready." not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.5)
        yield Served(Lake(lake), {**env, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}, process.pid, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
