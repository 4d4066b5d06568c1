"""`scot plan`: counts by hand, states as the lake has them, and nothing run or written."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
import transformers
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from scot.plan import make_plan, rates
from scot.plan.needs import missing
from scot.plan.work import Known, StageWork, combiner_parameters, work
from scot.terminal import show_plan
from scot_core import paper
from scot_core.combiner import Combiner
from scot_core.config import (
    PROFILES,
    STAGES,
    CaptionsConfig,
    CocoConfig,
    Pipeline,
    TrainConfig,
    profile,
    with_overrides,
)
from scot_core.config.settings import settings
from scot_core.encoders.towers import BLIP, BLIP2, CLIP, SIGLIP, Family
from scot_core.errors import LakeError
from scot_core.lake import Identity, Lake
from scot_core.llm.local import smollm2
from scot_core.stages import recipes
from scot_core.stages import step as stages
from scot_core.stages.step import Committed
from tests.running import run_here

SMALL = CaptionsConfig(count=12, queries_per_split=2, gallery=60, shard_rows=6)


@pytest.fixture(autouse=True)
def empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("SCOT_API_KEY", "SCOT_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def by_stage(pipeline: Pipeline, known: Known | None = None) -> dict[str, StageWork]:
    return {entry.stage: entry for entry in work(pipeline, known or Known())}


@pytest.mark.parametrize("name", PROFILES)
def test_a_plan_of_every_profile_runs_nothing(name: str, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    stages = profile(name).stages
    plan = make_plan(lake, profile(name))
    assert [state.stage for state in plan.states] == [work.stage for work in plan.works] == list(stages)
    assert [state.state for state in plan.states] == ["to do"] + ["waits"] * (len(stages) - 1)
    assert len(plan.prompts) == len(plan.local_prompts) == 3
    assert not Path(lake.url).exists()


def test_the_paper_s_counts_and_what_a_bare_machine_lacks(tmp_path: Path) -> None:
    plan = make_plan(Lake(tmp_path / "lake"), profile("paper"))
    works = {entry.stage: entry for entry in plan.works}
    assert works["captions"].rows == sum(paper.TRAINING_PAIRS.values()) == 292_000
    # 67 % of a try: 292,000 captions, then the 96,360 that are left, 31,799, 10,494 and 3,463
    assert (works["seed"].calls, works["seed"].kept) == (math.ceil(4000 / 0.957), 4000)
    assert works["generate"].calls == pytest.approx(434_116, abs=5)
    assert works["generate"].kept == pytest.approx(290_857, abs=1) and "5 tries" in works["generate"].note
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


def test_what_is_kept_is_estimated_from_the_lake_s_own_rejects(tmp_path: Path) -> None:
    lake, pipeline = Lake(tmp_path), with_overrides(profile("paper"), ["generate.count=none"])
    for stage, tries, kept in (("seed", 1, 80), ("generate", 2, 75)):
        asked = [lake.draft(Identity("replies", "paper", stage, f"{n}{tries}" * 16, {})) for n in range(tries)]
        inputs = [draft.commit(0, rows_in=0).reference for draft in asked]
        draft = lake.draft(Identity("triplets", "paper", stage, f"{tries}" * 32, {}, inputs))
        names = ("pair_id", "source", "image_id", "caption", "modification", "modified_caption", "model", "kind")
        draft.write_part(0, {name: ["x"] * kept for name in names})
        draft.commit(1, rows_in=100, rejected=100 - kept)
    works = {entry.stage: entry for entry in make_plan(lake, pipeline).works}
    assert (works["seed"].calls, works["seed"].kept) == (5000, 4000) and "80% kept, as in" in works["seed"].note
    assert "50% kept, as in this lake" in works["generate"].note
    assert works["generate"].kept == round(292_000 * (1 - 0.5**6))


def test_an_image_drawn_twice_is_counted_once() -> None:
    half = CaptionsConfig(source="coco", coco=CocoConfig(count=5 * 118_287))
    assert "118,287 different" in by_stage(Pipeline(captions=half))["captions"].note
    # of 10 captions of 2 images, 5 each, one drawn caption is one image
    assert (
        "about 1 different"
        in by_stage(Pipeline(captions=CaptionsConfig(source="coco", coco=CocoConfig(count=1))))["captions"].note
    )


@pytest.mark.parametrize(("projection", "hidden", "dim"), [(2560, 5120, 256), (3, 5, 7)])
def test_the_combiner_s_size_is_that_of_its_matrices(projection: int, hidden: int, dim: int) -> None:
    config = TrainConfig(projection_dim=projection, hidden_dim=hidden)
    model = Combiner(dim, projection, hidden)
    assert combiner_parameters(config, dim) == sum(p.numel() for p in model.parameters() if p.ndim == 2)


def test_states_follow_the_lake(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    pipeline = profile("smoke").model_copy(update={"captions": SMALL})

    def half(step: stages.Work) -> Committed:
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
    Path(lake.url, drawn.captions.name, "_manifest.json").write_text("{")
    with pytest.raises(LakeError, match="no whole manifest"):
        make_plan(lake, pipeline)


def clip_l14() -> transformers.CLIPConfig:
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    return transformers.CLIPConfig(vision_config={**large, "patch_size": 14}, projection_dim=768)


def blip2() -> transformers.Blip2Config:
    return transformers.Blip2Config(vision_config={"image_size": 224}, num_query_tokens=32)


@pytest.mark.parametrize(
    ("name", "family", "config", "size"),
    [
        ("clip-b32", CLIP, transformers.CLIPConfig(), 224),
        ("clip-l14", CLIP, clip_l14(), 224),
        ("blip", BLIP, transformers.BlipConfig(), 384),
        ("blip2", BLIP2, blip2(), 224),
        ("siglip2", SIGLIP, transformers.SiglipConfig(), 224),
    ],
)
def test_what_an_image_costs_is_what_torch_counts(name: str, family: Family, config: object, size: int) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = getattr(transformers, family.model)(config).eval()
        vectors = family.image(model, family.see(model, torch.empty(1, 3, size, size)))
    assert counter.get_total_flops() == pytest.approx(rates.IMAGE_FLOPS[name], rel=0.01)
    assert vectors.shape[-1] == rates.VECTOR_DIM[name]


def test_published_sizes_are_those_of_the_split_that_is_asked_for() -> None:
    whole = CaptionsConfig(source="coco", coco=CocoConfig(year="2014", split="all"))
    assert by_stage(Pipeline(captions=whole))["captions"].rows == 5 * 123_287
    assert by_stage(Pipeline(captions=CaptionsConfig(source="abo")))["captions"].rows == 147_702


def test_a_small_model_does_without_a_gpu_and_cached_stages_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    pipeline = with_overrides(profile("catalogue"), smollm2.OVERRIDES)
    assert "GPU" not in "".join(missing(pipeline, work(pipeline, Known()), "s3://lake"))
    pipeline = profile("paper")
    works = work(pipeline, Known())
    said = "\n".join(missing(pipeline, works, "s3://lake"))
    assert "SCOT_API_KEY" in said and "minutes of one" in said
    assert "SCOT_API_KEY" not in "\n".join(missing(pipeline, works[2:], "s3://lake"))


def test_the_recipes_are_walked_in_the_order_of_the_pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[str] = []

    def stands_for(stage: str) -> Callable[..., MagicMock]:
        def call(*_: object) -> MagicMock:
            called.append(stage)
            return MagicMock()

        return call

    for stage in STAGES:
        monkeypatch.setattr(recipes, stage, stands_for(stage))
    usual, to_fit = profile("smoke"), with_overrides(profile("smoke"), ["embed.encoder=fitted"])
    for pipeline in (usual, usual.asking_for("invert"), usual.asking_for("distill"), to_fit):
        called.clear()
        walked = [called[-1] for _ in recipes.walk(run_here, Lake(tmp_path / "lake"), pipeline)]
        assert walked == called == list(pipeline.stages)
    assert {*usual.asking_for("distill").stages, *to_fit.stages} == set(STAGES)


def test_brackets_in_a_name_are_printed_as_they_are(tmp_path: Path) -> None:
    pipeline = with_overrides(profile("smoke"), ["finetune.base=[/x]"])
    console = Console(record=True, width=200, file=io.StringIO())
    show_plan(console, make_plan(Lake(tmp_path / "lake"), pipeline), "smoke")
    assert "[/x], 4.0 times over the seeds" in console.export_text()


def test_a_plan_for_any_count_grows_with_it_alone(tmp_path: Path) -> None:
    """Seeds, tuning and training stay; captions, replies, vectors and their disk are ten times as many."""
    small, large = (
        {stage.stage: stage for stage in make_plan(Lake(tmp_path / "lake"), profile("paper"), asked=count).works}
        for count in (29_000_000, 290_000_000)
    )
    for name in ("captions", "generate", "embed"):
        assert large[name].rows == 10 * small[name].rows
        assert large[name].disk_gb == pytest.approx(10 * small[name].disk_gb)
    assert [small[name] for name in ("seed", "finetune", "train")] == [
        large[name] for name in ("seed", "finetune", "train")
    ]
