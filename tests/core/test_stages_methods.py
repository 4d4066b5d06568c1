"""Methods on one small drawn lake: what is measured, what is missing, and what a person is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scot.methods import measure_published
from scot.methods import methods as command
from scot.plan.methods import methods_left
from scot_core.combiner import Combiner
from scot_core.config import BenchmarkConfig, CaptionsConfig, EmbedConfig, MethodsConfig, PublishedConfig, TrainConfig
from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.schema import pair_id
from scot_core.methods import METHODS
from scot_core.query import query
from scot_core.search import Searcher
from scot_core.searle import Phi
from scot_core.stages import recipes
from scot_core.stages.benchmark.asked import query_vectors
from scot_core.stages.benchmark.measure_catalogue import catalogue_benchmark
from scot_core.stages.embed import Embeddings
from scot_core.stages.embed.images import embed_images
from scot_core.stages.embed.texts import embed_texts
from scot_core.stages.methods import Sitting
from scot_core.stages.methods.cached import NotMeasuredError, reuse
from scot_core.stages.methods.table import compare
from scot_core.triplets.rewording import reworded
from tests.published import write_cirr, write_fashioniq
from tests.rows import no_rows
from tests.running import run_here

SMALL = CaptionsConfig(count=40, queries_per_split=4, gallery=90, shard_rows=40)
ALL = MethodsConfig(seeds=(0,), timed=2)


def write(
    lake: Lake, table: str, stage: str, config: Mapping[str, Any], inputs: list[Dataset], *, rows: dict[str, Any],
    weights: Mapping[str, Combiner | Phi] | None = None, folder: Path,
) -> Dataset:  # fmt: skip
    print_ = fingerprint(stage, 1, config, [one.fingerprint for one in inputs])
    draft = lake.draft(Identity(table, "catalogue", stage, print_, config, [one.reference for one in inputs]))
    files: dict[str, bytes] = {}
    for name, model in (weights or {}).items():
        model.save(folder / stage / name)
        files |= files_of(folder / stage / name, name)
    draft.write_part(0, rows, files)
    return draft.commit(1, rows_in=None)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Captions, triplets and vectors; Combiners of two seeds with random weights; no φ."""
    folder = tmp_path_factory.mktemp("methods")
    lake = Lake(folder / "lake")
    pictures = recipes.captions(run_here, lake, SMALL)
    captions = pictures.captions.read(["image_id", "caption"]).to_pylist()
    written = {
        "pair_id": [pair_id("catalogue", row["image_id"], row["caption"]) for row in captions],
        "source": ["catalogue"] * 40, "kind": ["generated"] * 40, "model": ["nobody"] * 40,
        "image_id": [row["image_id"] for row in captions], "caption": [row["caption"] for row in captions],
        "modification": ["make it red"] * 40, "modified_caption": [f"{row['caption']} in red" for row in captions],
    }  # fmt: skip
    triplets = write(lake, "triplets", "generate", {}, [pictures.captions], rows=written, folder=folder)
    assert pictures.galleries is not None
    images = run_here(embed_images(lake, EmbedConfig(), pictures.captions))["embeddings"]
    texts = run_here(embed_texts(lake, EmbedConfig(), triplets))["embeddings"]
    run_here(embed_images(lake, EmbedConfig(), pictures.galleries))
    torch.manual_seed(0)
    write(
        lake, "combiners", "train-scot", {"loss": "scot", "seeds": [0, 1]}, [triplets, images, texts],
        rows=no_rows("combiners"), weights={f"seed-{n}": Combiner(128, 8, 8) for n in (0, 1)}, folder=folder,
    )  # fmt: skip
    return lake


@pytest.fixture
def lake(drawn: Lake, tmp_path: Path) -> Lake:
    """A copy of it, with what the tests of this module have measured."""
    import shutil

    shutil.copytree(drawn.url, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def inverted(lake: Lake, folder: Path, method: str = "searle") -> Dataset:
    images = lake.table("embeddings").latest(stage="embed-images")
    weights = {"seed-5": Phi(128, 16, 96)}
    config = {"method": method, "seeds": [5], "spec": images.config["spec"]}
    return write(
        lake, "inverters", f"distill-{method}", config, [images], rows=no_rows("inverters"), weights=weights,
        folder=folder,
    )  # fmt: skip


def sit(lake: Lake, config: MethodsConfig = ALL) -> Sitting:
    (sitting,) = recipes.methods(run_here, lake, config)
    return sitting


def test_what_a_lake_can_measure_is_measured_and_the_rest_is_named(lake: Lake) -> None:
    sitting = sit(lake)
    assert list(sitting.scores) == [
        "image-only",
        "text-only",
        "image+text",
        "slerp",
        "tuned-sum",
        "tuned-sum-known",
        "scot",
    ]
    commands = {missing.method: missing.made_by for missing in sitting.missing}
    assert set(commands) | set(sitting.scores) == set(METHODS) and all("scot run" in made for made in commands.values())
    made = compare(lake, sitting.scores, "tuned-sum", sitting.missing)
    assert made.against.startswith("image+text, weight")
    assert [made.queries[split] for split in ("seen", "combination", "type", "all", "wording: new words")] == [
        4, 4, 4, 12, 12,
    ]  # fmt: skip
    benchmark = catalogue_benchmark(lake, lake.table("embeddings").latest(stage="embed-gallery"), "catalogue")
    images, texts, gallery = query_vectors(benchmark, lake.table("embeddings").latest(stage="embed-gallery"))
    for row in benchmark.evaluate((images + texts) / 2, gallery):
        cell = made.standings[2].cells[row.split][row.metric]
        assert (cell.value, cell.low, cell.high) == pytest.approx((row.value, row.low, row.high))
    own = next(one for one in made.standings if one.method == "tuned-sum")
    assert all(cell.difference == cell.difference_high == 0 for its in own.cells.values() for cell in its.values())
    scot = made.standings[-1]
    assert scot.runs == 2 and scot.milliseconds > 0
    against = own.cells["all"]["R@10"].value
    assert scot.cells["all"]["R@10"].difference == pytest.approx(scot.cells["all"]["R@10"].value - against)
    averaged = query(lake, "select avg(value) from scores where method = 'scot' and metric = 'R@10' and split = 'all'")
    assert averaged.column(0)[0].as_py() == pytest.approx(scot.cells["all"]["R@10"].value)
    with pytest.raises(ConfigError, match="'magic' was not measured"):
        compare(lake, sitting.scores, "magic")


def test_a_method_s_rows_are_kept_until_what_it_learned_changes(lake: Lake, tmp_path: Path) -> None:
    before = sit(lake).scores
    with pytest.raises(LakeError, match="no inverters of it"):
        Searcher(lake, method="searle")
    assert recipes.methods(reuse, lake, ALL)[0].scores.keys() == before.keys()
    first = inverted(lake, tmp_path)
    with pytest.raises(NotMeasuredError, match="searle on catalogue"):
        recipes.methods(reuse, lake, ALL)
    after = sit(lake).scores
    assert {name: after[name].key for name in before} == {name: one.key for name, one in before.items()}
    assert first.reference in after["searle"].inputs
    assert compare(lake, after, "scot").standings[-1].runs == 1


def test_a_plan_says_how_far_the_comparison_is(lake: Lake) -> None:
    assert list(methods_left(Lake(Path(lake.url) / "empty"))) == []
    before = list(methods_left(lake))
    assert before[:2] == [
        "on catalogue, measured: none",
        "on catalogue, to do (`scot methods`): "
        "image-only, text-only, image+text, slerp, tuned-sum, tuned-sum-known, scot",
    ]
    assert (
        "infonce: no combiners of it for encoder catalogue (`scot run --set train.loss=infonce --until train`)"
        in before
    )
    sit(lake, MethodsConfig(names=("text-only",)))
    measured, to_do, *_ = methods_left(lake)
    assert measured == "on catalogue, measured: text-only" and "text-only" not in to_do


def test_a_published_benchmark_is_measured_by_any_method(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_fashioniq(tmp_path / "fashioniq")
    config = PublishedConfig(name="fashioniq", root=str(root), shard_rows=10)
    sitting = recipes.published_methods(run_here, lake, config, None, None, ALL)
    assert {"image-only", "tuned-sum", "scot"} <= set(sitting.scores) and sitting.benchmark == "fashioniq"
    made = compare(lake, sitting.scores, "image-only")
    rows = recipes.published(run_here, lake, config, None, None).read().to_pylist()
    value = {(row["method"], row["split"], row["metric"]): (row["value"], row["low"]) for row in rows}
    for one in made.standings:
        for split, cells in one.cells.items():
            for metric, cell in cells.items():
                assert (one.shown, split, metric) not in value or (cell.value, cell.low) == pytest.approx(
                    value[one.shown, split, metric]
                ), "the value of all is the mean of the categories'"
    hidden = PublishedConfig(name="cirr-test1", root=str(write_cirr(tmp_path / "cirr")), shard_rows=10)
    files = recipes.published_methods(run_here, lake, hidden, None, None, ALL).scores["scot"].files
    assert any(file.name.startswith("scot/seed-1/") for file in files)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")  # all is measured, so no server is asked
    measure_published(config, None, None, lake, ["all"], "tuned-sum", None, json_=True)
    (said,) = json.loads(capsys.readouterr().out)
    assert said["benchmark"] == "fashioniq" and said["against"].startswith("image+text, weight")
    measure_published(hidden, None, None, lake, ["all"], "tuned-sum", tmp_path / "out", json_=False)
    assert "for the evaluation server" in capsys.readouterr().out and any((tmp_path / "out").rglob("*.json"))


def test_pictures_are_searched_by_any_method(lake: Lake, tmp_path: Path) -> None:
    inverted(lake, tmp_path)
    reference = tmp_path / "reference.png"
    Image.new("RGB", (64, 64), "red").save(reference)
    found = {}
    for name in (None, "scot", "image-only", "searle"):
        answer = Searcher(lake, method=name).search(reference, "in blue", 3)
        found[name] = [hit["image_id"] for hit in answer.hits]
        assert (answer.modality_weight is None) == (name in ("image-only", "searle"))
        assert len(answer.hits) == 3
    assert found[None] == found["scot"] and len({*map(tuple, found.values())}) == 3
    with pytest.raises(ConfigError, match="there is no method 'magic'"):
        Searcher(lake, method="magic")
    with pytest.raises(LakeError, match=r"scot run --set train\.loss=infonce"):
        Searcher(lake, method="infonce")


def test_a_recipe_of_our_own_is_trained_and_found_beside_the_paper_s(lake: Lake) -> None:
    images, texts, gallery = (
        lake.table("embeddings").latest(stage=f"embed-{w}") for w in ("images", "texts", "gallery")
    )
    (triplets,) = lake.table("triplets").matching()
    config = TrainConfig(
        loss="scot-grounded", projection_dim=8, hidden_dim=8, steps=4, batch_size=16, seeds=(0, 1), rewordings=3
    )
    vectors = Embeddings(images, texts, gallery)
    literal = lake.table("combiners").latest()
    trained = recipes.train(run_here, lake, config, triplets, vectors)
    assert trained.inputs[:3] == literal.inputs
    (*_, more) = trained.inputs
    (other,) = lake.table("embeddings").matching(stage="embed-rewordings")
    assert other.reference == more and set(other.read(["text"])["text"].to_pylist()) == set(reworded("make it red", 3))
    assert recipes.train(reuse, lake, config, triplets, vectors).name == trained.name
    fewer = config.model_copy(update={"rewordings": 0})
    assert recipes.train(run_here, lake, fewer, triplets, vectors).inputs == literal.inputs
    table = compare(lake, sit(lake).scores, "scot")
    assert {"scot", "scot-grounded"} <= {standing.method for standing in table.standings}
    for key in (trained.key, literal.key):  # by either Combiner, the other is found beside it
        searcher = Searcher(lake, combiner=key, method="scot-grounded")
        plain, wordy = (
            searcher.search(Image.new("RGB", (64, 64)), text, 4).hits for text in ("in blue", "hmm, somebody: in blue?")
        )
        assert plain == wordy, "words that the encoder never saw are not read"
    measured = recipes.benchmark(run_here, lake, BenchmarkConfig(), trained, triplets, vectors)["catalogue"]
    assert "scot-grounded" in measured.read(["method"])["method"].to_pylist()


def test_the_command_prints_what_is_measured_already(
    lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sit(lake, MethodsConfig())
    command(lake=str(lake.url), against="image-only", json_=True)
    told = json.loads(capsys.readouterr().out)[0]
    assert told["against"] == "image-only" and {one["method"] for one in told["missing"]} >= {"infonce", "searle"}
    values = {one["method"]: one["cells"]["all"]["R@1"] for one in told["standings"]}
    assert values["image+text"]["difference"] == pytest.approx(
        values["image+text"]["value"] - values["image-only"]["value"]
    )
    command(lake=str(lake.url))
    shown = capsys.readouterr()
    assert "R@5 on catalogue" in shown.out and "points against image+text, weight" in shown.out
    page = (Path(lake.url) / "methods.html").read_text()
    assert "spherical" not in page and "the point between them on the sphere" in page and "train.loss=infonce" in page
    with pytest.raises(ConfigError, match="there is no method 'magic'"):
        command(lake=str(lake.url), method=["magic"])


def test_seeds_of_what_is_drawn_are_in_the_key(lake: Lake) -> None:
    one, other = sit(lake).scores, sit(lake, MethodsConfig(seeds=(0, 1), timed=9)).scores
    assert {name: rows.key for name, rows in one.items()} == {name: rows.key for name, rows in other.items()}
    assert np.all([rows.rows > 0 for rows in one.values()])
