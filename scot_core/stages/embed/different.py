"""Texts of any number, every different one once and in order, on the disk: some are in memory at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from scot_core.spill import BATCH, database, write

NAME = "texts.arrow"
TEXTS = pa.schema([("text", pa.string())])


@dataclass(frozen=True, slots=True)
class Different:
    """Texts by code points, in an Arrow file whose record batches are shards: all have `sizes[0]` but the last."""

    path: Path
    sizes: tuple[int, ...]

    def shard(self, index: int) -> list[str]:
        with pa.OSFile(str(self.path)) as file:
            texts: list[str] = pa.ipc.open_file(file).get_batch(index)["text"].to_pylist()
        return texts


def different(texts: Iterable[pa.Array], folder: Path, shard_rows: int) -> Different:
    """Sort texts, which may be repeated and come in any order, into a file in `folder`.

    A file that is there is used as it is: the folder must belong to these texts and this size alone. Raises DataError
    where the disk is full.
    """
    path = folder / NAME
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix="texts-") as name:
            work = Path(name)
            write(work / "every.parquet", TEXTS, ([some] for some in texts))
            with database(work, "texts cannot be sorted") as connection:
                every = connection.read_parquet(str(work / "every.parquet"))
                _lay_out(every.distinct().order("text").to_arrow_reader(BATCH), work / NAME, shard_rows)
            (work / NAME).replace(path)
    with pa.OSFile(str(path)) as file:
        shards = pa.ipc.open_file(file)
        count = shards.num_record_batches
        last = [shards.get_batch(count - 1).num_rows] if count else []
    return Different(path, (*[shard_rows] * (count - 1), *last))


def _lay_out(batches: Iterable[pa.RecordBatch], path: Path, shard_rows: int) -> None:
    with path.open("wb") as file:
        with pa.ipc.new_file(file, TEXTS, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            for shard in _cut(batches, shard_rows):
                writer.write_batch(pa.record_batch([shard], schema=TEXTS))
        file.flush()
        os.fsync(file.fileno())


def _cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Array]:
    """The texts in arrays of so many rows; the last may be shorter."""
    rest = pa.array([], pa.string())
    for batch in batches:
        rest = pa.concat_arrays([rest, batch["text"]])
        while len(rest) >= rows:
            yield rest.slice(0, rows)
            rest = rest.slice(rows)
    if len(rest):
        yield rest
