"""Embedding steps on a real lake with the shipped encoder: once each, in order, and the weights stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scot_core.config import EmbedConfig, profile, with_overrides
from scot_core.encoders import load
from scot_core.encoders.catalogue import CatalogueEncoder
from scot_core.errors import DataError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.stages.captions import DrawCatalogue
from scot_core.stages.embed import EmbedImages, EmbedTexts, decode, vectors_by_id
from scot_core.stages.step import run_here
from scot_core.stages.train import TrainCombiner, combiners_in

SMALL = ["captions.count=30", "captions.queries_per_split=4", "captions.gallery=80", "captions.shard_rows=20"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Dataset, Dataset]:
    lake = Lake(tmp_path_factory.mktemp("embed") / "lake")
    galleries, captions = run_here(DrawCatalogue(lake, with_overrides(profile("smoke"), SMALL).captions))
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
        (embedded,) = run_here(EmbedImages(lake, EmbedConfig(), given))
        row, vectors = vectors_by_id([embedded])
        assert list(row) == given.read(["image_id"])["image_id"].to_pylist()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    (texts,) = run_here(EmbedTexts(lake, EmbedConfig(shard_rows=7), triplets))
    stored = texts.read(["text"])["text"].to_pylist()
    table = triplets.read(["caption", "modification", "modified_caption"])
    assert sorted(stored) == sorted({text for column in table.columns for text in column.to_pylist()})


def test_the_encoder_is_frozen_through_embedding_and_training(
    drawn: tuple[Lake, Dataset, Dataset], triplets: Dataset, tmp_path: Path
) -> None:
    lake, _, captions = drawn
    encoder = load("catalogue")
    assert isinstance(encoder, CatalogueEncoder)
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    (images,) = run_here(EmbedImages(lake, EmbedConfig(), captions))
    (texts,) = run_here(EmbedTexts(lake, EmbedConfig(), triplets))
    config = profile("smoke").train.model_copy(update={"steps": 3, "batch_size": 8})
    (combiners,) = run_here(TrainCombiner(lake, config, triplets, images, texts))
    assert set(combiners_in(combiners, tmp_path)) == {0}
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())
    assert load("catalogue").spec == encoder.spec


def test_an_image_that_does_not_decode_is_named() -> None:
    with pytest.raises(DataError, match=r"image product-7 does not decode"):
        decode({"image_id": "product-7", "image": {"bytes": b"not a picture", "path": "product-7.png"}})
