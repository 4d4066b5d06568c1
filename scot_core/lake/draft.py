"""A dataset being written: parts, files and journals, until the manifest commits them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.errors import LakeError
from scot_core.lake import parts
from scot_core.lake.dataset import Dataset, Identity, Usage
from scot_core.lake.fingerprint import digest
from scot_core.lake.manifest import FORMAT, MANIFEST, library_versions
from scot_core.lake.schema import schema_of
from scot_core.lake.storage import TEMPORARY, Journal, Storage
from scot_core.lake.table import Table


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


def _part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"
