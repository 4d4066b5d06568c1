"""A committed dataset, and what names it before it exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.errors import LakeError
from scot_core.lake import parts
from scot_core.lake.fingerprint import digest, key_of
from scot_core.lake.manifest import MANIFEST
from scot_core.lake.schema import schema_of
from scot_core.lake.storage import Storage


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
    inputs: Sequence[str] = ()  # "<table>/<key>" of what it is made from

    @property
    def key(self) -> str:
        return key_of(f"{self.source}-{self.stage}", self.fingerprint)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a dataset cost: tokens and money where a model was asked, seconds of work in the last run."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0


class Dataset:
    """A committed dataset. What is read is checked against the manifest first."""

    def __init__(self, storage: Storage, table: str, manifest: Mapping[str, Any], manifest_digest: str) -> None:
        self._storage = storage
        self.table = table
        self.manifest = manifest
        self.digest = manifest_digest

    @property
    def key(self) -> str:
        return str(self.manifest["key"])

    @property
    def fingerprint(self) -> str:
        return str(self.manifest["fingerprint"])

    @property
    def name(self) -> str:
        return f"{self.table}/{self.key}"

    @property
    def rows(self) -> int:
        return int(self.manifest["rows"]["out"])

    @property
    def record(self) -> Record:
        return Record(self.table, self.key, self.rows, int(self.manifest["rows"]["rejected"]), self.digest)

    @cached_property
    def parts(self) -> list[str]:
        """Names of the parts, relative to the lake's root, in order."""
        return [f"{self.name}/{part['name']}" for part in self.manifest["parts"]]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, in order. Raises LakeError where a part is missing or not what was committed."""
        tables = list(self.read_parts(columns))
        if not tables:
            empty = schema_of(self.table).empty_table()
            return empty.select(list(columns)) if columns else empty
        return pa.concat_tables(tables)

    def read_parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The parts one by one, each checked: bounded memory at any size."""
        for index in range(len(self.manifest["parts"])):
            yield self.read_part(index, columns)

    def read_part(self, index: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One part, checked: whole, or in the pages of the columns that are asked for where it is large."""
        entry = self.manifest["parts"][index]
        if columns and entry["bytes"] >= parts.WHOLE_BELOW and "footer" in entry:
            table = parts.read_columns(self._storage, f"{self.name}/{entry['name']}", entry, columns)
            if table is not None:
                return table  # else the digest of the whole says what is wrong
        data = self._checked(entry)
        return pq.read_table(pa.BufferReader(data), columns=list(columns) if columns else None)

    def check(self) -> None:
        """Every file is there with its committed size. Raises LakeError naming the first that is not."""
        for file in [*self.manifest["parts"], *self.manifest["files"]]:
            name = f"{self.name}/{file['name']}"
            if not self._storage.exists(name):
                raise self._damaged(file["name"], "is missing")
            if self._storage.size(name) != file["bytes"]:
                raise self._damaged(file["name"], "does not have the size that was committed")

    def files_in(self, folder: Path) -> Path:
        """Put the dataset's files (weights) into a local folder, checked, and return the folder."""
        for file in self.manifest["files"]:
            target, data = folder / file["name"], self._checked(file)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            except OSError as error:
                raise LakeError(f"cannot write {target}: {error.strerror or error}") from error
        return folder

    def _checked(self, file: Mapping[str, Any]) -> bytes:
        name = f"{self.name}/{file['name']}"
        if not self._storage.exists(name):
            raise self._damaged(file["name"], "is missing")
        data = self._storage.read(name)
        if digest(data) != file["digest"]:
            raise self._damaged(file["name"], "is not what was committed (its digest differs)")
        return data

    def _damaged(self, file: str, what: str) -> LakeError:
        folder = self._storage.path(self.name)
        return LakeError(
            f"{folder}/{file} {what}; remove it and {MANIFEST} beside it, then run again: it will be rebuilt"
        )
