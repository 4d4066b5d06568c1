"""Composed search: from a lake, a generation or a folder of weights, over the lake's images or those of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from scot_core.combiner import Combiner
from scot_core.config import CaptionsConfig, EmbedConfig
from scot_core.encoders.catalogue import CatalogueEncoder
from scot_core.encoders.preprocessing import Pixels
from scot_core.errors import ConfigError, DataError, LakeError, ModelError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.generations import generations
from scot_core.lake.promotion import promote
from scot_core.search import Answer, Composed, Searcher
from scot_core.stages import recipes
from scot_core.stages.benchmark.chosen import choose_combiner
from scot_core.stages.embed.images import embed_images
from scot_core.vectors import Vectors
from tests.loaded import loaded_by
from tests.rows import no_rows
from tests.running import run_here

SMALL = CaptionsConfig(count=12, queries_per_split=2, gallery=60, shard_rows=6)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Dataset, Path]:
    """A lake with a Combiner, which also lies in a folder."""
    place = tmp_path_factory.mktemp("shop")
    lake = Lake(place / "lake")
    pictures = recipes.captions(run_here, lake, SMALL)
    embeddings = run_here(embed_images(lake, EmbedConfig(), pictures.captions))["embeddings"]
    return lake, trained_on(lake, embeddings, place / "weights"), place / "weights"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine pictures in a folder."""
    for number in range(9):
        (tmp_path / "photos" / "more").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (28 * number, 90, 120)).save(tmp_path / "photos" / "more" / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where vectors of folders are kept."""
    monkeypatch.setenv("SCOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of pictures whenever some are embedded."""
    counts: list[int] = []
    original = CatalogueEncoder.embed_pixels

    def counted(self: CatalogueEncoder, pixels: Pixels) -> Vectors:
        counts.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(CatalogueEncoder, "embed_pixels", counted)
    return counts


def trained_on(lake: Lake, embeddings: Dataset, folder: Path, version: int = 1) -> Dataset:
    torch.manual_seed(version)
    combiner = Combiner(int(embeddings.config["spec"]["dim"]), 16, 16)
    combiner.encoder = embeddings.config["spec"]
    combiner.save(folder)
    identity = fingerprint("train", version, {}, [embeddings.fingerprint])
    draft = lake.draft(
        Identity(
            "combiners", "catalogue", "train-scot", identity, {"seeds": [0], "loss": "scot"}, [embeddings.reference]
        )
    )
    draft.write_part(0, no_rows("combiners"), files_of(folder, "seed-0"))
    return draft.commit(1, rows_in=0)


def embedded_since_by_another(lake: Lake, embeddings: Dataset) -> None:
    """Newer vectors of the same images, by an encoder of which this machine knows nothing."""
    config = embeddings.config
    other = {**config, "spec": {**config["spec"], "name": "another", "dim": 3}}
    inputs = embeddings.inputs
    draft = lake.draft(
        Identity("embeddings", "catalogue", "embed-images", fingerprint("embed", 1, other, []), other, inputs)
    )
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(3, np.float32)), 3)
    named = {"item_id": ["x"], "source": ["catalogue"], "kind": ["image"], "text": [None], "encoder": ["another"]}
    draft.write_part(0, {**named, "vector": vectors})
    draft.commit(1, rows_in=1)


def test_the_combiner_s_own_embeddings_are_searched(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    pictures = recipes.captions(run_here, lake, SMALL)
    embeddings = run_here(embed_images(lake, EmbedConfig(), pictures.captions))["embeddings"]
    older = trained_on(lake, embeddings, tmp_path / "weights")
    embedded_since_by_another(lake, embeddings)
    Image.new("RGB", (64, 64), "red").save(tmp_path / "reference.png")
    answer = Searcher(lake).search(tmp_path / "reference.png", "in blue", 3)
    assert len(answer.hits) == 3 and all(hit["caption"] for hit in answer.hits)

    newer = trained_on(lake, embeddings, tmp_path / "others", version=2)
    assert chosen(lake) == newer.name
    newest = Searcher(lake).search(tmp_path / "reference.png", "in blue", 3)
    promote(lake, next(generation for generation in generations(lake) if generation.root.name == older.name))
    assert chosen(lake) == older.name, "a benchmark follows what was promoted"
    promoted = Searcher(lake).search(tmp_path / "reference.png", "in blue", 3)
    assert promoted.hits == answer.hits and promoted.modality_weight != newest.modality_weight


def chosen(lake: Lake) -> str:
    found, _ = choose_combiner(lake, None, None)
    assert found is not None and found.dataset is not None
    return found.dataset.name


def test_a_folder_of_weights_names_its_encoder(shop: tuple[Lake, Dataset, Path], photos: Path) -> None:
    lake, dataset, weights = shop
    reference = Image.new("RGB", (64, 64), "red")
    of_lake = Searcher(lake).search(reference, "in blue")
    for wanted in (dataset.key, generations(lake)[-1].id, weights):
        searcher = Searcher(lake.url, combiner=wanted)
        assert searcher.search(reference, "in blue").hits == of_lake.hits
        assert np.array_equal(searcher.vectors, Searcher(lake).vectors)
    alone = Searcher(gallery=photos, combiner=weights)
    assert alone.search(reference, "in blue", 4).hits == Searcher(lake, photos).search(reference, "in blue", 4).hits
    _, encoder = choose_combiner(lake, str(weights), None)
    assert encoder.encoder == "catalogue" and encoder.pooling is None


def test_what_cannot_be_searched_with_is_said(shop: tuple[Lake, Dataset, Path], photos: Path, tmp_path: Path) -> None:
    lake, _, weights = shop
    older = Combiner(128, 16, 16)
    older.save(tmp_path / "older")
    with pytest.raises(ConfigError, match="does not say which encoder"):
        Searcher(gallery=photos, combiner=tmp_path / "older")
    assert Searcher(gallery=photos, combiner=tmp_path / "older", encoder="catalogue").ids
    older.encoder = {**Searcher(lake).encoder.spec.model_dump(), "revision": "0" * 32}
    older.save(tmp_path / "older")
    with pytest.raises(ModelError, match="0000"):
        Searcher(gallery=photos, combiner=tmp_path / "older")
    Combiner(3, 16, 16).save(tmp_path / "narrow")
    with pytest.raises(ConfigError, match="takes vectors of 3"):
        Searcher(gallery=photos, combiner=tmp_path / "narrow", encoder="catalogue")
    with pytest.raises(LakeError, match=r"'nothing' is no key .* no folder"):
        Searcher(lake, combiner="nothing")
    with pytest.raises(ConfigError, match="name a lake"):
        Searcher(gallery=photos)
    with pytest.raises(ConfigError, match="nothing to search: no lake"):
        Searcher(combiner=weights)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        Searcher(lake).search(Image.new("RGB", (9, 9)), "in blue", 0)


def test_a_folder_is_embedded_once_and_its_changes_are_seen(
    shop: tuple[Lake, Dataset, Path], photos: Path, embedded: list[int]
) -> None:
    lake = shop[0]
    first = Searcher(lake, photos)
    assert embedded == [9] and len(first.ids) == 9 and first.ids[0] == "more/0.png"
    again = Searcher(lake, photos)
    assert embedded == [9] and np.array_equal(again.vectors, first.vectors)

    (photos / "more" / "8.png").rename(photos / "eight.png")  # moved
    (photos / "more" / "7.png").unlink()
    Image.new("RGB", (20, 16), "white").save(photos / "more" / "0.png")  # changed
    (photos / "broken.png").write_bytes(b"no picture")
    changed = Searcher(lake, photos)
    assert sum(embedded) == 10, "only what changed"
    assert changed.ids == ["eight.png", *(f"more/{number}.png" for number in range(7))]
    assert np.array_equal(changed.vectors[0], first.vectors[8])
    assert not np.array_equal(changed.vectors[1], first.vectors[0])
    assert list(changed.left_out) == ["broken.png"] and "does not decode" in changed.left_out["broken.png"]
    assert len(changed.search(photos / "eight.png", "in blue", 20).hits) == 7


def test_a_cache_that_is_damaged_or_cannot_be_written_is_done_without(
    shop: tuple[Lake, Dataset, Path], photos: Path, cache: Path, embedded: list[int]
) -> None:
    first = Searcher(shop[0], photos)
    (kept,) = (cache / "galleries").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert np.array_equal(Searcher(shop[0], photos).vectors, first.vectors)
    kept.unlink()
    (cache / "galleries").rmdir()
    (cache / "galleries").write_text("a file")
    assert np.array_equal(Searcher(shop[0], photos).vectors, first.vectors)
    assert embedded == [9, 9, 9]
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no image below .* can be read; image .* does not decode"):
        Searcher(shop[0], photos)


def test_a_search_loads_what_it_needs_and_no_more(shop: tuple[Lake, Dataset, Path], photos: Path) -> None:
    named = ["--lake", shop[0].url, "--image", str(photos / "more" / "3.png"), "--text", "in blue"]
    heavy = {"transformers", "peft", "bitsandbytes", "openai", "prefect", "matplotlib"}
    assert "torch" in loaded_by("search", *named)
    assert not heavy & loaded_by("search", *named, "--gallery", str(photos), "--combiner", str(shop[2]))


def test_another_method_may_compose(shop: tuple[Lake, Dataset, Path], photos: Path) -> None:
    class ImageAlone:
        def compose(self, images: Vectors, texts: Sequence[str]) -> Composed:
            return Composed(images)

    searcher = Searcher(shop[0], photos, method=ImageAlone())
    answer = searcher.search(photos / "more" / "3.png", "in blue", 9, with_reference=True)
    assert answer.hits[0]["image_id"] == "more/3.png" and answer.hits[0]["score"] == 1.0
    assert answer.modality_weight is None and len(answer.hits) == 9


def test_an_answer_is_a_picture_and_names_words_never_seen(shop: tuple[Lake, Dataset, Path]) -> None:
    searcher = Searcher(shop[0])
    answer = searcher.search(Image.new("RGB", (64, 64), "red"), "a frobnicator in blue, frobnicator!", 7)
    assert answer.unknown_words == ["frobnicator"]
    picture = answer.picture()
    alone = Answer(answer.reference, None, answer.hits[:5], answer.images[:5]).picture()
    assert picture.size == (alone.width, 2 * alone.height), "five in a row"
    bare = [{**hit, "caption": "", "image_id": ""} for hit in answer.hits]
    assert picture.tobytes() != Answer(answer.reference, None, bare, answer.images).picture().tobytes()
    assert answer._repr_png_().startswith(b"\x89PNG")


def test_captions_of_any_length_and_script_have_room(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    for caption in ("", "word " * 200, "x" * 500, "красная кружка", "\x1b[31m\n\n", "杯" * 90):
        hit = {"rank": 1, "score": 0.5, "image_id": "a", "caption": caption}
        assert Answer(image, 0.5, [hit], [image], caption).picture().height == 224


def test_a_lake_without_a_combiner_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="holds no Combiner to search with: run `scot run` first"):
        Searcher(tmp_path / "lake")
