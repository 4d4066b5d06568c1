"""Embedding steps on a real lake with the shipped encoder: once each, in order, and the weights stay as they are."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from scot_core import encoders
from scot_core.config import EmbedConfig, profile, with_overrides
from scot_core.config.settings import settings
from scot_core.encoders import load
from scot_core.encoders.catalogue import CatalogueEncoder
from scot_core.encoders.pretrained import PretrainedEncoder
from scot_core.errors import DataError, ModelError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import digest
from scot_core.lake.manifest import Rows
from scot_core.stages import recipes
from scot_core.stages.embed.images import embed_images, stored_picture
from scot_core.stages.embed.texts import embed_texts
from scot_core.stages.embed.vectors import encoder_of, vectors_by_id
from scot_core.stages.train import TrainCombiner, combiners_in
from tests.running import run_here
from tests.tiny_encoders import save

SMALL = ["captions.count=30", "captions.queries_per_split=4", "captions.gallery=80", "captions.shard_rows=20"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Dataset, Dataset]:
    lake = Lake(tmp_path_factory.mktemp("embed") / "lake")
    pictures = recipes.captions(run_here, lake, with_overrides(profile("smoke"), SMALL).captions)
    galleries, captions = pictures.galleries, pictures.captions
    assert galleries is not None
    return lake, galleries, captions


@pytest.fixture(scope="module")
def triplets(drawn: tuple[Lake, Dataset, Dataset]) -> Dataset:
    lake, _, captions = drawn
    rows = captions.read(["pair_id", "source", "image_id", "caption"]).to_pydict()
    count = len(rows["pair_id"])
    texts = {"modification": ["in red"] * count, "modified_caption": [f"{c}, in red" for c in rows["caption"]]}
    draft = lake.draft(Identity("triplets", "catalogue", "generate", "f" * 32, {}))
    draft.write_part(0, {**rows, **texts, "kind": ["generated"] * count, "model": ["by hand"] * count})
    return draft.commit(1, rows_in=count)


def test_every_image_and_every_different_text_has_one_unit_vector(
    drawn: tuple[Lake, Dataset, Dataset], triplets: Dataset
) -> None:
    lake, galleries, captions = drawn
    for given in (captions, galleries):
        embedded = run_here(embed_images(lake, EmbedConfig(), given))["embeddings"]
        row, vectors = vectors_by_id([embedded])
        assert list(row) == given.read(["image_id"])["image_id"].to_pylist()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    texts = run_here(embed_texts(lake, EmbedConfig(shard_rows=7), triplets))["embeddings"]
    stored = texts.read(["text"])["text"].to_pylist()
    table = triplets.read(["caption", "modification", "modified_caption"])
    assert stored == sorted({text for column in table.columns for text in column.to_pylist()})


def test_images_are_embedded_where_nothing_else_has_loaded_what_filters_them(
    drawn: tuple[Lake, Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, galleries, _ = drawn
    monkeypatch.delattr(pa, "compute")  # as in a process whose first part is a large one
    done: list[int] = []
    embed_images(lake, EmbedConfig(), galleries).work(0, done.append)
    assert sum(done) == galleries.parts[0].rows


def test_the_encoder_is_frozen_through_embedding_and_training(
    drawn: tuple[Lake, Dataset, Dataset], triplets: Dataset, tmp_path: Path
) -> None:
    lake, _, captions = drawn
    encoder = load("catalogue")
    assert isinstance(encoder, CatalogueEncoder)
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    images = run_here(embed_images(lake, EmbedConfig(), captions))["embeddings"]
    texts = run_here(embed_texts(lake, EmbedConfig(), triplets))["embeddings"]
    config = profile("smoke").train.model_copy(update={"steps": 3, "batch_size": 8})
    combiners = run_here(TrainCombiner(lake, config, triplets, images, texts))["combiners"]
    assert set(combiners_in(combiners, tmp_path)) == {0}
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())
    assert load("catalogue").spec == encoder.spec


# ------------------------------------------------------------------------- images with several captions


def captioned(lake: Lake, *parts: Sequence[tuple[str, str, int | None]], version: str = "e") -> Dataset:
    """`captions` of (source, image_id, colour) rows; a row without a colour repeats the image before it."""
    draft = lake.draft(Identity("captions", "paper", "captions", version * 32, {}))
    for index, part in enumerate(parts):
        sources, ids, colours = ([row[0] for row in part], [row[1] for row in part], [row[2] for row in part])
        images = [
            {"bytes": None if c is None else png(c), "path": f"{i}.png"} for i, c in zip(ids, colours, strict=True)
        ]
        numbers = [f"{index}{row:031x}" for row in range(len(part))]
        texts = [f"caption {number}" for number in numbers]
        columns = {"pair_id": numbers, "source": sources, "image_id": ids, "caption": texts, "image": images}
        draft.write_part(index, columns)
    return draft.commit(len(parts), rows_in=sum(map(len, parts)))


def png(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (colour, 90, 200 - colour)).save(file, "PNG")
    return file.getvalue()


def test_an_image_with_several_captions_is_embedded_once(local_lake: Lake) -> None:
    given = captioned(
        local_lake,
        [("coco", "a", 10), ("coco", "a", None), ("coco", "a", None), ("abo", "b", 60)],
        [("flickr30k", "c", 110), ("flickr30k", "c", None)],
    )
    step, ticks = embed_images(local_lake, EmbedConfig(batch_size=2), given), list[int]()
    embedded = run_here(step, ticks.append)["embeddings"]
    rows = embedded.read(["item_id", "source", "kind", "encoder"]).to_pylist()
    assert [(row["item_id"], row["source"]) for row in rows] == [("a", "coco"), ("b", "abo"), ("c", "flickr30k")]
    assert embedded.manifest.rows == Rows(given=3, out=3, rejected=0)
    assert sum(ticks) == sum(step.shards()) == 6  # progress counts pairs
    pictures = [Image.open(io.BytesIO(png(colour))) for colour in (10, 60, 110)]
    np.testing.assert_allclose(vectors_by_id([embedded])[1], load("catalogue").embed_images(pictures), atol=1e-5)


def test_a_part_whose_rows_were_all_refused_is_no_obstacle(local_lake: Lake) -> None:
    given = captioned(local_lake, [], [("coco", "a", 10)])
    embedded = run_here(embed_images(local_lake, EmbedConfig(), given))["embeddings"]
    assert embedded.rows == 1


def test_captions_whose_images_are_not_stored_once_are_refused(local_lake: Lake) -> None:
    twice = captioned(local_lake, [("coco", "a", 10), ("coco", "a", 10)])
    with pytest.raises(DataError, match="part 0: image a of coco is stored more than once"):
        run_here(embed_images(local_lake, EmbedConfig(), twice))
    never = captioned(local_lake, [("coco", "a", 10), ("coco", "b", None)], version="d")
    with pytest.raises(DataError, match="part 0: image b of coco has no bytes"):
        run_here(embed_images(local_lake, EmbedConfig(), never))


# ------------------------------------------------------------------------------------ published encoders


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`SCOT_WEIGHTS` with a tiny BLIP-2."""
    monkeypatch.setenv("SCOT_WEIGHTS", str(tmp_path / "weights"))
    settings.cache_clear()
    save("blip2", tmp_path / "weights" / "blip2")
    yield tmp_path / "weights"
    settings.cache_clear()


def test_a_published_encoder_goes_through_the_same_stages_and_stays_frozen(
    drawn: tuple[Lake, Dataset, Dataset], triplets: Dataset, weights: Path
) -> None:
    lake, _, captions = drawn
    config = EmbedConfig(encoder="blip2", batch_size=7)
    step = embed_images(lake, config, captions)
    used = step.encoder
    images = run_here(step)["embeddings"]
    texts = run_here(embed_texts(lake, config, triplets))["embeddings"]
    assert images.config["spec"] == encoders.spec_of("blip2").model_dump(mode="json")
    encoder = encoder_of(images)
    assert isinstance(encoder, PretrainedEncoder) and isinstance(used, PretrainedEncoder)
    assert encoder.spec == used.spec == encoder_of(texts).spec
    assert "encoder" not in vars(step)  # a device may not hold two: a step gives its own back
    before = _state(encoder)
    assert _state(used) == before  # embedding changed nothing
    training = profile("smoke").train.model_copy(update={"steps": 3, "batch_size": 8})
    run_here(TrainCombiner(lake, training, triplets, images, texts))
    assert _state(encoder) == _state(used) == before
    _, vectors = vectors_by_id([images])
    rows = captions.read(["image_id", "image"]).to_pylist()
    np.testing.assert_allclose(vectors, encoder.embed_images([stored_picture(row) for row in rows]), atol=1e-5)


def _state(encoder: PretrainedEncoder) -> str:
    return digest(b"".join(value.numpy().tobytes() for value in encoder.model.state_dict().values()))


def test_what_changes_a_vector_changes_the_key_and_how_work_is_done_does_not(
    drawn: tuple[Lake, Dataset, Dataset], weights: Path
) -> None:
    lake, _, captions = drawn

    def key(**fields: object) -> str:
        config = EmbedConfig.model_validate({"encoder": "blip2", **fields})
        return embed_images(lake, config, captions).outputs["embeddings"].key

    assert len({key(), key(pooling="first"), key(precision="bfloat16"), key(shard_rows=5)}) == 4
    assert key() == key(batch_size=3, workers=2, device="cpu")


def test_an_embedding_is_continued_by_the_encoder_that_made_it_or_not_at_all(
    drawn: tuple[Lake, Dataset, Dataset], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, _, captions = drawn
    config = EmbedConfig(encoder="blip2", pooling="first", precision="bfloat16")
    images = run_here(embed_images(lake, config, captions))["embeddings"]
    assert encoder_of(images).spec.pooling == "first" and encoder_of(images).spec.precision == "bfloat16"
    save("blip2", weights / "other" / "blip2", seed=1)
    monkeypatch.setenv("SCOT_WEIGHTS", str(weights / "other"))
    settings.cache_clear()
    with pytest.raises(ModelError, match="holds the weights"):
        encoder_of(images)
    images.config["spec"]["preprocessing"] = "of another version"
    monkeypatch.setenv("SCOT_WEIGHTS", str(weights))
    settings.cache_clear()
    with pytest.raises(ModelError, match=r"another encoder blip2: here it has preprocessing .*not 'of another"):
        encoder_of(images)


def test_a_run_that_is_in_the_lake_needs_no_weights(
    drawn: tuple[Lake, Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, _, captions = drawn
    first = run_here(embed_images(lake, EmbedConfig(), captions))["embeddings"]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("scot_core.stages.embed.step.load", refuse)
    again = run_here(embed_images(lake, EmbedConfig(), captions))["embeddings"]
    assert again.record == first.record


def test_an_image_that_does_not_decode_is_named() -> None:
    with pytest.raises(DataError, match=r"image product-7 does not decode"):
        stored_picture({"image_id": "product-7", "image": {"bytes": b"not a picture", "path": "product-7.png"}})
