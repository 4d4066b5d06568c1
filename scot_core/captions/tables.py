"""Tables of text, row by row: CSV, JSON lines, Parquet. A row that cannot be read is a refusal, not an error."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.captions.entries import Reason, Refused, refused
from scot_core.captions.place import Place
from scot_core.errors import DataError

BATCH = 10_000  # rows of a Parquet file in memory


@dataclass(frozen=True, slots=True)
class Row:
    """Values by column, and where they stand."""

    values: Mapping[str, Any]
    where: str


def csv_rows(
    place: Place, name: str, columns: Sequence[str], aliases: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Row | Refused]:
    """Rows of a CSV file with a header; the separator is `|` where the header holds one, else a comma.

    `aliases` gives other names of columns. Raises DataError where one of `columns` is not there.
    """
    with place.text(name) as file:
        first = file.readline()
        bars = "|" in first
        cells = first.split("|") if bars else next(csv.reader([first]), [])
        header = [aliases.get(cell.strip(), cell.strip()) for cell in cells]
        need_columns(header, columns, place.path(name))
        yield from _split_at_bars(header, file, name) if bars else _quoted(header, csv.reader(file), name)


def _split_at_bars(header: list[str], lines: Iterator[str], name: str) -> Iterator[Row | Refused]:
    """As Kaggle publishes Flickr30K: no quoting, and the last column may hold anything."""
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("|", len(header) - 1)]
        where = f"{name} line {number}"
        if len(cells) != len(header):
            yield refused(Reason.MALFORMED_ENTRY, where, line.strip())
        else:
            yield Row(dict(zip(header, cells, strict=True)), where)


def _quoted(header: list[str], cells: Any, name: str) -> Iterator[Row | Refused]:
    while True:
        try:
            row = next(cells, None)
        except csv.Error as error:  # such as a quote that is never closed; the reader goes on behind it
            yield refused(Reason.MALFORMED_ENTRY, f"{name} line {cells.line_num + 1}", str(error))
            continue
        if row is None:
            return
        where = f"{name} line {cells.line_num + 1}"
        if not row:
            continue
        if len(row) != len(header):
            yield refused(Reason.MALFORMED_ENTRY, where, ",".join(row))
        else:
            yield Row(dict(zip(header, row, strict=True)), where)


def json_rows(place: Place, name: str) -> Iterator[Row | Refused]:
    """One JSON object a line; `.gz` unpacked."""
    with place.text(name) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{name} line {number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                values = None
            yield Row(values, where) if isinstance(values, dict) else refused(Reason.MALFORMED_ENTRY, where, line)


def parquet_rows(place: Place, name: str, columns: Sequence[str]) -> Iterator[Row | Refused]:
    """Some columns of text of a Parquet file. Raises DataError where one is not there, or no text."""
    with place.stream(name) as file:
        parquet = pq.ParquetFile(file)
        need_columns(parquet.schema_arrow.names, columns, place.path(name))
        number = 0
        for batch in parquet.iter_batches(BATCH, columns=list(columns)):
            texts = [_texts(batch.column(column), f"{place.path(name)}: column {column}") for column in columns]
            for values in zip(*texts, strict=True):
                number += 1
                yield Row(dict(zip(columns, values, strict=True)), f"{name} row {number}")


def need_columns(there: Sequence[str], needed: Sequence[str], path: str) -> None:
    """Raises DataError naming what is missing and what is there."""
    missing = [name for name in needed if name not in there]
    if missing:
        raise DataError(f"{path} has no column {' or '.join(missing)}; there is {', '.join(map(str, there))}")


def _texts(column: pa.Array, what: str) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not any(kind(column.type) for kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise DataError(f"{what} is {column.type}, not text")
    # as bytes, since Parquet does not promise that its text is UTF-8
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
