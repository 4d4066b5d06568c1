"""Tables of any number of rows, sorted and joined by DuckDB: in bounded memory, and beyond that on the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.errors import DataError

if TYPE_CHECKING:  # is slow to load, and most commands sort nothing
    import duckdb

BATCH: Final = 20_000  # rows in memory on the way in and out
MEMORY: Final = "256MB"  # of DuckDB, which goes on on the disk


@contextmanager
def database(work: Path, what: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with its files in a folder. Raises DataError, that `what` cannot be done, where the disk is full."""
    import duckdb

    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(work / "overflow"),
        "threads": "2",
        "preserve_insertion_order": "false",  # what must be in order is ordered
        "autoinstall_known_extensions": "false",
    }
    try:
        with duckdb.connect(str(work / "spill.duckdb"), config=options) as connection:
            connection.execute("SET enable_progress_bar = false")  # it goes to standard output
            yield connection
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        why = str(error).splitlines()[0]
        raise DataError(f"{what} in {work} ({why}): is its disk full?") from error


def write(path: Path, schema: pa.Schema, batches: Iterable[Any]) -> None:
    """A Parquet file of batches of rows: columns as Arrow takes them, a row group each."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for columns in batches:
            arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
