"""Before any work: what does not fit captions of one's own is said, with the setting that helps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.seed import seed
from scot.own import check, of_captions
from scot.plan import make_plan
from scot_core.config import (
    CaptionsConfig,
    EmbedConfig,
    FinetuneConfig,
    Pipeline,
    SeedConfig,
    TrainConfig,
    profile,
    with_overrides,
)
from scot_core.config.settings import settings
from scot_core.encoders import load
from scot_core.errors import ConfigError, DataError, ModelError
from scot_core.lake import Lake
from scot_core.stages import preflight, recipes
from scot_core.stages.preflight.faults import Probe, counts, folders_fault, model_fault, probe
from scot_core.stages.preflight.sample import sample
from tests.captioned import coco
from tests.running import run_here
from tests.shapes import captioned


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SCOT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings.cache_clear()
    monkeypatch.setattr("scot_core.encoders.presence.in_cache", lambda hub, revision: False)
    yield captioned(tmp_path / "photos")
    settings.cache_clear()


def of_table(table: Path, *more: str) -> Pipeline:
    return with_overrides(Pipeline(), ["captions.source=folder", f"captions.path={table}", *more])


def test_without_key_hub_or_weights_triplets_are_mined_and_it_is_said_why(table: Path) -> None:
    chosen = of_captions(str(table), ["train.steps=5"], None)
    pipeline = with_overrides(Pipeline(), chosen.overrides)
    assert (pipeline.generate.writer, pipeline.benchmark.names) == ("mined", ("mined",))
    assert (pipeline.embed.encoder, pipeline.captions.path, pipeline.train.steps) == ("fitted", str(table), 5)
    assert [part.name for part in chosen.parts] == ["encoder", "triplets", "measured", "loss"]
    assert "hf download openai/clip-vit-base-patch32" in chosen.parts[0].why


def test_without_a_published_encoder_one_is_fitted_by_what_is_here(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scot_core.encoders.halves.folders.find_spec", lambda name: None)
    chosen = of_captions(str(table), [], None)
    assert with_overrides(Pipeline(), chosen.overrides).fit.is_from_nothing
    assert "`make towers`" in chosen.parts[0].why and "from nothing" in chosen.parts[0].why
    given = of_captions(str(table), ["fit.image_tower=dinov2", "fit.text_tower=e5"], None)
    pipeline = with_overrides(Pipeline(), given.overrides)
    assert pipeline.fit.image_tower == "dinov2"
    [fault] = check(Lake(tmp_path / "lake"), pipeline).faults
    assert "dinov2 and e5 are not on this machine" in fault and str(tmp_path / "weights" / "dinov2") in fault


def test_what_is_given_stays_as_it_is(table: Path) -> None:
    given = ["embed.encoder=blip", "seed.endpoint.base_url=http://x/v1", "seed.endpoint.model=m"]
    chosen = with_overrides(Pipeline(), of_captions(str(table), given, "smollm2").overrides)
    assert (chosen.generate.writer, chosen.embed.encoder) == ("adapter", "blip")
    without_a_model = of_captions(str(table), given, None)
    assert with_overrides(Pipeline(), without_a_model.overrides).generate.is_mined
    assert "--llm smollm2" in without_a_model.parts[0].why
    assert of_captions("s3://bucket/photos", [], None).overrides[1] == "captions.path=s3://bucket/photos"


def test_the_catalogue_s_teacher_is_refused_for_foreign_captions_and_its_encoder_where_it_is_at_chance(
    table: Path, tmp_path: Path
) -> None:
    rows = table.read_text().splitlines()
    words = [f"thing number {place} of {len(rows)}" for place in range(len(rows))]
    table.write_text("\n".join([rows[0], *(f"{r.split(',')[0]},{w}" for r, w in zip(rows[1:], words, strict=False))]))
    checked = check(Lake(tmp_path / "lake"), of_table(table))
    teacher, encoder = checked.faults
    assert "0% of 48" in teacher and "generate.writer=mined" in teacher and "seed.endpoint.base_url" in teacher
    assert "near chance" in encoder and "embed.encoder=clip-b32" in encoder
    assert len(check(Lake(tmp_path / "lake"), of_table(table, "generate.writer=mined")).faults) == 1


def test_the_small_falcon_is_refused_for_foreign_captions_and_a_model_that_is_nowhere(
    table: Path, tmp_path: Path
) -> None:
    table.write_text(table.read_text().replace(" star", " comet").replace("above", "far over"))
    server = ["seed.endpoint.base_url=http://x/v1", "seed.endpoint.model=m"]
    [falcon] = model_fault(of_table(table, *server).finetune, sample(of_table(table).captions).captions)
    assert "the small Falcon" in falcon and "generate.writer=endpoint" in falcon
    gone = of_table(table, *server, "finetune.base=nobody/nothing", f"finetune.revision={'a' * 40}")
    [missing] = model_fault(gone.finetune, ["a hat"])
    assert "hf download nobody/nothing" in missing and "no hub" in missing
    asked = [*server, "generate.writer=endpoint", "generate.endpoint.base_url=http://x/v1", "embed.encoder=fitted"]
    checked = check(Lake(tmp_path / "lake"), of_table(table, *asked, "fit.image_tower=nothing"))
    assert not any("teacher" in fault or "Falcon" in fault for fault in checked.faults)


def test_a_stage_by_itself_refuses_what_does_not_fit_its_captions_unless_told(table: Path, tmp_path: Path) -> None:
    rows = table.read_text().splitlines()
    words = [f"thing number {place} of {len(rows)}" for place in range(len(rows))]
    table.write_text("\n".join([rows[0], *(f"{r.split(',')[0]},{w}" for r, w in zip(rows[1:], words, strict=False))]))
    lake = Lake(tmp_path / "lake")
    captions = recipes.captions(run_here, lake, of_table(table).captions).captions
    with pytest.raises(ConfigError, match=r"teacher knows.*generate\.writer=mined.*scot/regenerate.*anyway"):
        preflight.require_teacher(SeedConfig(), captions)
    with pytest.raises(ConfigError, match=r"small Falcon.*llm smollm2.*anyway"):
        preflight.require_language_model(FinetuneConfig(), captions)
    with pytest.raises(ConfigError, match=r"near chance.*embed\.encoder=clip-b32.*anyway"):
        preflight.require_encoder_for(EmbedConfig(), captions, lake)
    with pytest.raises(ConfigError, match="teacher knows"):
        preflight.require(lake, of_table(table))
    state = seed.fn(SeedConfig(count=5), lake=lake.url)
    assert state.is_failed() and "teacher knows" in (state.message or "")


def test_drawn_captions_are_not_looked_at(local_lake: Lake) -> None:
    drawn = profile("smoke").captions.model_copy(update={"count": 5})
    captions = recipes.captions(run_here, local_lake, drawn).captions
    preflight.require_teacher(SeedConfig(), captions)
    preflight.require_encoder_for(EmbedConfig(encoder="clip-b32"), captions, local_lake)


def test_too_few_captions_are_said_before_an_encoder_is_fitted_or_a_benchmark_is_empty(
    table: Path, tmp_path: Path
) -> None:
    mined = ["generate.writer=mined", "benchmark.names=mined", "embed.encoder=fitted", "fit.image_tower=nothing"]
    [few] = check(Lake(tmp_path / "lake"), of_table(table, *mined, "generate.held_out=0.3")).faults
    assert "48 different captions are too few" in few and "embed.encoder=" in few
    rows = table.read_text().splitlines()
    words = [f"{'xyz'[place % 3] * place} thing of its own {'abc'[place % 3] * place}" for place in range(len(rows))]
    table.write_text("\n".join([rows[0], *(f"{r.split(',')[0]},{w}" for r, w in zip(rows[1:], words, strict=False))]))
    faults = check(Lake(tmp_path / "lake"), of_table(table, *mined)).faults
    assert "would have no query" in faults[-1] and "generate.held_out=0.3" in faults[-1]


def test_published_captions_are_tried_as_well(table: Path, tmp_path: Path) -> None:
    place = ["captions.source=coco", f"captions.coco.root={coco(tmp_path / 'coco')}"]
    checked = check(Lake(tmp_path / "lake"), with_overrides(Pipeline(), place))
    assert "the catalogue's teacher knows the catalogue's captions only" in checked.faults[0]
    assert [part.name for part in checked.parts[:2]] == ["captions", "encoder"] and "among 18" in checked.parts[1].why
    with pytest.raises(ModelError, match="no hub is reached"):
        check(Lake(tmp_path / "lake"), with_overrides(Pipeline(), [*place, "embed.encoder=blip2"]))


def test_a_hub_that_is_not_reached_is_not_waited_for(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def download(*_: object, local_files_only: bool, **__: object) -> str:
        asked.append(local_files_only)
        raise OSError("not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(ModelError, match="not reached"):
        load("clip-b32")
    assert asked == [True], "its own client would try for most of a minute"


def test_missing_weights_are_an_error_at_once(table: Path) -> None:
    with pytest.raises(ModelError, match=r"hf download openai/clip-vit-base-patch32 .* no hub"):
        probe(EmbedConfig(encoder="clip-b32"), sample(of_table(table).captions))


def test_folders_that_hold_no_picture_are_said_before_any_work(table: Path, tmp_path: Path) -> None:
    given = ["embed.encoder=catalogue", "generate.writer=mined"]
    fine, wrong = (of_table(table, *given, f"train.folders={name}") for name in ("pictures/", "pictures,drawings"))
    lake = Lake(tmp_path / "lake")
    assert not any("train.folders" in fault for fault in check(lake, fine).faults)
    with pytest.raises(ConfigError, match=r"train\.folders names drawings, where no .*: its folders are pictures"):
        preflight.require(lake, wrong)


def test_of_a_long_table_no_folder_is_said_to_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["scot_core.stages.preflight.sample"], "READ", 10)
    rows = ["image,caption", ",nothing", *(f"a/{n}.png,a red mug {n}" for n in range(9)), "b/9.png,a blue mug"]
    (tmp_path / "photos.csv").write_text("\n".join(rows))
    found = sample(of_table(tmp_path / "photos.csv").captions)
    assert found.images == [f"a/{n}.png" for n in range(9)] and folders_fault(["b"], found) == []


def test_folders_that_choose_the_same_have_the_same_key() -> None:
    first, other = (TrainConfig(folders=folders) for folders in (("a", "b/c"), ("./b//c/", "a/", "a")))
    assert first.identity() == other.identity() and first.identity() != TrainConfig().identity()


def test_counts_larger_than_the_data_are_cut(table: Path) -> None:
    found = sample(of_table(table).captions)
    assert (found.pairs, found.whole, len(found.captions)) == (48, True, 48)
    assert counts(of_table(table), found) == ["seed.count=39"]
    assert counts(of_table(table, "seed.count=20"), found) == []
    assert counts(of_table(table, "generate.writer=mined"), found) == []


@pytest.mark.parametrize(
    ("pictures", "k", "among", "chance"),
    [(256, 10, 0.04, True), (256, 10, 0.11, True), (256, 10, 0.13, False), (48, 9, 0.5, True), (5, 1, 0.0, False)],
)
def test_near_chance_is_three_times_chance(pictures: int, k: int, among: float, chance: bool) -> None:
    assert Probe(pictures, k, 0.0, among).is_chance is chance


def test_captions_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"captions\.path"):
        sample(CaptionsConfig(source="folder", path=str(tmp_path / "none.csv")))
    (tmp_path / "empty.csv").write_text("image,caption\n")
    with pytest.raises(DataError, match="names an image and a caption"):
        sample(CaptionsConfig(source="folder", path=str(tmp_path / "empty.csv")))


def test_the_plan_of_mined_triplets_skips_two_stages_and_asks_nobody(table: Path, tmp_path: Path) -> None:
    made = make_plan(Lake(tmp_path / "lake"), of_table(table, "generate.writer=mined", "benchmark.names=mined"))
    states = {state.stage: state.state for state in made.states}
    assert (states["captions"], states["seed"], states["finetune"]) == ("to do", "skipped", "skipped")
    assert states["generate"] == "waits" and not made.prompts
    assert not {"seed", "finetune"} & {work.stage for work in made.left}
    json = made.as_json()
    assert json["stages"][1]["state"] == "skipped"


def test_one_picture_a_caption_is_drawn(table: Path) -> None:
    found = sample(of_table(table).captions)
    assert len(set(found.captions)) == len(found.captions)
    assert [caption for caption, _ in found.pictures()] == found.captions
