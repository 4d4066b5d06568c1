"""The committed datasets of one table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from scot_core.errors import LakeError
from scot_core.lake.dataset import Dataset
from scot_core.lake.fingerprint import digest
from scot_core.lake.manifest import MANIFEST, parse
from scot_core.lake.names import is_key
from scot_core.lake.schema import columns_of
from scot_core.lake.storage import Storage


class Table:
    """The committed datasets of one table."""

    def __init__(self, storage: Storage, name: str) -> None:
        columns_of(name)
        self._storage, self.name = storage, name

    def read(self, keys: Sequence[str] | None = None) -> tuple[list[Dataset], list[LakeError]]:
        """Every committed dataset, oldest first, and why others cannot be read. `keys` are all, where that is known."""
        read = self._storage.each(self._find_or_why, self._storage.names(self.name) if keys is None else keys)
        found = sorted((dataset for dataset in read if isinstance(dataset, Dataset)), key=committed_at)
        return found, [error for error in read if isinstance(error, LakeError)]

    def datasets(self) -> list[Dataset]:
        """Every committed dataset that can be read, oldest first; `read` says which cannot."""
        return self.read()[0]

    def find(self, key: str) -> Dataset | None:
        """The dataset of a key, or None where it was never committed. Raises LakeError where it is damaged."""
        name = f"{self.name}/{key}/{MANIFEST}"
        data = self._storage.read_if_there(name) if is_key(key) else None
        if data is None:
            return None
        dataset = Dataset(self._storage, parse(data, self._storage.path(name), f"{self.name}/{key}"), digest(data))
        self._storage.require_plain(*dataset.paths)  # DuckDB opens them by itself
        return dataset

    def _find_or_why(self, key: str) -> Dataset | LakeError | None:
        try:
            return self.find(key)
        except LakeError as error:
            return error

    def matching(self, *, source: str | None = None, stage: str | None = None) -> list[Dataset]:
        """Committed datasets of a source and stage, oldest first.

        Raises LakeError where one of the table cannot be read: nobody can say that it is not the newest.
        """
        datasets, damaged = self.read()
        if damaged:
            raise damaged[0]
        return [d for d in datasets if source in (None, d.source) and stage in (None, d.stage)]

    def latest(self, *, source: str | None = None, stage: str | None = None, key: str | None = None) -> Dataset:
        """The dataset of a key, else the newest of `matching`. Raises LakeError where there is none, naming what is."""
        one = None if key is None else self.find(key)
        candidates = self.matching(source=source, stage=stage) if key is None else [one] if one else []
        fitting = [d for d in candidates if source in (None, d.source) and stage in (None, d.stage)]
        if not fitting:
            filters = {"source": source, "stage": stage, "key": key}
            wanted = " ".join(f"{name}={value}" for name, value in filters.items() if value is not None) or "any"
            there = ", ".join(d.key for d in self.datasets()) or "nothing"
            raise LakeError(f"{self._storage.path(self.name)} holds no dataset with {wanted} (there is: {there})")
        return fitting[-1]


def committed_at(dataset: Dataset) -> tuple[datetime, str]:
    """What datasets are ordered by; see `Draft.commit` for clocks that were set back."""
    return dataset.created_at, dataset.name
