"""The lake: Parquet datasets that are committed whole or do not exist.

Layout: `<table>/<key>/part-00000.parquet …` and, written last, `_manifest.json`, which is the commit.
Readers go through manifests and nothing else; a file without its manifest does not exist. Every part
carries the fingerprint of its dataset (see `parts`), so an interrupted run keeps its finished parts.
Weights (safetensors, JSON) lie beside the parts and are listed and checked the same way.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scot_core import parts
from scot_core.errors import LakeError
from scot_core.fingerprint import digest, key_of
from scot_core.manifest import FORMAT, MANIFEST, library_versions, parse
from scot_core.schema import TABLES, schema_of
from scot_core.storage import TEMPORARY, Journal, Storage
from scot_core.views import render_views


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


@dataclass(slots=True)
class Draft:
    """A dataset being written. Nothing of it exists for readers before `commit`."""

    storage: Storage
    identity: Identity
    _files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"{self.identity.table}/{self.identity.key}"

    def has_part(self, index: int) -> bool:
        """True where this part is whole and was written for this very fingerprint."""
        name = f"{self.folder}/{_part_name(index)}"
        if not self.storage.exists(name):
            return False
        footer = parts.footer_of(self.storage, name)
        return footer is not None and footer.fingerprint == self.identity.fingerprint

    def read_part(self, index: int) -> pa.Table:
        """A finished part of this draft. Raises LakeError where it cannot be read."""
        name = f"{self.folder}/{_part_name(index)}"
        data = self.storage.read(name)
        try:
            return pq.read_table(pa.BufferReader(data))
        except parts.UNREADABLE as error:
            raise self._unusable(name, f"cannot be read ({error})") from error

    def write_part(self, index: int, rows: Mapping[str, Any]) -> int:
        """Write one part atomically; the column `key` is added here. Returns the number of rows."""
        table = self._as_table(rows)
        self._write(_part_name(index), parts.encode(table, self.identity.fingerprint))
        return int(table.num_rows)

    def write_files(self, folder: Path) -> None:
        """Take the files of a local folder (weights) into the dataset; hidden ones stay behind."""
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not any(part.startswith(("_", ".")) for part in name.split("/")):
                data = path.read_bytes()
                self._write(name, data)
                self._files[name] = {"name": name, "bytes": len(data), "digest": digest(data)}

    def journal(self, shard: int) -> Journal:
        """The journal of one shard; it outlives a kill, and goes with the commit's clean-up."""
        return self.storage.journal(f"{self.folder}/_journal/{shard:05d}")

    def work_folder(self) -> Path:
        """A local folder that outlives the run, for checkpoints."""
        folder = self._work_folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LakeError(f"cannot make the folder {folder}: {error.strerror}") from error
        return folder

    def commit(self, count: int, *, rows_in: int, rejected: int = 0, usage: Usage | None = None) -> Dataset:
        """Write the manifest. Raises LakeError where a row would be lost: in must be out + rejected.

        What is committed stays as it is: where another run was first, its dataset is returned.
        """
        listed = [self._part_entry(index) for index in range(count)]
        rows_out = sum(entry["rows"] for entry in listed)
        if rows_in != rows_out + rejected:
            raise LakeError(
                f"{self.folder}: {rows_in} rows went in, but {rows_out} came out and {rejected} were rejected; "
                "nothing was committed. This is a defect of the stage: please report it"
            )
        manifest = {
            "format": FORMAT,
            "table": self.identity.table,
            "key": self.identity.key,
            "fingerprint": self.identity.fingerprint,
            "source": self.identity.source,
            "stage": self.identity.stage,
            "config": dict(self.identity.config),
            "inputs": list(self.identity.inputs),
            "parts": listed,
            "files": [self._files[name] for name in sorted(self._files)],
            "rows": {"in": rows_in, "out": rows_out, "rejected": rejected},
            "usage": asdict(usage or Usage()),
            "versions": library_versions(),
            "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        }
        data = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
        self.storage.create(f"{self.folder}/{MANIFEST}", data)
        self._clean_up()
        committed = Table(self.storage, self.identity.table).find(self.identity.key)
        assert committed is not None, "a manifest is there: this one, or that of another run"
        return committed

    def _clean_up(self) -> None:
        for name in self.storage.names(self.folder):
            if name in ("_journal", "_work") or name.endswith(TEMPORARY):
                self.storage.remove(f"{self.folder}/{name}")
        shutil.rmtree(self._work_folder, ignore_errors=True)

    @property
    def _work_folder(self) -> Path:
        if self.storage.is_local:
            return Path(self.storage.path(f"{self.folder}/_work"))
        return Path(tempfile.gettempdir()) / "scot" / self.identity.fingerprint

    def _write(self, name: str, data: bytes) -> None:
        if not self.storage.exists(f"{self.folder}/{MANIFEST}"):  # else another run was first
            self.storage.write(f"{self.folder}/{name}", data)

    def _as_table(self, rows: Mapping[str, Any]) -> pa.Table:
        count = len(next(iter(rows.values())))
        dim = rows["vector"].type.list_size if "vector" in rows else None
        schema = schema_of(self.identity.table, dim)
        columns = {**rows, "key": [self.identity.key] * count}
        missing = set(schema.names) ^ set(columns)
        if missing:
            raise LakeError(f"{self.folder}: columns {sorted(missing)} do not fit the table {self.identity.table}")
        try:
            return pa.table({name: columns[name] for name in schema.names}, schema=schema)
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            raise LakeError(f"{self.folder}: the rows do not fit the table {self.identity.table}: {error}") from error

    def _part_entry(self, index: int) -> dict[str, Any]:
        name = _part_name(index)
        data = self.storage.read(f"{self.folder}/{name}")
        footer = parts.read_footer(data)
        if footer is None or footer.fingerprint != self.identity.fingerprint:
            raise self._unusable(f"{self.folder}/{name}", "is damaged, or was written for another dataset")
        return parts.entry_of(name, data, footer)

    def _unusable(self, name: str, what: str) -> LakeError:
        return LakeError(f"{self.storage.path(name)} {what}; remove it and run again: it will be written anew")


class Table:
    """The committed datasets of one table."""

    def __init__(self, storage: Storage, name: str) -> None:
        schema_of(name)
        self._storage, self.name = storage, name

    def datasets(self) -> list[Dataset]:
        """Every committed dataset, oldest first."""
        found = [self.find(key) for key in self._storage.names(self.name)]
        committed = [dataset for dataset in found if dataset is not None]
        return sorted(committed, key=lambda dataset: str(dataset.manifest["created_at"]))

    def find(self, key: str) -> Dataset | None:
        """The dataset of a key, or None where it was never committed."""
        name = f"{self.name}/{key}/{MANIFEST}"
        if not self._storage.exists(name):
            return None
        data = self._storage.read(name)
        manifest = parse(data, self._storage.path(name), f"{self.name}/{key}")
        return Dataset(self._storage, self.name, manifest, digest(data))

    def matching(self, **filters: str) -> list[Dataset]:
        """Committed datasets whose manifest has these values (`source=`, `stage=`, `key=`), oldest first."""
        return [d for d in self.datasets() if all(d.manifest.get(name) == value for name, value in filters.items())]

    def latest(self, **filters: str) -> Dataset:
        """The newest of `matching`. Raises LakeError where there is none, naming what is there."""
        fitting = self.matching(**filters)
        if not fitting:
            wanted = " ".join(f"{name}={value}" for name, value in filters.items()) or "any"
            there = ", ".join(d.key for d in self.datasets()) or "nothing"
            raise LakeError(f"{self._storage.path(self.name)} holds no dataset with {wanted} (there is: {there})")
        return fitting[-1]


class Lake:
    """A lake at a path or any fsspec URL."""

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.storage = Storage(os.fspath(url))
        self.url = self.storage.url

    def table(self, name: str) -> Table:
        """Raises ConfigError for a table that does not exist."""
        return Table(self.storage, name)

    def find(self, identity: Identity) -> Dataset | None:
        """The committed dataset of an identity, its files checked for presence and size; or None."""
        dataset = self.table(identity.table).find(identity.key)
        if dataset is not None:
            dataset.check()
        return dataset

    def draft(self, identity: Identity) -> Draft:
        return Draft(self.storage, identity)

    def datasets(self) -> list[Dataset]:
        """Every committed dataset of every table, oldest first."""
        everything = [dataset for name in TABLES for dataset in self.table(name).datasets()]
        return sorted(everything, key=lambda dataset: str(dataset.manifest["created_at"]))

    def uncommitted(self) -> list[str]:
        """`<table>/<key>` of what was begun but has no manifest yet."""
        folders = [f"{table}/{key}" for table in TABLES for key in self.storage.names(table)]
        return [folder for folder in folders if not self.storage.exists(f"{folder}/{MANIFEST}")]

    def write_views(self) -> None:
        """Refresh `views.sql` at the root, for any DuckDB started there."""
        views = render_views([(dataset.table, dataset.manifest) for dataset in self.datasets()], root="")
        self.storage.write("views.sql", views.encode())

    def check_writable(self) -> None:
        """Raises LakeError, before any work is done, where nothing can be written."""
        self.storage.write(".scot", b'{"format": 1}\n')


def _part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"
