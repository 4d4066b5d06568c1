"""Composed search asks the encoder that the Combiner learned from, whatever was embedded since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from scot_core.combiner import Combiner
from scot_core.config import CaptionsConfig, EmbedConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.generations import generations
from scot_core.lake.promotion import promote
from scot_core.search import Searcher
from scot_core.stages import recipes
from scot_core.stages.benchmark.chosen import choose_combiner
from scot_core.stages.embed.images import embed_images
from tests.rows import no_rows
from tests.running import run_here

SMALL = CaptionsConfig(count=12, queries_per_split=2, gallery=60, shard_rows=6)


def trained_on(lake: Lake, embeddings: Dataset, folder: Path, version: int = 1) -> Dataset:
    torch.manual_seed(version)
    Combiner(int(embeddings.config["spec"]["dim"]), 16, 16).save(folder)
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
