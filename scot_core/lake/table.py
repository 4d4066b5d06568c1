"""The committed datasets of one table."""

from __future__ import annotations

from scot_core.errors import LakeError
from scot_core.lake.dataset import Dataset
from scot_core.lake.fingerprint import digest
from scot_core.lake.manifest import MANIFEST, parse
from scot_core.lake.schema import schema_of
from scot_core.lake.storage import Storage


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
