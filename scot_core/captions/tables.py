"""Tables of text, row by row: CSV, JSON lines, Parquet. A row that cannot be read is a refusal, not an error."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.captions.directory import Directory
from scot_core.captions.entries import Reason, Refused, refused
from scot_core.errors import DataError

BATCH = 10_000  # rows of a Parquet file in memory
MOST_LINES = 100  # of one row of CSV; captions have 1,000 characters at most


@dataclass(frozen=True, slots=True)
class TableRow:
    """Values by column, and where they stand."""

    values: Mapping[str, Any]
    where: str


def csv_rows(
    place: Directory, name: str, columns: Sequence[str], aliases: Mapping[str, str] = MappingProxyType({})
) -> Iterator[TableRow | Refused]:
    """Rows of a CSV file with a header; the separator is `|` where the header holds one, else a comma.

    `aliases` gives other names of columns. Raises DataError where one of `columns` is not there.
    """
    with place.text(name) as file:
        first = next(file, "")
        bars = "|" in first
        cells = first.split("|") if bars else next(csv.reader([first]), [])
        header = [aliases.get(cell.strip(), cell.strip()) for cell in cells]
        need_columns(header, columns, place.path(name))
        yield from _split_at_bars(header, file, name) if bars else _quoted(header, file, name)


def _split_at_bars(header: list[str], lines: Iterator[str], name: str) -> Iterator[TableRow | Refused]:
    """As Kaggle publishes Flickr30K: no quoting, and the last column may hold anything."""
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("|", len(header) - 1)]
        where = f"{name} line {number}"
        if len(cells) != len(header):
            yield refused(Reason.MALFORMED_ENTRY, where, line.strip())
        else:
            yield TableRow(dict(zip(header, cells, strict=True)), where)


class _Lines:
    """Lines below a header, for csv.reader: the row it is at takes some, and may give them back.

    Attributes:
        number: of the line taken last.
        taken: the lines of the row.
        ran_out: whether a quote was open where the file ended, or after MOST_LINES lines.
    """

    def __init__(self, below: Iterator[str]) -> None:
        self._below, self._back = below, deque[str]()
        self.number = 1
        self.begin()

    def begin(self) -> None:
        """Another row."""
        self.taken: list[str] = []
        self.ran_out = False

    def keep_first(self) -> str:
        """The row is its first line, and the others are still to come."""
        self._back.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
        return self.taken[0]

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = None
        if len(self.taken) < MOST_LINES:
            line = self._back.popleft() if self._back else next(self._below, None)
        if line is None:
            self.ran_out = True
            raise StopIteration
        self.taken.append(line)
        self.number += 1
        return line


def _quoted(header: list[str], below: Iterator[str], name: str) -> Iterator[TableRow | Refused]:
    lines = _Lines(below)
    cells = csv.reader(lines)
    while True:
        lines.begin()
        row, problem = None, ""
        try:
            row = next(cells, None)
        except csv.Error as error:  # the reader goes on behind it
            problem = str(error)
        if not lines.taken:
            return
        if lines.ran_out or (len(lines.taken) > 1 and not _is_one_row(lines.taken)):
            # A quote that is not closed where it should be costs its own line, not those below.
            problem = f"a quote that is not closed: {lines.keep_first()}"
        where = f"{name} line {lines.number}"
        if problem:
            yield refused(Reason.MALFORMED_ENTRY, where, problem)
        elif row and len(row) != len(header):
            yield refused(Reason.MALFORMED_ENTRY, where, ",".join(row))
        elif row:
            yield TableRow(dict(zip(header, row, strict=True)), where)


def _is_one_row(lines: Sequence[str]) -> bool:
    """Whether quotes begin and end where fields do, as they do in a caption of several lines."""
    try:
        return len(list(csv.reader(lines, strict=True))) == 1
    except csv.Error:
        return False


def json_rows(place: Directory, name: str) -> Iterator[TableRow | Refused]:
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
            yield TableRow(values, where) if isinstance(values, dict) else refused(Reason.MALFORMED_ENTRY, where, line)


def parquet_rows(place: Directory, name: str, columns: Sequence[str]) -> Iterator[TableRow | Refused]:
    """Some columns of text of a Parquet file. Raises DataError where one is not there, or no text."""
    with place.stream(name) as file:
        parquet = pq.ParquetFile(file)
        need_columns(parquet.schema_arrow.names, columns, place.path(name))
        number = 0
        for batch in parquet.iter_batches(BATCH, columns=list(columns)):
            texts = [_texts(batch.column(column), f"{place.path(name)}: column {column}") for column in columns]
            for values in zip(*texts, strict=True):
                number += 1
                yield TableRow(dict(zip(columns, values, strict=True)), f"{name} row {number}")


def need_columns(there: Sequence[str], needed: Sequence[str], path: str) -> None:
    """Raises DataError naming what is missing and what is there, or what is there twice."""
    missing = [name for name in needed if name not in there]
    if missing:
        raise DataError(f"{path} has no column {' or '.join(missing)}; there is {', '.join(map(str, there))}")
    twice = [name for name in needed if there.count(name) > 1]
    if twice:
        raise DataError(f"{path} has several columns {' and '.join(twice)}: leave one of each")


def _texts(column: pa.Array, what: str) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not any(kind(column.type) for kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise DataError(f"{what} is {column.type}, not text")
    # as bytes, since Parquet does not promise that its text is UTF-8
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in raw]
