"""Vectors that are in the lake: read back by id, and continued by the encoder that made them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scot_core.config import EmbedConfig, validated
from scot_core.encoders import Encoder, EncoderSpec, load, spec_of
from scot_core.encoders.spec import require_same
from scot_core.errors import DataError, LakeError
from scot_core.lake import Dataset, Lake

if TYPE_CHECKING:  # loads torch
    import torch

    from scot_core.vectors import Vectors


def vectors_by_id(datasets: Sequence[Dataset]) -> tuple[dict[str, int], Vectors]:
    """All vectors of some datasets, (n, D) float32, and the row of each id."""
    ids: list[str] = []
    blocks = []
    for dataset in datasets:
        for part in dataset.read_parts(["item_id", "vector"]):
            ids += part["item_id"].to_pylist()
            column = part["vector"].combine_chunks()
            blocks.append(column.flatten().to_numpy(zero_copy_only=False).reshape(len(part), column.type.list_size))
    if not blocks:
        raise DataError(f"{', '.join(d.name for d in datasets)} holds no vectors; look at the table `rejects`")
    return {item: row for row, item in enumerate(ids)}, np.concatenate(blocks)


def vectors_in_file(dataset: Dataset, path: Path) -> tuple[pa.ChunkedArray, Path, int]:
    """The ids of a dataset's vectors, the file they were written to, float32 row by row, and how wide they are.

    A part is in memory at a time. The file appears whole, in place of one that is there.
    """
    blocks, width = [], 0
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with temporary.open("wb") as file:
        for part in dataset.read_parts(["item_id", "vector"]):
            blocks.append(part["item_id"].combine_chunks())
            column = part["vector"].combine_chunks()
            width = column.type.list_size
            file.write(column.flatten().to_numpy(zero_copy_only=False).tobytes())
    if not width:
        temporary.unlink()
        raise DataError(f"{dataset.name} holds no vectors; look at the table `rejects`")
    temporary.replace(path)
    return pa.chunked_array(blocks), path, width


def tensor_in_file(dataset: Dataset, work: Path) -> tuple[pa.ChunkedArray, torch.Tensor]:
    """Ids (M,) and vectors (M, D), these as they lie in a file in the folder `work`."""
    import torch

    ids, path, width = vectors_in_file(dataset, work / f"{dataset.key}.f32")
    return ids, torch.from_file(str(path), size=len(ids) * width, dtype=torch.float32).view(-1, width)


def rows_of(asked: pa.ChunkedArray, ids: pa.ChunkedArray, dataset: Dataset, needed_by: Dataset) -> torch.Tensor:
    """The row (N,) int64 of each id (N,) that is asked for. Raises LakeError for an id that the dataset has not."""
    import torch

    rows = pc.index_in(asked, value_set=ids)
    if rows.null_count:
        missing = asked.filter(pc.is_null(rows))[0].as_py()
        raise LakeError(
            f"{dataset.name} has no vector for {missing}, which {needed_by.name} needs; run scot/embed again"
        )
    return torch.from_numpy(rows.to_numpy().astype(np.int64))


def spec_for(config: EmbedConfig, lake: Lake) -> EncoderSpec:
    """The spec of the encoder that a configuration names. Raises what `scot_core.encoders.spec_of` raises."""
    c = config
    return spec_of(c.encoder, revision=c.revision, pooling=c.pooling, precision=c.precision, lake=lake)


def made_by(dataset: Dataset) -> EncoderSpec:
    """The spec of the encoder that made a dataset of embeddings."""
    return EncoderSpec.model_validate(dataset.config["spec"])


def require_made_by(dataset: Dataset, here: EncoderSpec) -> None:
    """Raises `ModelError` where the encoder that is here would give other vectors than the dataset's."""
    require_same(made_by(dataset), here, dataset.name)


def config_of(lake: Lake, dataset: Dataset) -> EmbedConfig:
    """What more vectors in a dataset's space are embedded with, by the very weights.

    Raises `ModelError` where those are not here, or what is here would give other vectors.
    """
    used = validated(EmbedConfig, {**settings_of(dataset), "revision": made_by(dataset).revision})
    require_made_by(dataset, spec_for(used, lake))
    return used


def settings_of(dataset: Dataset) -> dict[str, Any]:
    """The settings that a dataset of embeddings was made with."""
    return {name: dataset.config[name] for name in EmbedConfig().identity() if name in dataset.config}


def encoder_of(dataset: Dataset, *, device: str | None = None) -> Encoder:
    """The encoder that made a dataset of embeddings, for more vectors in their space.

    Raises `ModelError` where its weights are not here, or what is here would give other vectors.
    """
    config, made = dataset.config, made_by(dataset)
    encoder = load(
        made.name,
        revision=config.get("revision") or made.revision,
        pooling=config.get("pooling"),
        precision=config.get("precision"),
        device=device,
        lake=Lake(dataset.lake_url),
    )
    require_made_by(dataset, encoder.spec)
    return encoder
