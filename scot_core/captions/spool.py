"""Drawing pairs from entries of any number, in bounded memory, through a file.

Entries are streamed into a temporary Parquet file; DuckDB, told how much memory it may use, draws pairs, finds
duplicates, joins images and puts the rows of one image together. What comes out is again a Parquet file with one row
group a shard. It depends on nothing but the entries and the arguments, so it can always be made again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.captions.entries import Entry, Reason
from scot_core.captions.reader import Reader
from scot_core.lake.fingerprint import digest
from scot_core.lake.schema import pair_id
from scot_core.spill import BATCH, database, write

if TYPE_CHECKING:  # is slow to load
    import duckdb

NAME = "spool.parquet"

ENTRIES = pa.schema(
    [
        ("number", pa.int64()),  # the order in which entries were read
        ("source", pa.string()),
        ("pair_id", pa.string()),
        ("draw", pa.string()),  # a digest of seed and pair id: the smallest are drawn; null for refusals
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("caption", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),
    ]
)
PICTURES = pa.schema([("image_id", pa.string()), ("path", pa.string())])

# all entries of a drawn pair, the first of which counts, and all refusals; rows of one image share a `cluster`
CHOSEN = f"""
    WITH chosen AS (
        SELECT e.*, d.first FROM entries e LEFT JOIN drawn d USING (draw)
        WHERE e.reason IS NOT NULL OR d.draw IS NOT NULL
    ), clusters AS (
        SELECT image_id, min(number) AS cluster FROM chosen WHERE reason IS NULL GROUP BY image_id
    ), paths AS (
        SELECT image_id, min(path) AS path FROM pictures GROUP BY image_id
    )
    SELECT c.source, c.pair_id, c.image_id, coalesce(c.path, p.path) AS path, c.caption,
        CASE WHEN c.number <> c.first THEN '{Reason.DUPLICATE_PAIR}' ELSE c.reason END AS reason,
        CASE WHEN c.number <> c.first THEN c.image_id || ': ' || c.caption ELSE c.raw END AS raw,
        coalesce(g.cluster, c.number) AS cluster
    FROM chosen c LEFT JOIN clusters g USING (image_id) LEFT JOIN paths p USING (image_id)
    ORDER BY cluster, number
"""


@dataclass(frozen=True, slots=True)
class Spool:
    """Drawn rows, by shard. All rows of an image lie in one shard, next to each other.

    A copy in another process, which may be on another machine, holds the file itself.
    """

    file: Path | bytes

    def __reduce__(self) -> tuple[type[Spool], tuple[bytes]]:
        return Spool, (self.file if isinstance(self.file, bytes) else self.file.read_bytes(),)

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(pa.BufferReader(self.file) if isinstance(self.file, bytes) else self.file)

    @property
    def sizes(self) -> list[int]:
        """Rows of each shard."""
        with self._open() as file:
            return [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]

    def shard(self, index: int) -> list[dict[str, Any]]:
        """Rows of source, pair_id, image_id, path, caption, and reason and raw where it is refused already."""
        with self._open() as file:
            rows: list[dict[str, Any]] = file.read_row_group(index).to_pylist()
        return rows


def spool(readers: Sequence[Reader], folder: Path, *, seed: int, one_per_image: bool, shard_rows: int) -> Spool:
    """Draw each reader's `count` pairs and lay them out in shards of about `shard_rows`, in a file in `folder`.

    A file that is there is used as it is: the folder must belong to these readers and settings alone. Raises
    DataError where an annotation file cannot be read to its end.
    """
    path = folder / NAME
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix="spool-") as name:
            work = Path(name)
            write(work / "entries.parquet", ENTRIES, _columns(_entry_rows(readers, seed)))
            pictures = (row for reader in readers for row in reader.pictures())
            write(work / "pictures.parquet", PICTURES, _columns(pictures))
            with database(work, "pairs cannot be drawn") as connection:
                for table in ("entries", "pictures"):
                    connection.read_parquet(str(work / f"{table}.parquet")).create_view(table)
                connection.execute("CREATE TABLE drawn (draw VARCHAR, first BIGINT)")
                for reader in readers:
                    _draw(connection, reader, one_per_image)
                _lay_out(connection, work / NAME, shard_rows)
            (work / NAME).replace(path)
    return Spool(path)


def _entry_rows(readers: Sequence[Reader], seed: int) -> Iterator[tuple[Any, ...]]:
    read = ((reader.source, entry) for reader in readers for entry in reader.entries())
    for number, (source, entry) in enumerate(read):
        if isinstance(entry, Entry):
            pair = pair_id(source, entry.image_id, entry.caption)
            draw = digest(f"{seed}/{pair}".encode())
            yield number, source, pair, draw, entry.image_id, entry.path, entry.caption, None, None
        else:
            refusal = pair_id(source, entry.where, entry.raw)
            yield number, source, refusal, None, None, None, None, entry.reason, f"{entry.where}: {entry.raw}"


def _columns(rows: Iterable[tuple[Any, ...]]) -> Iterator[Iterable[Sequence[Any]]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        yield zip(*batch, strict=True)


def _draw(connection: duckdb.DuckDBPyConnection, reader: Reader, one_per_image: bool) -> None:
    """The pairs of one source with the smallest digests: all of an image's, or its smallest only."""
    pairs = "SELECT draw, any_value(image_id) AS image_id, min(number) AS first FROM entries WHERE source = $source"
    pairs += " AND reason IS NULL GROUP BY draw"
    if one_per_image:
        pairs = f"SELECT min(draw) AS draw, arg_min(first, draw) AS first FROM ({pairs}) GROUP BY image_id"
    limit = "" if reader.count is None else f"ORDER BY draw LIMIT {reader.count}"
    connection.execute(f"INSERT INTO drawn SELECT draw, first FROM ({pairs}) {limit}", {"source": reader.source})


def _lay_out(connection: duckdb.DuckDBPyConnection, path: Path, shard_rows: int) -> None:
    reader = connection.sql(CHOSEN).to_arrow_reader(BATCH)
    with path.open("wb") as file:
        with pq.ParquetWriter(file, reader.schema, compression="zstd") as writer:
            for shard in _cut(reader, shard_rows):
                writer.write_table(shard, row_group_size=len(shard))
        file.flush()
        os.fsync(file.fileno())


def _cut(batches: Iterable[pa.RecordBatch], shard_rows: int) -> Iterator[pa.Table]:
    """Tables of at least `shard_rows` rows (the last may be shorter), cut between clusters."""
    rest: pa.Table | None = None
    for batch in batches:
        table = pa.Table.from_batches([batch])
        rest = table if rest is None else pa.concat_tables([rest, table])
        while len(rest) > shard_rows:
            clusters = rest["cluster"].to_numpy()  # ascending
            end = int(clusters.searchsorted(clusters[shard_rows - 1], side="right"))
            if end == len(rest):  # the cluster may go on in the next batch
                break
            yield rest.slice(0, end)
            rest = rest.slice(end)
    if rest is not None and len(rest):
        yield rest
