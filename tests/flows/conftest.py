"""A real Prefect server with pools, workers and deployments, for a lake of its own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.cli import CycloptsCliRunner, CycloptsResult

from scot.embedded import embedded_server
from scot_core.lake import Lake

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 600
LIMIT_S = 240
SMOKE = {"config": {"source": "catalogue", "count": 60, "gallery": 300, "queries_per_split": 4}}
# Of profile smoke, where it does not matter how much there is, nor how long is tuned and trained.
FEWER = (
    "captions.count=160", "captions.queries_per_split=20", "captions.gallery=360", "seed.count=120",
    "seed.shard_rows=40", "finetune.steps=24", "finetune.batch_size=8", "finetune.held_out=8",
    "generate.shard_rows=80", "train.steps=30", "train.batch_size=64", "benchmark.resamples=100",
)  # fmt: skip


@dataclass(frozen=True)
class Served:
    """`make serve` in the background."""

    lake: Lake
    environment: dict[str, str]
    pid: int
    log: Path

    def prefect(self, *arguments: str) -> CycloptsResult:
        """A `prefect` command line against the server, in this process: another would import for a second first."""
        with temporary_settings({PREFECT_API_URL: self.environment["PREFECT_API_URL"]}):
            return CycloptsCliRunner().invoke(["--no-prompt", *arguments])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
    """True once `what` holds; False where it does not within the limit."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.3)
    return False


def ask(served: Served, path: str, body: object = None) -> Any:
    """The JSON that Prefect's API answers; a request with a body is a POST."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{served.environment['PREFECT_API_URL']}/{path}", data, {"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)


def create(served: Served, name: str, state: dict[str, object], parameters: dict[str, object] | None = None) -> str:
    """Create a run of a deployment in a state; returns its id."""
    deployment = ask(served, f"deployments/name/scot/{name}")["id"]
    wanted = {"state": state, "parameters": parameters or {}, "name": f"alert-{name}"}
    return str(ask(served, f"deployments/{deployment}/create_flow_run", wanted)["id"])


def schedule(served: Served, deployment: str, **schedule: object) -> None:
    """Give a deployment a schedule."""
    where = ask(served, f"deployments/name/scot/{deployment}")["id"]
    ask(served, f"deployments/{where}/schedules", [{"schedule": schedule, "active": True, "parameters": SMOKE}])


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


@pytest.fixture(scope="module")
def shared(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """An environment whose runs share a server, for who does not test the one that each brings along: it takes three
    seconds to start.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", environment["PREFECT_HOME"])
        with embedded_server() as server:
            server.wait_until_ready()
            yield {**environment, **server.client}


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


SET_UP = """
import asyncio, sys
from prefect.blocks.webhook import Webhook
from deployments import automations
Webhook(url=sys.argv[1]).save("scot-alerts", overwrite=True)
asyncio.run(automations.set_up(late_s=15, stale_h=20 / 3600, start_s=60))
"""


def automate(served: Served, url: str) -> None:
    """Save the webhook, and set up the automations, which wait for seconds here: in another process each time, as
    `make serve` does, since the order of a set is another then.
    """
    command = [sys.executable, "-c", SET_UP, url]
    done = subprocess.run(command, env=served.environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def told(served: Served) -> Iterator[list[str]]:
    """What a webhook was sent. What comes to pass by itself, and takes its time, begins here: runs that nobody takes,
    or that a worker took and never starts, and runs of schedules.
    """
    bodies: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        automate(served, f"http://127.0.0.1:{server.server_port}")
        create(served, "seed", {"type": "SCHEDULED"}, {"lake": f"{served.lake.url}-nothing"})
        assert wait_for(lambda: bool(bodies))  # what happens before the server has the automations is told to nobody
        create(served, "train", {"type": "PENDING"})
        assert served.prefect("work-pool", "pause", "scot-lavis").exit_code == 0  # as if no worker were there
        create(served, "embed-lavis", {"type": "SCHEDULED"})
        schedule(served, "benchmark", cron="0 3 * * *")
        soon = datetime.now(UTC) + timedelta(seconds=30)  # for a scheduler that looks every five
        schedule(served, "captions", interval=120, anchor_date=soon.isoformat())
        yield bodies
        server.shutdown()
