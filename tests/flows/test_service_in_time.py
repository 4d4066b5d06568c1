"""What comes to pass by itself, and takes its time: runs of schedules are made and end in the lake, runs that nobody
takes, or starts, are told.

All of it begins with `told`; most of the time it takes is that of tests before these.
"""

from __future__ import annotations

from tests.flows.conftest import Served, ask, automate, wait_for
from tests.flows.test_service_automations import says


def scheduled(served: Served, deployment: str) -> set[str]:
    """The types of the states of the runs that schedules made of a deployment."""
    runs = ask(served, "flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}})
    return {str(run["state_type"]) for run in runs if run["auto_scheduled"]}


def cleared(served: Served, deployment: str) -> bool:
    return served.prefect("deployment", "schedule", "clear", f"scot/{deployment}", "-y").exit_code == 0


def test_a_cron_schedule_makes_runs(served: Served, told: list[str]) -> None:
    assert wait_for(lambda: "SCHEDULED" in scheduled(served, "benchmark"))
    assert cleared(served, "benchmark")


def test_a_scheduled_run_is_taken_by_a_worker_and_completes(served: Served, told: list[str]) -> None:
    assert wait_for(lambda: "COMPLETED" in scheduled(served, "captions")), scheduled(served, "captions")
    assert cleared(served, "captions")
    assert served.lake.table("captions").datasets()


def test_a_run_that_nobody_takes_is_told(served: Served, told: list[str]) -> None:
    assert wait_for(lambda: says(told, "alert-embed-lavis is Late")), told
    assert served.prefect("work-pool", "resume", "scot-lavis").exit_code == 0


def test_a_run_that_a_worker_took_and_never_started_is_crashed(told: list[str]) -> None:
    """Else it would hold the one slot of scot/regenerate for good."""
    assert wait_for(lambda: says(told, "alert-train is Crashed: taken by a worker, not started in 60 s")), told


def test_automations_that_are_as_they_should_be_stay_as_they_are(served: Served, told: list[str]) -> None:
    """What one waits for would begin anew, at every start of `make serve`. (The last: the webhook is another then.)"""
    before = {one["id"]: one["updated"] for one in ask(served, "automations/filter", {})}
    automate(served, "http://127.0.0.1:1")
    assert {one["id"]: one["updated"] for one in ask(served, "automations/filter", {})} == before
