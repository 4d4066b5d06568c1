"""Vectors that are in the lake: read back by id, and continued by the encoder that made them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.config import EmbedConfig, validated
from scot_core.encoders import Encoder, EncoderSpec, load, spec_of
from scot_core.encoders.spec import require_same
from scot_core.errors import DataError, LakeError
from scot_core.lake import Dataset, Lake
from scot_core.spill import BATCH, database, write

if TYPE_CHECKING:  # loads torch
    import duckdb
    import torch

    from scot_core.vectors import Vectors

IDS: Final = pa.schema([("id", pa.string())])
FOUND: Final = """
    CREATE TABLE found AS SELECT asked.file_row_number AS place, there.file_row_number AS row
    FROM asked LEFT JOIN there USING (id)
"""  # apart from their order: both at once need more than DuckDB may have


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


@dataclass(frozen=True, slots=True)
class Stored:
    """The vectors (M, D) of a dataset as they lie in a file, float32, and in another their ids, in the same order."""

    dataset: Dataset
    vectors: torch.Tensor
    ids: Path


def stored(dataset: Dataset, work: Path) -> Stored:
    """The vectors of a dataset in files in the folder `work`, which appear whole, in place of those that are there.

    A part is in memory at a time. Raises DataError where there is no vector.
    """
    import torch

    rows = sum(part.rows for part in dataset.parts)
    if not rows:
        raise DataError(f"{dataset.name} holds no vectors; look at the table `rejects`")
    with tempfile.TemporaryDirectory(dir=work, prefix="vectors-") as name:
        ids, vectors = Path(name) / f"{dataset.key}.ids", Path(name) / f"{dataset.key}.f32"
        with vectors.open("wb") as file:
            write(ids, IDS, ([_written(part, file)] for part in dataset.read_parts(["item_id", "vector"])))
        ids, vectors = (path.replace(work / path.name) for path in (ids, vectors))
    floats = torch.from_file(str(vectors), size=vectors.stat().st_size // 4, dtype=torch.float32)
    return Stored(dataset, floats.view(rows, -1), ids)


def _written(part: pa.Table, file: BinaryIO) -> pa.Array:
    """The ids of a part whose vectors are now in the file."""
    file.write(part["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False).tobytes())
    return part["item_id"].combine_chunks()


def rows_of(asked: Iterable[pa.Array], there: Stored, needed_by: Dataset) -> torch.Tensor:
    """The row (N,) int64 of each id (N,) that is asked for, as they lie in a file that goes with the tensor.

    Raises LakeError for an id without a vector, and DataError where the disk is full.
    """
    import torch

    with tempfile.TemporaryDirectory(dir=there.ids.parent, prefix="rows-") as name:
        work, count = Path(name), 0
        write(work / "asked", IDS, ([ids] for ids in asked))
        with database(work, "vectors cannot be looked up") as connection, (work / "rows").open("wb") as file:
            for view, path in (("asked", work / "asked"), ("there", there.ids)):
                connection.read_parquet(str(path), file_row_number=True).create_view(view)
            connection.execute(FOUND)
            for batch in connection.sql("SELECT row FROM found ORDER BY place").to_arrow_reader(BATCH):
                if batch["row"].null_count:
                    raise _missing(connection, there.dataset, needed_by)
                file.write(batch["row"].to_numpy().astype(np.int64).tobytes())
                count += len(batch)
        if count > pq.read_metadata(work / "asked").num_rows:
            raise LakeError(f"{there.dataset.name} holds two vectors of one id; delete it and run scot/embed again")
        return torch.from_file(str(work / "rows"), size=count, dtype=torch.int64)


def _missing(connection: duckdb.DuckDBPyConnection, dataset: Dataset, needed_by: Dataset) -> LakeError:
    first = connection.cursor().sql(
        "SELECT id FROM asked ANTI JOIN there USING (id) ORDER BY asked.file_row_number LIMIT 1"
    )
    return LakeError(
        f"{dataset.name} has no vector for {first.fetchall()[0][0]}, which {needed_by.name} needs; run scot/embed again"
    )


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
