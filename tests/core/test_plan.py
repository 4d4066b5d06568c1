"""`scot plan`: counts by hand, states as the lake has them, and nothing run or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from scot_core import paper
from scot_core.combiner import Combiner
from scot_core.config import PROFILES, CaptionsConfig, Pipeline, TrainConfig, profile, with_overrides
from scot_core.lake import Lake
from scot_core.plan import make_plan
from scot_core.plan.work import Known, Work, combiner_parameters, work
from scot_core.settings import settings
from scot_core.stages import recipes
from scot_core.stages.step import Step, run_here

SMALL = CaptionsConfig(count=12, queries_per_split=2, gallery=60, shard_rows=6)


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SCOT_API_KEY", "SCOT_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def by_stage(pipeline: Pipeline, known: Known | None = None) -> dict[str, Work]:
    return {entry.stage: entry for entry in work(pipeline, known or Known())}


@pytest.mark.parametrize("name", PROFILES)
def test_a_plan_of_every_profile_runs_nothing(name: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    plan = make_plan(lake, profile(name))
    assert [state.stage for state in plan.states] == list(Pipeline.model_fields)
    assert [state.state for state in plan.states] == ["to do"] + ["waits"] * 6
    assert len(plan.prompts) == len(plan.local_prompts) == 3
    assert not Path(lake.url).exists()


def test_the_paper_s_counts_and_what_a_bare_machine_lacks(tmp_path: Path) -> None:
    plan = make_plan(Lake(tmp_path / "lake"), profile("paper"))
    works = {entry.stage: entry for entry in plan.works}
    assert works["captions"].rows == sum(paper.TRAINING_PAIRS.values()) == 292_000
    assert works["seed"].calls == 4000
    assert works["generate"].calls == 292_000
    assert works["benchmark"].rows == 15_415 + 2_297 + 2_315 + 123_403
    said = "\n".join(plan.missing)
    for word in ("coco", "flickr30k", "abo", "SCOT_API_KEY", "falcon-7b-instruct", "blip2", "GPU", "cirr-test1"):
        assert word in said, word


def test_what_seeds_cost_by_hand() -> None:
    changes = ["seed.count=1000", "seed.mode=chat", "seed.endpoint.usd_per_million_prompt=3"]
    changes += ["seed.endpoint.usd_per_million_completion=9"]
    seed = by_stage(with_overrides(profile("paper"), changes), Known(pairs=5000, images=5000, caption_bytes=40.0))[
        "seed"
    ]
    assert seed.prompt_tokens is not None and seed.completion_tokens is not None and seed.usd is not None
    assert seed.usd == pytest.approx((3 * seed.prompt_tokens + 9 * seed.completion_tokens) / 1e6, rel=1e-6)
    batch = by_stage(with_overrides(profile("paper"), [*changes, "seed.mode=batch"]), Known(caption_bytes=40.0))["seed"]
    assert batch.usd == pytest.approx(seed.usd / 2)


def test_an_image_drawn_twice_is_counted_once() -> None:
    half = CaptionsConfig(source="coco", coco={"count": 5 * 118_287})
    assert "118,287 different" in by_stage(Pipeline(captions=half))["captions"].note
    # of 10 captions of 2 images, 5 each, one drawn caption is one image
    assert (
        "about 1 different"
        in by_stage(Pipeline(captions=CaptionsConfig(source="coco", coco={"count": 1})))["captions"].note
    )


@pytest.mark.parametrize(("projection", "hidden", "dim"), [(2560, 5120, 256), (3, 5, 7)])
def test_the_combiner_s_size_is_that_of_its_matrices(projection: int, hidden: int, dim: int) -> None:
    config = TrainConfig(projection_dim=projection, hidden_dim=hidden)
    model = Combiner(dim, projection, hidden)
    assert combiner_parameters(config, dim) == sum(p.numel() for p in model.parameters() if p.ndim == 2)


def test_states_follow_the_lake(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    pipeline = profile("smoke").model_copy(update={"captions": SMALL})

    def half(step: Step) -> tuple[()]:
        with step:
            step.run(0, lambda _: None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipes.captions(half, lake, SMALL)
    begun = make_plan(lake, pipeline)
    assert (begun.states[0].state, begun.states[1].state) == ("begun", "waits")
    assert "that are there: 1" in begun.states[0].detail
    drawn = recipes.captions(run_here, lake, SMALL)
    plan = make_plan(lake, pipeline)
    assert [state.state for state in plan.states[:3]] == ["cached", "to do", "waits"]
    assert plan.captions_from == drawn.captions.name
    assert plan.works[0].rows == 12 and "captions" not in {entry.stage for entry in plan.left}
    captions = set(drawn.captions.read(["caption"])["caption"].to_pylist())
    assert {messages[-1]["content"] for messages in plan.prompts} <= captions
