"""One's own captioned pictures through the stages: triplets mined from captions, and what was held out, measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from scot_core.benchmarks.mined import hold_out
from scot_core.benchmarks.reported import beside
from scot_core.config import Pipeline, PublishedConfig, with_overrides
from scot_core.errors import ConfigError, DataError, GateError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.generations import generations, records
from scot_core.report import write_report
from scot_core.search import Searcher
from scot_core.stages import recipes
from scot_core.stages.benchmark.measure_mined import MeasureMined
from scot_core.stages.generate.mined import MineTriplets
from scot_core.stages.train import text_share
from scot_core.triplets.mining import MODEL
from tests.loaded import loaded_by
from tests.running import run_here
from tests.shapes import captioned

SMALL = ["train.steps=20", "train.seeds=0", "train.batch_size=32", "benchmark.resamples=50", "generate.held_out=0.3"]


def pipeline_of(table: Path, *overrides: str) -> Pipeline:
    own = ["captions.source=folder", f"captions.path={table}", "generate.writer=mined", "benchmark.names=mined"]
    return with_overrides(Pipeline(), [*own, *SMALL, *overrides])


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, list[Dataset | None]]:
    folder = tmp_path_factory.mktemp("own")
    lake = Lake(folder / "lake")
    return lake, list(recipes.walk(run_here, lake, pipeline_of(captioned(folder / "photos"))))


def test_a_run_that_is_finished_looks_into_the_lake_first(walked: tuple[Lake, list[Dataset | None]]) -> None:
    lake = walked[0]
    write_report(lake)
    settings = [
        part for setting in (*SMALL, "train.loss=scot", "embed.encoder=catalogue") for part in ("--set", setting)
    ]
    table = str(Path(lake.url).parent / "photos" / "photos.csv")
    loaded = loaded_by("run", "--captions", table, *settings, "--lake", lake.url)
    assert not {"prefect", "openai", "transformers", "torch"} & loaded, "neither Prefect nor a model"
    (generation,) = generations(lake)
    assert generation.root.table == "benchmarks" and generation.id in records(lake)


def test_captions_become_a_measured_combiner_without_seeds_or_a_tuned_model(
    walked: tuple[Lake, list[Dataset | None]],
) -> None:
    lake, made = walked
    assert made[1:3] == [None, None]
    assert lake.table("replies").matching() == [] and lake.table("adapters").matching() == []
    rows = lake.table("benchmarks").latest().read().to_pylist()
    assert {row["benchmark"] for row in rows} == {"mined"}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    assert [methods[place] for place in (0, 1, 2, 4)] == ["image-only", "text-only", "image+text", "scot"]
    assert methods[3].startswith("image+text, weight ")


def test_every_captioned_image_has_a_triplet_or_a_reason_and_what_is_held_out_has_no_triplet(
    walked: tuple[Lake, list[Dataset | None]],
) -> None:
    lake, _ = walked
    captions = lake.table("captions").latest().read(["pair_id", "image_id", "caption"]).to_pylist()
    triplets = lake.table("triplets").latest()
    rows, rejects = triplets.read().to_pylist(), lake.table("rejects").latest(stage="generate").read().to_pylist()
    assert {row["model"] for row in rows} == {MODEL} and {row["kind"] for row in rows} == {"generated"}
    assert {row["pair_id"] for row in (*rows, *rejects)} == {row["pair_id"] for row in captions}
    held = hold_out([(row["image_id"], row["caption"]) for row in captions], 0.3, triplets.config["seed"])
    assert held.images and not held.images & {row["image_id"] for row in rows}
    assert not any(held.holds(row["caption"]) or held.holds(row["modified_caption"]) for row in rows)
    assert {row["reason"] for row in rejects if row["pair_id"] not in {r["pair_id"] for r in rows}} >= {"held_out"}
    assert triplets.manifest.rows.given == triplets.rows + len(rejects)


def test_what_is_done_is_found_again(walked: tuple[Lake, list[Dataset | None]], tmp_path: Path) -> None:
    lake, made = walked
    table = captioned(tmp_path / "photos")  # the same pictures elsewhere
    again = list(recipes.walk(run_here, lake, pipeline_of(table)))
    assert [d and d.name for d in again] == [d and d.name for d in made]


def test_only_mined_triplets_hold_captions_out(walked: tuple[Lake, list[Dataset | None]]) -> None:
    lake, made = walked
    seen_all = made[0]
    assert seen_all is not None
    combiners, images = lake.table("combiners").latest(), lake.table("embeddings").latest(stage="embed-images")
    with pytest.raises(ConfigError, match=r"generate\.writer=mined"):
        MeasureMined(lake, Pipeline().benchmark, combiners, seen_all, images, images)


def test_captions_without_an_edit_stop_before_anything_is_trained(tmp_path: Path) -> None:
    table = captioned(tmp_path / "photos")
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], f"{lines[1].split(',')[0]},a lonely violin"]) + "\n")
    walk = recipes.walk(run_here, Lake(tmp_path / "lake"), pipeline_of(table, "generate.held_out=0.001"))
    with pytest.raises(GateError, match=r"generate\.min_kept.*no_edit"):
        list(walk)
    assert not (tmp_path / "lake" / "combiners").exists()


def test_the_writer_is_in_the_key_only_where_it_is_not_the_usual_one() -> None:
    usual = Pipeline().generate.identity()
    assert not {"writer", "held_out", "edits_per_caption", "min_kept"} & usual.keys()
    mined = with_overrides(Pipeline(), ["generate.writer=mined", "generate.min_kept=0.5"]).generate.identity()
    assert mined == {"writer": "mined", "edits_per_caption": 8, "held_out": 0.1, "seed": 0}


def test_triplets_and_rejects_of_several_sources_name_the_one_they_come_from(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "it's a lake")
    texts = ["a red mug", "a blue mug", "a lonely violin", "a small dog"]
    rows = {name: [f"{name}-{i}" for i in range(4)] for name in ("pair_id", "source", "image_id")}
    draft = lake.draft(Identity("captions", "paper", "captions", "f" * 32, {}))
    draft.write_part(0, {**rows, "caption": texts, "image": [{"bytes": b"", "path": ""}] * 4})
    config = with_overrides(Pipeline(), ["generate.writer=mined", "generate.held_out=0.001"]).generate
    run_here(MineTriplets(lake, config, draft.commit(1, rows_in=4)))
    source = dict(zip(rows["pair_id"], rows["source"], strict=True))
    triplets, rejects = (
        lake.table(name).latest().read(["pair_id", "source"]).to_pylist() for name in ("triplets", "rejects")
    )
    assert triplets and rejects
    assert all(row["source"] == source[row["pair_id"]] for row in (*triplets, *rejects))


QUERIES = """reference,text,target
pictures/one-green-star.png,make it violet,pictures/one-violet-star.png
pictures/one-green-star.png,two of them,pictures/two-green-star.png
pictures/nowhere.png,in orange,pictures/three-orange-circle.png
pictures/three-black-circle.png,,pictures/three-orange-circle.png
"""


def test_queries_of_one_s_own_are_measured_and_bad_rows_are_rejects(
    walked: tuple[Lake, list[Dataset | None]], tmp_path: Path
) -> None:
    lake, gallery = walked[0], tmp_path / "photos"
    captioned(gallery)
    (tmp_path / "queries.csv").write_text(QUERIES)
    settings = PublishedConfig(name="own", queries=str(tmp_path / "queries.csv"), images=str(gallery), resamples=20)
    measured = recipes.published(run_here, lake, settings, None, None)
    rows = measured.read().to_pylist()
    assert {row["queries"] for row in rows} == {2} and {row["metric"] for row in rows} == {"R@1", "R@5", "R@10"}
    methods = {row["method"] for row in rows}
    assert {"image-only", "text-only", "image+text", "scot"} < methods and len(methods) == 5
    rejects = lake.table("rejects").latest(key=measured.key).read().to_pylist()
    assert [row["reason"] for row in rejects] == ["reference_missing", "empty_text"]
    assert "line 4" in rejects[0]["raw"]
    assert beside(rows) == []
    again = recipes.published(run_here, lake, settings, None, None)
    assert again.key == measured.key


def test_a_benchmark_of_one_s_own_needs_its_table(walked: tuple[Lake, list[Dataset | None]]) -> None:
    with pytest.raises(ConfigError, match="queries"):
        recipes.published(run_here, walked[0], PublishedConfig(name="own"), None, None)


def test_the_reference_is_no_answer_unless_it_may_be_and_a_text_has_words(
    walked: tuple[Lake, list[Dataset | None]], tmp_path: Path
) -> None:
    captioned(tmp_path / "photos")
    reference = tmp_path / "photos" / "pictures" / "one-green-star.png"
    searcher = Searcher(walked[0])

    def found(**options: bool) -> list[str]:
        return [hit["image_id"] for hit in searcher.search(reference, "two of them", 48, **options).hits]

    assert len(found()) == 47 and "pictures/one-green-star.png" not in found()
    assert "pictures/one-green-star.png" in found(with_reference=True)
    with pytest.raises(DataError, match="the text is empty"):
        searcher.search(reference, " \n", 3)


def test_a_folder_is_searched_in_place_of_the_lake(walked: tuple[Lake, list[Dataset | None]], tmp_path: Path) -> None:
    captioned(tmp_path / "photos")
    folder = tmp_path / "photos" / "pictures"
    for path in folder.glob("*-green-*"):
        path.unlink()
    reference = folder / "one-violet-star.png"
    in_folder = Searcher(walked[0], folder).search(reference, "two of them", 48)
    assert len(in_folder.hits) == 35 and len(in_folder.images) == 35
    in_lake = [hit["image_id"] for hit in Searcher(walked[0]).search(reference, "two of them", 48).hits]
    shared = [name.removeprefix("pictures/") for name in in_lake if "-green-" not in name]
    assert sorted(hit["image_id"] for hit in in_folder.hits) == sorted(shared)
    for path in folder.glob("*"):
        if path != reference:
            path.unlink()
    with pytest.raises(DataError, match="but the reference itself"):
        Searcher(walked[0], folder).search(reference, "two of them", 1)


def test_how_much_the_text_weighs_is_known(walked: tuple[Lake, list[Dataset | None]]) -> None:
    assert 0 < text_share(walked[0], walked[0].table("combiners").latest()) < 1


def test_the_notebook_of_the_readme_runs(
    walked: tuple[Lake, list[Dataset | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 12 and "Searcher" in code
    captioned(tmp_path / "photos")
    (tmp_path / "pictures").symlink_to(tmp_path / "photos" / "pictures")
    (tmp_path / "lake").symlink_to(walked[0].url)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["1", "2", "3", "4", "5"]
    assert Image.open(tmp_path / "answer.png").width > 900
