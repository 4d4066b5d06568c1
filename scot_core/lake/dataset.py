"""A committed dataset, and what names it before it exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scot_core.errors import LakeError
from scot_core.lake.fingerprint import digest, key_of
from scot_core.lake.manifest import MANIFEST, File, Manifest, Part, Usage
from scot_core.lake.names import Reference
from scot_core.lake.schema import schema_of
from scot_core.lake.storage import Storage

if TYPE_CHECKING:  # imported where parts are read
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Record:
    """What a stage hands on: small, JSON-able, enough to find and check a dataset."""

    table: str
    key: str
    rows: int
    rejected: int
    digest: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Names a dataset before it exists. `source` and `stage` group datasets for the views."""

    table: str
    source: str
    stage: str
    fingerprint: str
    config: Mapping[str, Any]
    inputs: Sequence[Reference] = ()

    @property
    def key(self) -> str:
        return key_of(f"{self.source}-{self.stage}", self.fingerprint)

    @property
    def folder(self) -> str:
        """`<table>/<key>`."""
        return f"{self.table}/{self.key}"


class Dataset:
    """A committed dataset. What is read is checked against the manifest first."""

    def __init__(self, storage: Storage, manifest: Manifest, manifest_digest: str) -> None:
        self._storage = storage
        self.manifest = manifest
        self.digest = manifest_digest

    @property
    def table(self) -> str:
        return self.manifest.table

    @property
    def key(self) -> str:
        return self.manifest.key

    @property
    def lake_url(self) -> str:
        """Where the lake is that holds it."""
        return self._storage.url

    @property
    def reference(self) -> Reference:
        return Reference(self.table, self.key)

    @property
    def name(self) -> str:
        """`<table>/<key>`, its folder."""
        return str(self.reference)

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @property
    def source(self) -> str:
        return self.manifest.source

    @property
    def stage(self) -> str:
        return self.manifest.stage

    @property
    def config(self) -> Mapping[str, Any]:
        """What was asked for, as JSON has it: the identity's configuration."""
        return self.manifest.config

    @property
    def inputs(self) -> tuple[Reference, ...]:
        """What it was made from; see `lineage`."""
        return self.manifest.inputs

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.manifest.parts

    @property
    def files(self) -> tuple[File, ...]:
        """What lies beside the parts, such as weights."""
        return self.manifest.files

    @property
    def rows(self) -> int:
        return self.manifest.rows.out

    @property
    def rejected(self) -> int:
        return self.manifest.rows.rejected

    @property
    def usage(self) -> Usage:
        return self.manifest.usage

    @property
    def created_at(self) -> datetime:
        return self.manifest.created_at

    @property
    def record(self) -> Record:
        return Record(self.table, self.key, self.rows, self.rejected, self.digest)

    @property
    def paths(self) -> list[str]:
        """Names of all its parts and files, relative to the lake's root; the parts first, in order."""
        return [f"{self.name}/{entry.name}" for entry in self._entries]

    @property
    def _entries(self) -> list[Part | File]:
        return [*self.parts, *self.files]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, in order. Raises LakeError where a part is missing or not what was committed."""
        import pyarrow as pa

        tables = list(self.read_parts(columns))
        if not tables:
            empty = schema_of(self.table).empty_table()
            return empty.select(list(columns)) if columns else empty
        return pa.concat_tables(tables)

    def read_parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The parts one by one, each checked: bounded memory at any size."""
        for index in range(len(self.parts)):
            yield self.read_part(index, columns)

    def read_part(self, index: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One part, checked: whole, or in the pages of the columns that are asked for where it is large."""
        from scot_core.lake import parts

        part = self.parts[index]
        if columns and part.bytes >= parts.WHOLE_BELOW:
            table = parts.read_columns(self._storage, f"{self.name}/{part.name}", part, columns)
            if table is not None:
                return table  # else the digest of the whole says what is wrong
        return parts.decode(self._checked(part), columns)

    def each(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows one after the other; a part is in memory at a time."""
        for part in self.read_parts(columns):
            yield from part.to_pylist()

    def counts(self, column: str) -> Counter[str]:
        """How often each text of a column is there."""
        return Counter(chain.from_iterable(part[column].to_pylist() for part in self.read_parts([column])))

    def check(self) -> None:
        """Every file is there with its committed size. Raises LakeError naming the first that is not."""
        sizes = self._storage.sizes(self.name)
        self._storage.require_plain(*self.paths)
        for file in self._entries:
            if file.name not in sizes:
                raise self._damaged(file.name, "is missing")
            if sizes[file.name] != file.bytes:
                raise self._damaged(file.name, "does not have the size that was committed")

    def files_in(self, folder: Path, below: str = "") -> Path:
        """Put the dataset's files (weights), those whose names begin so, into a local folder, checked; returns it."""
        for file in (file for file in self.files if file.name.startswith(below)):
            target, data = folder / file.name, self._checked(file)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            except OSError as error:
                raise LakeError(f"cannot write {target}: {error.strerror or error}") from error
        return folder

    def _checked(self, file: Part | File) -> bytes:
        data = self._storage.read_if_there(f"{self.name}/{file.name}")
        if data is None:
            raise self._damaged(file.name, "is missing")
        if digest(data) != file.digest:
            raise self._damaged(file.name, "is not what was committed (its digest differs)")
        return data

    def _damaged(self, file: str, what: str) -> LakeError:
        folder = self._storage.path(self.name)
        return LakeError(
            f"{folder}/{file} {what}; remove it and {MANIFEST} beside it, then run again: it will be rebuilt"
        )
