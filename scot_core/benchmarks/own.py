"""Queries of one's own: a table of reference, text and target over any folder of images.

The table is CSV (with a header), JSON lines or Parquet. `target` names one image, or several separated by `|` or as a
list; several rows of one reference and text are one query with all of their targets. Two columns may be there besides:
`subset` names the images among which Rs@1 is measured, `kind` the split that a query is counted in besides `all`.
Images are named by their paths below the gallery's folder; a reference may also lie beside the table. Protocol: the
reference is taken out of the gallery; R@1/5/10 ask for any target.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from scot_core.benchmarks.base import Benchmark, Indices, Query, numpy_of
from scot_core.benchmarks.recalls import recalls
from scot_core.captions.directory import Directory
from scot_core.captions.entries import Refused
from scot_core.captions.tables import TableRow, csv_rows, json_rows, need_columns
from scot_core.errors import ConfigError, DataError
from scot_core.lake.fingerprint import digest
from scot_core.metrics import Floats

NAME: Final = "own"
COLUMNS: Final = ("reference", "text", "target")
SUBSET: Final = "subset"
KIND: Final = "kind"
IMAGES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Fault(StrEnum):
    """Why a row makes no query."""

    MALFORMED = "malformed_row"  # it cannot be read, or a column of it is missing
    REFERENCE_MISSING = "reference_missing"  # no such image in the gallery, and no such file beside the table
    EMPTY_TEXT = "empty_text"
    NO_TARGET = "no_target"
    TARGET_MISSING = "target_missing"  # one of the targets is not in the gallery
    TARGET_IS_REFERENCE = "target_is_reference"
    SUBSET_MISSING = "subset_missing"  # an image of the subset is not in the gallery
    SUBSET_WITHOUT_TARGET = "subset_without_target"
    DUPLICATE = "duplicate_query"  # reference, text and targets stand in rows before


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that makes no query: where it stands, why, and what it says."""

    where: str
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class OwnQueries:
    """The benchmark of a table, how many rows the table has, and the bad ones among them."""

    benchmark: Own
    rows: int
    bad: tuple[BadRow, ...]


class Own(Benchmark):
    name = NAME

    @property
    def splits(self) -> dict[str, Indices]:
        kinds = sorted({kind for query in self.queries for kind in query.groups} - {"all"})
        of = {kind: np.flatnonzero([kind in query.groups for query in self.queries]) for kind in kinds}
        return of | {"all": np.arange(len(self.queries))}

    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        from scot_core import retrieval  # loads torch

        values = recalls(self, queries, gallery)
        if any(query.subset for query in self.queries):
            best = numpy_of(retrieval.order_within(queries, gallery, self.subset_indices()))[:, :1]
            hit = ((best == self.target_indices()) & (best >= 0)).any(axis=1)
            asked = np.array([bool(query.subset) for query in self.queries])
            values["Rs@1"] = np.where(asked, hit.astype(np.float64), np.nan)
        return values


def load(table: str, gallery: Path) -> OwnQueries:
    """Read the queries of a table over the images below a folder.

    Raises ConfigError for a table of an unknown kind, and DataError where the folder holds no image, the table cannot
    be read or lacks a column, or no row of it makes a query.
    """
    images = gallery_of(gallery)
    place, name = _place(table)
    reader = _Reader(Path(place.root), frozenset(images))
    for row in _rows(place, name):
        reader.read(row)
    if not reader.queries:
        reasons = ", ".join(sorted({bad.reason for bad in reader.bad})) or "it has no rows"
        first = f"; first {reader.bad[0].where}: {reader.bad[0].raw[:100]}" if reader.bad else ""
        raise DataError(f"{table} has no query over the images of {gallery} ({reasons}){first}")
    queries = [draft.query() for draft in reader.queries.values()]
    files = {image: image for image in images} | reader.beside
    return OwnQueries(Own("own", queries, images, files), reader.rows, tuple(reader.bad))


def gallery_of(folder: Path) -> list[str]:
    """Every image file below a folder, by its path relative to it; hidden files and folders are passed over.

    Raises DataError where there is none.
    """
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(where).relative_to(folder)
        images = (name for name in names if name.lower().endswith(IMAGES) and not name.startswith("."))
        found += [(below / name).as_posix() for name in images]
    if not found:
        raise DataError(f"{folder} holds no image ({', '.join(IMAGES)}); the gallery is a folder of images")
    return sorted(found)


def _place(table: str) -> tuple[Directory, str]:
    there = Directory.at(table, "the table of queries")
    folder, _, name = there.root.rpartition("/")
    return Directory(there.fs, folder, there.setting), name


def _rows(place: Directory, name: str) -> Iterator[TableRow | Refused]:
    if name.endswith(".csv"):
        return csv_rows(place, name, COLUMNS)
    if name.endswith(".jsonl"):
        return json_rows(place, name)
    if name.endswith(".parquet"):
        return _parquet_rows(place, name)
    raise ConfigError(f"{place.path(name)} is not .csv, .jsonl or .parquet; a table of queries is one of them")


def _parquet_rows(place: Directory, name: str) -> Iterator[TableRow]:
    with place.stream(name) as file:
        parquet = pq.ParquetFile(file)
        there = parquet.schema_arrow.names
        need_columns(there, COLUMNS, place.path(name))
        columns = [*COLUMNS, *(column for column in (SUBSET, KIND) if column in there)]
        for number, values in enumerate(parquet.read(columns).to_pylist(), start=1):
            yield TableRow(values, f"{name} row {number}")


@dataclass(slots=True)
class _Draft:
    """A query while its rows are read."""

    reference: str
    text: str
    targets: dict[str, None]
    subset: dict[str, None]
    kinds: dict[str, None]

    def query(self) -> Query:
        name = digest("\n".join((self.reference, self.text)).encode("utf-8", "surrogatepass"))
        texts, kinds = (self.text,), tuple(self.kinds)
        return Query(name[:16], self.reference, self.text, texts, tuple(self.targets), tuple(self.subset), groups=kinds)


class _Reader:
    """Puts rows together to queries."""

    def __init__(self, folder: Path, images: frozenset[str]) -> None:
        self._folder = folder
        self._images = images
        self.rows = 0
        self.bad: list[BadRow] = []
        self.queries: dict[tuple[str, str], _Draft] = {}
        self.beside: dict[str, str] = {}  # references that lie beside the table: their files

    def read(self, row: TableRow | Refused) -> None:
        self.rows += 1
        if isinstance(row, Refused):
            self.bad.append(BadRow(row.where, Fault.MALFORMED, row.raw))
        elif (fault := self._take(row.values)) is not None:
            self.bad.append(BadRow(row.where, fault, str(dict(row.values))[:2000]))

    def _take(self, values: Mapping[str, Any]) -> Fault | None:
        reference, text = values.get("reference"), values.get("text")
        targets, subset, kind = _names(values.get("target")), _names(values.get(SUBSET)), values.get(KIND)
        if not isinstance(reference, str) or not isinstance(text, str | None) or targets is None or subset is None:
            return Fault.MALFORMED
        if not isinstance(kind, str | None):
            return Fault.MALFORMED
        reference, text = posixpath.normpath(reference.strip()), " ".join((text or "").split())
        fault = self._fault(reference, text, targets, subset)
        if fault is not None:
            return fault
        draft = self.queries.setdefault((reference, text), _Draft(reference, text, {}, {}, {}))
        if draft.targets.keys() >= set(targets) and draft.subset.keys() >= set(subset):
            return Fault.DUPLICATE
        draft.targets.update(dict.fromkeys(targets))
        draft.subset.update(dict.fromkeys(subset))
        if kind and kind.strip():
            draft.kinds[kind.strip()] = None
        return None

    def _fault(self, reference: str, text: str, targets: Sequence[str], subset: Sequence[str]) -> Fault | None:
        if not text:
            return Fault.EMPTY_TEXT
        if not self._is_there(reference):
            return Fault.REFERENCE_MISSING
        if not targets:
            return Fault.NO_TARGET
        if reference in targets:
            return Fault.TARGET_IS_REFERENCE
        if not self._images.issuperset(targets):
            return Fault.TARGET_MISSING
        if not self._images.issuperset(subset):
            return Fault.SUBSET_MISSING
        if subset and not set(subset) & set(targets):
            return Fault.SUBSET_WITHOUT_TARGET
        return None

    def _is_there(self, reference: str) -> bool:
        if reference in self._images or reference in self.beside:
            return True
        path = self._folder / reference
        if path.is_file():
            self.beside[reference] = str(path)
        return path.is_file()


def _names(value: Any) -> list[str] | None:
    """Images of a cell: separated by `|`, or a list; None for what is neither."""
    parts = value.split("|") if isinstance(value, str) else [] if value is None else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        return None
    return list(dict.fromkeys(posixpath.normpath(part.strip()) for part in parts if part.strip()))
