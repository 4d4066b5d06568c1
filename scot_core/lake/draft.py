"""A dataset being written: parts, files and journals, until the manifest commits them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import pyarrow as pa
from pydantic import ValidationError

from scot_core.errors import LakeError
from scot_core.lake import parts
from scot_core.lake.dataset import Dataset, Identity
from scot_core.lake.fingerprint import digest
from scot_core.lake.manifest import MANIFEST, File, Manifest, Part, Rows, Usage, library_versions, problems
from scot_core.lake.names import file_name, part_name
from scot_core.lake.schema import TABLES, columns_of, schema_of
from scot_core.lake.storage import TEMPORARY, Journal, Mark, Storage, cache_folder
from scot_core.lake.table import Table


@dataclass(frozen=True, slots=True)
class Written:
    """What this process wrote: where the mark is still the file's, it need not be read again to be committed."""

    mark: Mark
    entry: Part | File
    files: tuple[str, ...] = ()
    characters: Mapping[str, int] | None = None


class Listed(NamedTuple):
    """What there is to commit, and the characters in each column of text, where every part says them."""

    parts: tuple[Part, ...]
    files: tuple[File, ...]
    characters: dict[str, int] | None


@dataclass(slots=True)
class Draft:
    """A dataset being written. Nothing of it exists for readers before `commit`."""

    storage: Storage
    identity: Identity
    _written: dict[str, Written] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return self.identity.folder

    def has_part(self, index: int) -> bool:
        """True where this part is whole, was written for this very fingerprint and place, and its files are there."""
        footer = parts.footer_if_there(self.storage, f"{self.folder}/{part_name(index)}")
        if not self._is_mine(footer, index):
            return False
        return all(self.storage.exists(f"{self.folder}/{file}") for file in footer.files)

    def read_part(self, index: int) -> pa.Table:
        """A finished part of this draft. Raises LakeError where it cannot be read."""
        name = f"{self.folder}/{part_name(index)}"
        data = self.storage.read(name)
        try:
            return parts.decode(data)
        except parts.UNREADABLE as error:
            raise self._unusable(name, f"cannot be read ({error})") from error

    def write_part(self, index: int, rows: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> int:
        """Write one part atomically; the column `key` is added here. Returns the number of rows.

        The `files` that belong to it (weights), by their names in the dataset, are written first: where the part is,
        they are.
        """
        table, files = self._as_table(rows), files or {}
        for name, data in files.items():
            mark = self._write(self._checked(name), data)
            self._remember(mark, File(name=name, bytes=len(data), digest=digest(data)))
        name, data = part_name(index), parts.encode(table, self.identity.fingerprint, sorted(files), index)
        mark, footer = self._write(name, data), parts.read_footer(data)
        assert footer is not None, "it was encoded a moment ago"
        self._remember(mark, parts.part_of(name, data, footer), footer.files, footer.characters)
        return int(table.num_rows)

    def _remember(
        self, mark: Mark | None, entry: Part | File, files: tuple[str, ...] = (),
        characters: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        if mark is not None:  # else another run was first, or the store has no such thing
            self._written[entry.name] = Written(mark, entry, files, characters)

    def _remembered(self, name: str) -> Written | None:
        written = self._written.get(name)
        whole = written is not None and self.storage.mark(f"{self.folder}/{name}") == written.mark
        return written if whole else None

    def journal(self, shard: int) -> Journal:
        """The journal of one shard; it outlives a kill, and goes with the commit's clean-up."""
        return self.storage.journal(f"{self.folder}/_journal/{shard:05d}")

    def work_folder(self) -> Path:
        """A local folder that outlives the run, for checkpoints."""
        folder = self._work_folder
        self.storage.require_inside(f"{self.folder}/_work")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            elsewhere = "" if self.storage.is_local else "; set SCOT_CACHE to a folder that can be written"
            raise LakeError(f"cannot make the folder {folder}: {error.strerror}{elsewhere}") from error
        return folder

    def commit(self, count: int, *, rows_in: int | None, rejected: int = 0, usage: Usage | None = None) -> Dataset:
        """Write the manifest. Raises LakeError where a row would be lost: in must be out + rejected.

        `rows_in` is None where nothing but the parts says how many rows there are.

        What is committed stays as it is: where another run was first, its dataset is returned. It is newer than what it
        was made from and what its table holds, whatever a clock says that was set back.
        """
        listed = self._listed(count)
        rows_out = sum(part.rows for part in listed.parts)
        rows_in = rows_out + rejected if rows_in is None else rows_in
        if rows_in != rows_out + rejected:
            raise LakeError(
                f"{self.folder}: {rows_in} rows went in, but {rows_out} came out and {rejected} were rejected; "
                "nothing was committed. This is a defect of the stage: please report it"
            )
        manifest = self._manifest(listed, Rows(given=rows_in, out=rows_out, rejected=rejected), usage or Usage())
        self.storage.create(f"{self.folder}/{MANIFEST}", manifest.encode())
        self._clean_up()
        committed = self._table.find(self.identity.key)
        assert committed is not None, "a manifest is there: this one, or that of another run"
        return committed

    def _manifest(self, listed: Listed, rows: Rows, usage: Usage) -> Manifest:
        identity = self.identity
        try:
            return Manifest(
                table=identity.table,
                key=identity.key,
                fingerprint=identity.fingerprint,
                source=identity.source,
                stage=identity.stage,
                config=dict(identity.config),
                inputs=tuple(identity.inputs),
                parts=listed.parts,
                files=listed.files,
                rows=rows,
                usage=usage,
                characters=listed.characters,
                versions=library_versions(),
                created_at=self._now(),
            )
        except ValidationError as error:
            raise LakeError(f"{self.folder} cannot be committed ({problems(error)})") from error

    def _now(self) -> datetime:
        tables = {reference.table for reference in self.identity.inputs if reference.table in TABLES}
        known = [d for name in tables | {self.identity.table} for d in Table(self.storage, name).datasets()]
        before = [d.created_at for d in known if d.table == self.identity.table or d.reference in self.identity.inputs]
        return max([datetime.now(UTC), *(moment + timedelta(microseconds=1) for moment in before)])

    @property
    def _table(self) -> Table:
        return Table(self.storage, self.identity.table)

    def _clean_up(self) -> None:
        for name in self.storage.names(self.folder):
            if name in ("_journal", "_work") or name.endswith(TEMPORARY):
                self.storage.remove(f"{self.folder}/{name}")
        shutil.rmtree(self._work_folder, ignore_errors=True)

    @property
    def _work_folder(self) -> Path:
        if self.storage.is_local:
            return Path(self.storage.path(f"{self.folder}/_work"))
        # of this lake and this user: another lake may want the same dataset at the same time
        return cache_folder() / "work" / digest(f"{self.storage.url}\n{self.identity.fingerprint}".encode())

    def _write(self, name: str, data: bytes) -> Mark | None:
        if self.storage.read_if_there(f"{self.folder}/{MANIFEST}") is not None:  # another run was first
            return None
        return self.storage.write(f"{self.folder}/{name}", data)

    def _as_table(self, rows: Mapping[str, Any]) -> pa.Table:
        count = len(next(iter(rows.values())))
        dim = rows["vector"].type.list_size if "vector" in rows else 0
        schema = schema_of(self.identity.table, dim)
        columns = {**rows, "key": [self.identity.key] * count}
        missing = set(schema.names) ^ set(columns)
        if missing:
            raise LakeError(f"{self.folder}: columns {sorted(missing)} do not fit the table {self.identity.table}")
        try:
            return pa.table({name: columns[name] for name in schema.names}, schema=schema)
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            raise LakeError(f"{self.folder}: the rows do not fit the table {self.identity.table}: {error}") from error

    def _checked(self, name: str) -> str:
        try:
            return file_name(name)
        except ValueError as error:
            raise LakeError(f"{self.folder} cannot hold the file {name!r}: {error}") from error

    def _listed(self, count: int) -> Listed:
        """What there is to commit, as it lies in the lake: another run may have written the same parts."""
        listed: list[Part] = []
        names: set[str] = set()
        characters: list[Mapping[str, int] | None] = []
        for index in range(count):
            name = part_name(index)
            written = self._remembered(name)
            if written is not None and isinstance(written.entry, Part):
                listed.append(written.entry)
                names.update(written.files)
                characters.append(written.characters)
                continue
            data = self.storage.read(f"{self.folder}/{name}")
            footer = parts.read_footer(data)
            if not self._is_mine(footer, index) or not parts.is_as_written(data, footer):
                raise self._unusable(f"{self.folder}/{name}", "is damaged, or was written for another dataset or place")
            listed.append(parts.part_of(name, data, footer))
            names.update(footer.files)
            characters.append(footer.characters)
        return Listed(tuple(listed), tuple(self._file(name) for name in sorted(names)), _sum(characters))

    def _is_mine(self, footer: parts.Footer | None, index: int) -> TypeGuard[parts.Footer]:
        """Whether a part was written for this dataset, and for this place in it: a step's datasets share a fingerprint,
        but no columns.
        """
        if footer is None or footer.fingerprint != self.identity.fingerprint or footer.place not in (None, index):
            return False
        return footer.columns == tuple(columns_of(self.identity.table))

    def _file(self, name: str) -> File:
        written = self._remembered(name)
        if written is not None and isinstance(written.entry, File):
            return written.entry
        data = self.storage.read(f"{self.folder}/{name}")
        return File(name=name, bytes=len(data), digest=digest(data))

    def _unusable(self, name: str, what: str) -> LakeError:
        return LakeError(f"{self.storage.path(name)} {what}; remove it and run again: it will be written anew")


def _sum(counts: Iterable[Mapping[str, int] | None]) -> dict[str, int] | None:
    total: Counter[str] = Counter()
    for count in counts:
        if count is None:
            return None
        total.update(count)
    return dict(total)


def files_of(folder: Path, under: str) -> dict[str, bytes]:
    """The files of a local folder, as `write_part` takes them, named `<under>/…`; hidden ones stay behind."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    shown = {path: name for path, name in names.items() if not any(part[0] in "._" for part in name.split("/"))}
    return {f"{under}/{name}": path.read_bytes() for path, name in shown.items()}
