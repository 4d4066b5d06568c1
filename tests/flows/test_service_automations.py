"""Runs that fail, crash or end at a gate, and no new generation for long, are told to a webhook; a real server calls
it.
"""

from __future__ import annotations

from pathlib import Path

from tests.captioned import picture
from tests.flows.conftest import Served, ask, create, wait_for


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
