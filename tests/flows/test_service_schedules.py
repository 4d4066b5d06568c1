"""Schedules on a real server: runs are made, a worker takes them, and they end in the lake."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from tests.flows.conftest import Served

LIMIT_S = 240
SMOKE = {"config": {"source": "catalogue", "count": 60, "gallery": 300, "queries_per_split": 4}}


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


def scheduled(served: Served, deployment: str) -> set[str]:
    """The types of the states of the runs that schedules made of a deployment."""
    runs = ask(served, "flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}})
    return {str(run["state_type"]) for run in runs if run["auto_scheduled"]}


@contextmanager
def schedule(served: Served, deployment: str, **schedule: object) -> Iterator[None]:
    """A schedule of a deployment."""
    where = ask(served, f"deployments/name/scot/{deployment}")["id"]
    ask(served, f"deployments/{where}/schedules", [{"schedule": schedule, "active": True, "parameters": SMOKE}])
    yield
    assert served.prefect("deployment", "schedule", "clear", f"scot/{deployment}", "-y").returncode == 0


def test_a_cron_schedule_makes_runs(served: Served) -> None:
    with schedule(served, "benchmark", cron="0 3 * * *"):
        assert wait_for(lambda: "SCHEDULED" in scheduled(served, "benchmark"))


def test_a_scheduled_run_is_taken_by_a_worker_and_completes(served: Served) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=15)  # for a scheduler that looks every five
    with schedule(served, "captions", interval=60, anchor_date=soon.isoformat()):
        assert wait_for(lambda: "COMPLETED" in scheduled(served, "captions")), scheduled(served, "captions")
    assert served.lake.table("captions").datasets()
