"""Runs that fail, crash, are not taken or end at a gate, and no new generation for long, are told to a webhook; a real
server calls it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.captioned import picture
from tests.flows.conftest import ROOT, Served
from tests.flows.test_service_schedules import ask, wait_for

SET_UP = """
import asyncio, sys
from prefect.blocks.webhook import Webhook
from deployments import automations
Webhook(url=sys.argv[1]).save("scot-alerts", overwrite=True)
asyncio.run(automations.set_up(late_s=15, stale_h=20 / 3600, start_s=60))
"""


@pytest.fixture(scope="module")
def told(served: Served) -> Iterator[list[str]]:
    """What the webhook was sent."""
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
        url = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, "-c", SET_UP, url]
        done = subprocess.run(command, env=served.environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        create(served, "seed", {"type": "SCHEDULED"}, {"lake": f"{served.lake.url}-nothing"})
        assert wait_for(lambda: bool(bodies))  # what happens before the server has the automations is told to nobody
        create(served, "train", {"type": "PENDING"})  # both are waited for while others are told
        assert served.prefect("work-pool", "pause", "scot-lavis").returncode == 0  # as if no worker were there
        create(served, "embed-lavis", {"type": "SCHEDULED"})
        yield bodies
        assert served.prefect("work-pool", "resume", "scot-lavis").returncode == 0
        server.shutdown()


def create(served: Served, name: str, state: dict[str, object], parameters: dict[str, object] | None = None) -> str:
    """Create a run of a deployment in a state; returns its name."""
    deployment = ask(served, f"deployments/name/scot/{name}")["id"]
    wanted = {"state": state, "parameters": parameters or {}, "name": f"alert-{name}"}
    return str(ask(served, f"deployments/{deployment}/create_flow_run", wanted)["id"])


def says(told: list[str], *words: str) -> bool:
    return any(all(word in body for word in words) for body in told)


def test_a_failed_run_is_told(told: list[str]) -> None:
    assert wait_for(lambda: says(told, "is Failed", "nothing", "/runs/flow-run/")), told


def test_a_crashed_run_is_told(served: Served, told: list[str]) -> None:
    later: dict[str, object] = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
    run = create(served, "captions", later)
    ask(served, f"flow_runs/{run}/set_state", {"state": {"type": "CRASHED", "message": 'a "test"'}, "force": True})
    assert wait_for(lambda: says(told, "alert-captions is Crashed: a 'test'")), told


def test_a_run_that_ends_at_a_gate_is_told_with_its_figures(served: Served, told: list[str], tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(picture())
    table = tmp_path / "photos.csv"
    table.write_text("image,caption\nred.png,a red mug\ngone.png,a blue mug\n")
    gated = {"source": "folder", "path": str(table), "min_kept": 0.9}
    run = create(served, "captions", {"type": "SCHEDULED"}, {"config": gated, "lake": str(tmp_path / "lake")})
    words = ("is Gate", "keeps 1 of 2 entries", "under the 90% of captions.min_kept", "image_missing 1")
    assert wait_for(lambda: says(told, *words)), told
    assert ask(served, f"flow_runs/{run}")["state_type"] == "FAILED"


def test_no_new_generation_for_long_is_told(served: Served, told: list[str]) -> None:
    assert wait_for(lambda: says(told, "no new generation for 0.00555556 hours")), told


def test_a_run_that_nobody_takes_is_told(told: list[str]) -> None:
    assert wait_for(lambda: says(told, "alert-embed-lavis is Late")), told


def test_a_run_that_a_worker_took_and_never_started_is_crashed(told: list[str]) -> None:
    """Else it would hold the one slot of scot/regenerate for good."""
    assert wait_for(lambda: says(told, "alert-train is Crashed: taken by a worker, not started in 60 s")), told


def test_automations_that_are_as_they_should_be_stay_as_they_are(served: Served, told: list[str]) -> None:
    """What one waits for would begin anew, at every start of `make serve`. (The last: the webhook is another then.)"""
    before = {one["id"]: one["updated"] for one in ask(served, "automations/filter", {})}
    command = [sys.executable, "-c", SET_UP, "http://127.0.0.1:1"]
    assert subprocess.run(command, env=served.environment, cwd=ROOT, capture_output=True).returncode == 0
    assert {one["id"]: one["updated"] for one in ask(served, "automations/filter", {})} == before
