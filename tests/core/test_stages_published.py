"""Published benchmarks over a folder of images: embedded once, measured, and honest about what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scot_core import benchmarks
from scot_core.benchmarks.baselines import BASELINES
from scot_core.benchmarks.submission import to_bytes
from scot_core.combiner import Combiner
from scot_core.config import EmbedConfig, PublishedConfig
from scot_core.encoders import load
from scot_core.errors import ConfigError, DataError, LakeError, ModelError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.manifest import Rows
from scot_core.stages import recipes
from scot_core.stages.benchmark.chosen import choose_combiner
from scot_core.stages.embed.benchmarks import embed_benchmark_images, embed_benchmark_texts, open_published
from scot_core.stages.step import Committed, Work
from tests.published import GALLERY, write_cirr, write_fashioniq
from tests.rows import no_rows
from tests.running import run_here

ENCODER = EmbedConfig(encoder="catalogue")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def fashioniq(tmp_path: Path) -> Path:
    return write_fashioniq(tmp_path / "fashioniq")


def config(root: Path, name: str = "fashioniq", *, allow: bool = False) -> PublishedConfig:
    return PublishedConfig.model_validate(
        {"name": name, "root": str(root), "allow_missing": allow, "shard_rows": 10, "resamples": 20}
    )


def measure(lake: Lake, settings: PublishedConfig, combiner: Path | None = None) -> Dataset:
    wanted = None if combiner is None else str(combiner)
    return recipes.published(run_here, lake, settings, wanted, ENCODER)


def values(rows: Dataset) -> dict[tuple[str, str, str], float]:
    return {(row["method"], row["split"], row["metric"]): row["value"] for row in rows.read().to_pylist()}


def save_combiner(folder: Path, dim: int) -> Path:
    torch.manual_seed(0)
    Combiner(dim, 16, 16).save(folder)
    return folder


def test_rows_are_those_of_the_benchmark_itself(lake: Lake, fashioniq: Path, tmp_path: Path) -> None:
    encoder = load("catalogue")
    folder = save_combiner(tmp_path / "mine", encoder.spec.dim)
    found = values(measure(lake, config(fashioniq), folder))
    benchmark = benchmarks.load("fashioniq", fashioniq)
    vectors = {i: encoder.embed_images([Image.open(fashioniq / "images" / f"{i}.jpg")])[0] for i in benchmark.image_ids}
    gallery = np.stack([vectors[i] for i in benchmark.gallery])
    images = np.stack([vectors[q.reference] for q in benchmark.queries])
    texts = encoder.embed_texts([q.modification for q in benchmark.queries])
    expected = {name: compose(images, texts) for name, compose in BASELINES.items()}
    with torch.inference_mode():
        combiner = Combiner.load(folder)
        expected["combiner"] = combiner(torch.from_numpy(images), torch.from_numpy(texts)).numpy()
    assert {method for method, _, _ in found} == set(expected)
    assert {split for _, split, _ in found} == {"dress", "shirt", "toptee", "all"}
    for method, queries in expected.items():
        for metric, value in benchmark.score(queries, gallery).items():
            assert found[method, "all", metric] == pytest.approx(value)


def test_images_and_texts_are_embedded_in_order_and_the_model_is_given_back(lake: Lake, fashioniq: Path) -> None:
    settings = config(fashioniq)
    opened = open_published(settings)
    images = embed_benchmark_images(lake, settings, ENCODER, opened)
    texts = embed_benchmark_texts(lake, settings, ENCODER, opened)
    for step in (images, texts):
        with step:
            step.run(0, lambda _: None)
            assert "encoder" in vars(step)
        assert "encoder" not in vars(step)  # a device may not hold two
    stored = run_here(texts)["embeddings"].read(["text"])["text"].to_pylist()
    assert stored == sorted({query.modification for query in opened.whole.queries})
    ids = run_here(images)["embeddings"].read(["item_id"])["item_id"].to_pylist()
    assert ids == sorted(opened.whole.image_ids)


def test_a_second_run_embeds_and_measures_nothing(lake: Lake, fashioniq: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure(lake, config(fashioniq))
    moved = fashioniq.rename(fashioniq.parent / "moved")  # where the files lie does not matter
    monkeypatch.setattr("scot_core.stages.embed.step.load", None)
    assert measure(lake, config(moved)).digest == first.digest


def test_missing_images_are_listed_and_refused(lake: Lake, fashioniq: Path) -> None:
    (fashioniq / "images" / "dress-03.jpg").unlink()
    (fashioniq / "images" / "shirt-01.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 36 images of fashioniq are missing or empty: dress-03, shirt-01"):
        measure(lake, config(fashioniq))
    assert (Path(lake.url) / "reports" / "missing-images-fashioniq.txt").read_text() == "dress-03\nshirt-01\n"


def test_allowed_missing_images_are_rejects_and_their_queries_misses(lake: Lake, fashioniq: Path) -> None:
    whole = values(measure(lake, config(fashioniq)))
    (fashioniq / "images" / "dress-03.jpg").unlink()  # a target
    (fashioniq / "images" / "shirt-01.jpg").unlink()  # a reference
    rows = measure(lake, config(fashioniq, allow=True))
    found = values(rows)
    for method in BASELINES:
        assert whole[method, "dress", "R@50"] == whole[method, "shirt", "R@50"] == 100.0  # 12 images are fewer than 50
        assert found[method, "dress", "R@50"] == found[method, "shirt", "R@50"] == 50.0
        assert found[method, "toptee", "R@10"] == whole[method, "toptee", "R@10"]
    rejects = lake.table("rejects").latest(source="fashioniq").read().to_pylist()
    assert {(row["reason"], row["raw"].split(":")[0]) for row in rejects} == {
        ("image_missing", "dress-03"),
        ("image_missing", "shirt-01"),
    }
    embeddings = lake.table("embeddings").latest(source="fashioniq", stage="embed-benchmark-images-catalogue")
    assert embeddings.manifest.rows == Rows(given=36, out=34, rejected=2)


def test_broken_images_are_all_named_and_the_rest_is_kept(lake: Lake, fashioniq: Path) -> None:
    broken = [fashioniq / "images" / f"{image}.jpg" for image in ("dress-05", "toptee-02")]
    good = [path.read_bytes() for path in broken]
    for path, data in zip(broken, good, strict=True):
        path.write_bytes(data[:200] + bytes(len(data) - 200))  # the size stays, the content does not
    with pytest.raises(DataError, match=r"2 of 36 images of fashioniq are broken: dress-05, toptee-02"):
        measure(lake, config(fashioniq))
    kept = sorted(path.name for path in Path(lake.url).glob("embeddings/*/part-*.parquet"))
    assert kept == ["part-00001.parquet", "part-00003.parquet"]
    rows = measure(lake, config(fashioniq, allow=True))
    assert values(rows)["image-only", "all", "R@50"] == 100.0
    reasons = [row["reason"] for row in lake.table("rejects").latest(source="fashioniq").read().to_pylist()]
    assert reasons == ["image_broken"] * 2
    for path, data in zip(broken, good, strict=True):
        path.write_bytes(data)
    assert measure(lake, config(fashioniq)).rows == rows.rows


def test_hidden_targets_give_checked_files_and_no_rows(lake: Lake, tmp_path: Path) -> None:
    root = write_cirr(tmp_path / "cirr")
    folder = save_combiner(tmp_path / "mine", load("catalogue").spec.dim)
    rows = measure(lake, config(root, "cirr-test1"), folder)
    assert rows.rows == 0
    names = {"test1_pred_ranks_recall.json", "test1_pred_ranks_recall_subset.json"}
    written = rows.files_in(tmp_path / "submission")
    for place in ("image-only", "text-only", "image+text", "combiner/mine"):
        files = {path.name: json.loads(path.read_text()) for path in (written / place).iterdir()}
        assert set(files) == names
        benchmarks.load("cirr", root, split="test1").check_submission(files)  # type: ignore[attr-defined]
        for name, content in files.items():
            assert to_bytes(name, content) == (written / place / name).read_bytes()
    (root / "test1" / "test1-4.png").unlink()
    with pytest.raises(DataError, match="1 of 12 images"):
        measure(lake, config(root, "cirr-test1", allow=True), folder)


def test_images_may_lie_elsewhere_and_end_otherwise(lake: Lake, fashioniq: Path, tmp_path: Path) -> None:
    place = tmp_path / "flat"
    place.mkdir()
    for path in (fashioniq / "images").iterdir():
        path.rename(place / f"{path.stem}.png")
    with pytest.raises(DataError, match=f"{3 * GALLERY} of {3 * GALLERY}"):
        measure(lake, config(fashioniq))
    there = config(fashioniq).model_copy(update={"images": str(place)})
    assert measure(lake, there).rows > 0


def test_annotations_that_are_not_there_are_named_with_their_source(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"captions/cap\.dress\.val\.json.*fashion-iq"):
        measure(lake, config(tmp_path))


def test_a_combiner_must_fit_the_encoder(lake: Lake, fashioniq: Path, tmp_path: Path) -> None:
    folder = save_combiner(tmp_path / "wide", 999)
    with pytest.raises(ConfigError, match="takes vectors of 999, encoder catalogue gives"):
        measure(lake, config(fashioniq), folder)
    assert not Path(lake.url).exists()  # said before anything is embedded
    with pytest.raises(ConfigError, match="--encoder"):
        recipes.published(run_here, lake, config(fashioniq), str(folder), None)
    with pytest.raises(LakeError, match="neither a key"):
        recipes.published(run_here, lake, config(fashioniq), "nothing-here", ENCODER)
    with pytest.raises(LakeError, match="holds no Combiner"):
        recipes.published(run_here, lake, config(fashioniq), None, None)


def test_looking_for_what_is_there_writes_nothing(lake: Lake, fashioniq: Path) -> None:
    (fashioniq / "images" / "dress-03.jpg").unlink()

    def look(step: Work) -> Committed:
        assert step.committed() is None
        raise InterruptedError

    with pytest.raises(InterruptedError):
        recipes.published(look, lake, config(fashioniq), None, ENCODER)
    assert not Path(lake.url).exists()


def test_an_images_folder_that_is_not_there_is_named(lake: Lake, fashioniq: Path) -> None:
    with pytest.raises(DataError, match="no folder /nowhere"):
        measure(lake, config(fashioniq).model_copy(update={"images": "/nowhere"}))


def test_the_same_encoder_in_other_words_embeds_nothing_anew(lake: Lake, fashioniq: Path) -> None:
    rows = measure(lake, config(fashioniq))
    spelled = EmbedConfig(encoder="catalogue", revision=load("catalogue").spec.revision, precision="float32")
    assert recipes.published(run_here, lake, config(fashioniq), None, spelled).digest == rows.digest


def test_which_category_an_image_is_a_candidate_in_is_part_of_the_key(fashioniq: Path) -> None:
    before = open_published(config(fashioniq))
    splits = {name: fashioniq / "image_splits" / f"split.{name}.val.json" for name in ("dress", "shirt")}
    dress, shirt = (json.loads(path.read_text()) for path in splits.values())
    splits["dress"].write_text(json.dumps(dress[:-1]))
    splits["shirt"].write_text(json.dumps([dress[-1], *shirt]))
    after = open_published(config(fashioniq))
    assert after.whole.gallery == before.whole.gallery
    assert after.text != before.text


def trained(lake: Lake, embeddings: Dataset, folder: Path) -> Dataset:
    """A dataset of `combiners` that says it was trained on these embeddings."""
    save_combiner(folder, int(embeddings.config["spec"]["dim"]))
    identity = fingerprint("train", 1, {}, [embeddings.fingerprint])
    about = {"loss": "scot", "seeds": [0]}
    draft = lake.draft(Identity("combiners", "catalogue", "train-scot", identity, about, [embeddings.reference]))
    draft.write_part(0, no_rows("combiners"), files_of(folder, "seed-0"))
    return draft.commit(1, rows_in=0)


def test_a_combiner_of_the_lake_is_measured_with_its_own_encoder(
    lake: Lake, fashioniq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = embed_benchmark_images(lake, config(fashioniq), ENCODER, open_published(config(fashioniq)))
    combiners = trained(lake, run_here(step)["embeddings"], tmp_path / "trained")
    chosen, used = choose_combiner(lake, None, None)
    assert chosen is not None and chosen.origin == combiners.key and used.encoder == "catalogue"
    chosen, _ = choose_combiner(lake, None, EmbedConfig(encoder="catalogue", precision="float32"))
    assert chosen is not None and chosen.origin == combiners.key  # the default, spelled out
    other = load("catalogue").spec.model_copy(update={"preprocessing": "another"})
    monkeypatch.setattr("scot_core.stages.embed.vectors.spec_of", lambda *_, **__: other)
    with pytest.raises(ModelError, match="made by another encoder catalogue: here it has preprocessing 'another'"):
        choose_combiner(lake, None, None)
    with pytest.raises(ConfigError, match="leave --encoder out"):
        choose_combiner(lake, combiners.key, ENCODER)
    assert choose_combiner(lake, None, ENCODER)[0] is None
