"""Captions of any number in an order of their own, on the disk, whatever the order in which they came."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.spill import BATCH, write
from scot_core.triplets.spans import key

if TYPE_CHECKING:  # is slow to load
    import duckdb

SCHEMA: Final = pa.schema([(name, pa.string()) for name in ("draw", "words", "pair_id", "text")])

Row = tuple[str, str]  # pair id, text


@dataclass(frozen=True, slots=True)
class Pile:
    """Captions by a digest of their words and the seed; near-duplicates lie together, by pair id."""

    path: Path

    @classmethod
    def of(cls, captions: Iterable[Row], seed: int, work: Path, connection: duckdb.DuckDBPyConnection) -> Pile:
        """Sort captions into a file in `work`."""
        loose, path = work / "loose.parquet", work / "sorted.parquet"
        write(loose, SCHEMA, _drawn(captions, seed))
        order = connection.read_parquet(str(loose)).order("draw, words, pair_id, text")
        write(path, SCHEMA, (part.columns for part in order.to_arrow_reader(BATCH)))
        loose.unlink()
        return cls(path)

    def groups(self) -> Iterator[list[Row]]:
        """The captions of the same words, at least one each."""
        for _, group in groupby(self._rows(), itemgetter(0)):
            yield [(pair, text) for _, pair, text in group]

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(BATCH, columns=["words", "pair_id", "text"]):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _drawn(captions: Iterable[Row], seed: int) -> Iterator[Sequence[Sequence[str]]]:
    rows = iter(captions)
    while batch := list(islice(rows, BATCH)):
        words = [key(text) for _, text in batch]
        draws = [hashlib.blake2b(f"{seed}/{word}".encode(), digest_size=8).hexdigest() for word in words]
        yield draws, words, [pair for pair, _ in batch], [text for _, text in batch]


class Shelf:
    """Rows by number, on the disk: written one after the other, read in any order. Closed by `with`."""

    def __init__(self, folder: Path) -> None:
        self._rows = (folder / "shelf").open("w+b")
        self._ends = (folder / "shelf-ends").open("w+b")
        self._end = 0

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._ends.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Put rows behind those that are there."""
        content = [f"{pair}\n{text}".encode() for pair, text in rows]
        self._rows.write(b"".join(content))
        ends = self._end + np.cumsum([len(row) for row in content], dtype=np.int64)
        self._ends.write(ends.tobytes())
        self._end = int(ends[-1]) if len(ends) else self._end
        self._rows.flush()
        self._ends.flush()

    def __getitem__(self, number: int) -> Row:
        """Raises IndexError for a number that is not there."""
        read = os.pread(self._ends.fileno(), 16 if number else 8, 8 * max(0, number - 1))
        ends = np.frombuffer(read, np.int64)
        if number < 0 or len(ends) < (2 if number else 1):
            raise IndexError(number)
        start, end = (int(ends[0]), int(ends[1])) if number else (0, int(ends[0]))
        pair, _, text = os.pread(self._rows.fileno(), end - start, start).decode().partition("\n")
        return pair, text
