"""Gates: what is missed stops the next stage, or the promotion, with figures and the setting's name; no key moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scot_core.config import Pipeline, with_overrides
from scot_core.errors import BudgetReached, ConfigError, GateError, ScotError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.generations import generations
from scot_core.lake.promotion import promote
from scot_core.stages import recipes
from scot_core.stages.finetune import finetune
from scot_core.stages.gates import require_kept, require_no_fall, require_quality
from tests.core.test_generations import add, make
from tests.core.test_own_captions import pipeline_of
from tests.rows import no_rows
from tests.running import run_here
from tests.shapes import captioned

GATES = (
    "captions.min_kept", "seed.min_kept", "seed.max_usd", "finetune.min_kept", "finetune.min_right",
    "generate.min_kept", "generate.max_usd", "benchmark.max_drop",
)  # fmt: skip


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_is_in_no_key(gate: str) -> None:
    stage = gate.partition(".")[0]
    usual, gated = (getattr(with_overrides(Pipeline(), given), stage) for given in ([], [f"{gate}=0.5"]))
    assert usual != gated and usual.identity() == gated.identity()


def test_money_that_is_spent_is_a_gate_too() -> None:
    assert issubclass(BudgetReached, GateError) and issubclass(GateError, ScotError)
    with pytest.raises(ConfigError, match=r"generate\.max_usd .* generate\.endpoint\.usd_per_million_prompt"):
        with_overrides(Pipeline(), ["generate.max_usd=1", "generate.endpoint.base_url=http://a/v1"])


def adapters(lake: Lake, **shares: float) -> Dataset:
    rows = {name: list(values) for name, values in no_rows("adapters").items()}
    for name, value in {"share_kept": 50.0, **shares}.items():
        for column, cell in zip(rows, ("shop", "after", 0, name, value), strict=True):
            rows[column].append(cell)
    return add(lake, "adapters", {"shares": shares}, [], dict(rows))


def test_the_replies_of_a_tuned_model_are_measured_against_the_floors(local_lake: Lake) -> None:
    good, none = adapters(local_lake, share_right=40.0), adapters(local_lake, share_kept=0.0)
    assert require_quality(good, {"kept": 0.5, "right": 0.4}) is good
    with pytest.raises(
        GateError, match=r"40\.0% of the replies .*adapters/.* are right, under the 60% of finetune\.min_r"
    ):
        require_quality(good, {"kept": 0.0, "right": 0.6})
    with pytest.raises(GateError, match=r"^none of the replies .* are kept: tune"):
        require_quality(none, {"kept": 0.0})
    assert require_quality(adapters(local_lake), {"right": 0.9}), "what nobody can judge was refused before the work"


def test_a_floor_that_nobody_can_measure_is_refused_before_anything_is_tuned(
    local_lake: Lake, identify: Callable[..., Identity], commit: Callable[..., Dataset], triplets: Callable[..., Any]
) -> None:
    seeds = commit(local_lake, identify(), triplets(3))
    config = with_overrides(Pipeline(), ["finetune.min_right=0.5"]).finetune
    with pytest.raises(ConfigError, match=r"nobody can judge edits of shop"):
        finetune(run_here, local_lake, config, seeds, seeds)


def test_captions_that_are_mostly_rejects_stop_before_the_next_stage(tmp_path: Path) -> None:
    table = captioned(tmp_path / "photos")
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, *(f"gone-{n}.png,a red mug" for n in range(len(lines)))]) + "\n")
    lake, plan = Lake(tmp_path / "lake"), pipeline_of(table, "captions.min_kept=0.9")
    with pytest.raises(GateError, match=r"under the 90% of captions\.min_kept \(image_missing"):
        list(recipes.walk(run_here, lake, plan))
    assert not lake.table("triplets").datasets()
    kept = lake.table("captions").latest()
    assert require_kept(lake, kept, 0.1, "captions.min_kept", what="entries", advice="") is kept


def test_a_benchmark_that_fell_against_the_promoted_one_stops_what_follows(local_lake: Lake) -> None:
    first, worse = make(local_lake, 10, 5, 50), make(local_lake, 10, 6, 47.5)
    require_no_fall(local_lake, [worse], 1.0)
    promote(local_lake, generations(local_lake)[0])
    for fine in (None, 2.5, 3.0):
        require_no_fall(local_lake, [worse], fine)
    require_no_fall(local_lake, [first], 0.0)
    with pytest.raises(GateError, match=r"more than the 1 points of benchmark\.max_drop.*R@1.*: 50\.00, now 47\.50"):
        require_no_fall(local_lake, [worse], 1.0)
    with pytest.raises(GateError, match=r"benchmark\.max_drop is 1 points, but nothing measured cannot be compared"):
        require_no_fall(local_lake, [], 1.0)


def test_what_is_in_use_is_promoted_once(local_lake: Lake) -> None:
    make(local_lake, 10, 5, 50)
    (one,) = generations(local_lake)
    promote(local_lake, one)
    before = local_lake.storage.read("aliases/current.json")
    promote(local_lake, one)
    assert local_lake.storage.read("aliases/current.json") == before
