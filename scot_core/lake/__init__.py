"""The lake: Parquet datasets that are committed whole or do not exist.

Layout: `<table>/<key>/part-00000.parquet …` and, written last, `_manifest.json`, which is the commit.
Readers go through manifests and nothing else; a file without its manifest does not exist. Every part
carries the fingerprint of its dataset (see `parts`), so an interrupted run keeps its finished parts.
Weights (safetensors, JSON) lie beside the parts and are listed and checked the same way.
"""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING

from scot_core.errors import LakeError
from scot_core.lake import shown
from scot_core.lake.dataset import Dataset, Identity, Record
from scot_core.lake.manifest import MANIFEST, Usage
from scot_core.lake.names import Reference
from scot_core.lake.schema import TABLES
from scot_core.lake.shown import Shown
from scot_core.lake.storage import Storage
from scot_core.lake.succession import current
from scot_core.lake.table import Table, committed_at

if TYPE_CHECKING:
    from scot_core.lake.draft import Draft

__all__ = ["Dataset", "Identity", "Lake", "Record", "Reference", "Table", "Usage"]


MARK, MARKED = ".scot", b'{"format": 1}\n'  # at the root of every lake that was written


class Lake:
    """A lake at a path or any fsspec URL."""

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.storage = Storage(os.fspath(url))
        self.url = self.storage.url

    def table(self, name: str) -> Table:
        """Raises ConfigError for a table that does not exist."""
        return Table(self.storage, name)

    def find(self, identity: Identity) -> Dataset | None:
        """The committed dataset of an identity, or of what it was done again as (`backfill`), its files checked for
        presence and size; or None.
        """
        dataset = self.table(identity.table).find(current(self.storage, identity).key)
        if dataset is not None:
            dataset.check()
        return dataset

    def draft(self, identity: Identity) -> Draft:
        """A dataset being written: that of an identity, or the one that takes its place (`backfill`)."""
        from scot_core.lake.draft import Draft  # with Arrow, which only looking has no use for

        return Draft(self.storage, current(self.storage, identity))

    def read(self) -> tuple[list[Dataset], list[LakeError]]:
        """Every committed dataset of every table, oldest first, and why others cannot be read."""
        if self.storage.is_local:
            read = [self.table(name).read() for name in TABLES]
        else:
            there = self._listed()
            read = self.storage.each(lambda name: self.table(name).read(there[name]), [t for t in TABLES if there[t]])
        found, damaged = (chain.from_iterable(of_tables) for of_tables in zip(*read, strict=True)) if read else ((), ())
        return sorted(found, key=committed_at), list(damaged)

    def shown(self) -> tuple[list[Shown], list[LakeError]]:
        """`read`, as views need it, and a local lake's from an index of what did not change: see `shown`."""
        return shown.read(self)

    def datasets(self) -> list[Dataset]:
        """Every committed dataset that can be read, oldest first."""
        return self.read()[0]

    def damaged(self) -> list[LakeError]:
        """Why datasets are left out of `datasets`, one error for each, which names its file and what to do."""
        return self.shown()[1]

    def uncommitted(self) -> list[str]:
        """`<table>/<key>` of what was begun but has no manifest yet."""
        if self.storage.is_local:
            folders = [f"{table}/{key}" for table in TABLES for key in self.storage.names(table)]
            return [folder for folder in folders if not self.storage.exists(f"{folder}/{MANIFEST}")]
        return [f"{table}/{key}" for table, keys in self._listed(committed=False).items() for key in keys]

    def _listed(self, committed: bool = True) -> dict[str, list[str]]:
        """Keys of each table of an object store, which lists a thousand files a call, whatever folders they are in."""
        files = self.storage.sizes("")
        folders = sorted({tuple(name.split("/")[:2]) for name in files if name.count("/") > 1})
        keys: dict[str, list[str]] = {table: [] for table in TABLES}
        for table, key in folders:
            if table in keys and (f"{table}/{key}/{MANIFEST}" in files) == committed:
                keys[table].append(key)
        return keys

    def write_views(self) -> None:
        """Refresh `views.sql` at the root, for any DuckDB started there."""
        from scot_core.lake.promotion import views

        self.storage.write("views.sql", views(self, self.shown()[0], root="").encode())

    def check_writable(self) -> None:
        """Raises LakeError, before any work is done, where nothing can be written."""
        self.storage.write(MARK, MARKED)
