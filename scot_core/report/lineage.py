"""What a dataset was made from: its inputs, their inputs, and so on, read from the manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake


@dataclass(frozen=True)
class Lineage:
    """A dataset, everything it was made from, and the rejects beside those; oldest first."""

    root: Dataset
    datasets: tuple[Dataset, ...]
    missing: tuple[str, ...]
    """`<table>/<key>` of inputs that are no longer in the lake."""

    def find(self, table: str, **filters: Any) -> Dataset | None:
        """The newest dataset of a table in the lineage whose manifest has these values, or None."""
        of_table = [d for d in self.datasets if d.table == table]
        fitting = [d for d in of_table if all(d.manifest.get(k) == v for k, v in filters.items())]
        return fitting[-1] if fitting else None

    def get(self, table: str, **filters: Any) -> Dataset:
        """As `find`, but raises LakeError where there is none."""
        found = self.find(table, **filters)
        if found is None:
            gone = ", ".join(self.missing) or table
            raise LakeError(f"{self.root.name} cannot be reported on: {gone} is not in the lake; run `scot run` again")
        return found

    def inputs(self, dataset: Dataset) -> list[Dataset]:
        """The inputs of a dataset that are in the lake, in its own order."""
        known = {d.name: d for d in self.datasets}
        return [known[name] for name in dataset.manifest["inputs"] if name in known]

    @property
    def seconds(self) -> float:
        """Seconds of work behind everything. Datasets of one step share a fingerprint and are counted once."""
        return sum({d.fingerprint: float(d.manifest["usage"]["seconds"]) for d in self.datasets}.values())


def trace(lake: Lake, root: Dataset) -> Lineage:
    """Follow the inputs of a dataset back to where they came from."""
    found: dict[str, Dataset] = {root.name: root}
    missing: dict[str, None] = {}
    waiting = [root]
    while waiting:
        dataset = waiting.pop()
        names = list(dataset.manifest["inputs"])
        if dataset.table == "triplets":
            names.append(f"rejects/{dataset.key}")  # both come from the same replies
        for name in names:
            if name in found or name in missing:
                continue
            table, key = name.split("/")
            there = lake.table(table).find(key)
            if there is None:
                missing[name] = None
            else:
                found[name] = there
                waiting.append(there)
    ordered = sorted(found.values(), key=lambda d: str(d.manifest["created_at"]))
    return Lineage(root, tuple(ordered), tuple(missing))


def own_inputs(dataset: Dataset) -> Mapping[str, str]:
    """Table to key of a dataset's direct inputs; the first of a table counts."""
    pairs = [str(name).split("/") for name in reversed(dataset.manifest["inputs"])]
    return {table: key for table, key in pairs}
