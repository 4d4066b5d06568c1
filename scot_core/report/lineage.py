"""What a dataset was made from: its inputs, their inputs, and so on, read from the manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake
from scot_core.lake.table import committed_at

WITH_REJECTS = ("captions", "triplets", "phrases", "pseudo_tokens")  # tables whose rejects have the same key


@dataclass(frozen=True)
class Lineage:
    """A dataset, everything it was made from, and the rejects beside those; oldest first."""

    root: Dataset
    datasets: tuple[Dataset, ...]
    missing: tuple[str, ...]
    """`<table>/<key>` of inputs that are no longer in the lake."""

    def find(self, table: str, **filters: str) -> Dataset | None:
        """The newest dataset of a table in the lineage with these attributes (`source=`, `stage=`, `key=`), or None."""
        return _newest(self.datasets, table, filters)

    def given(self, table: str, **filters: str) -> Dataset:
        """The same among the direct inputs of the root. Raises LakeError where there is none."""
        found = _newest(self.inputs(self.root), table, filters)
        if found is None:
            gone = ", ".join(self.missing) or f"a dataset of {table}"
            raise LakeError(f"{self.root.name} cannot be reported on without {gone}, which it was made from: run again")
        return found

    def inputs(self, dataset: Dataset) -> list[Dataset]:
        """The inputs of a dataset that are in the lake, in its own order."""
        known = {d.reference: d for d in self.datasets}
        return [known[reference] for reference in dataset.inputs if reference in known]

    @property
    def seconds(self) -> float:
        """Seconds of work behind everything. Datasets of one step share fingerprint and work, and are counted once."""
        return sum(seconds for _, seconds in {(d.fingerprint, d.usage.seconds) for d in self.datasets})


def trace(lake: Lake, root: Dataset) -> Lineage:
    """Follow the inputs of a dataset back to where they came from."""
    found: dict[str, Dataset] = {root.name: root}
    missing: dict[str, None] = {}
    waiting = [root]
    while waiting:
        dataset = waiting.pop()
        for reference in dataset.inputs:
            name = str(reference)
            there = found.get(name) or lake.table(reference.table).find(reference.key)
            if there is None:
                missing[name] = None
            elif name not in found:
                found[name] = there
                waiting.append(there)
        rejects = lake.table("rejects").find(dataset.key) if dataset.table in WITH_REJECTS else None
        if rejects is not None:
            found[rejects.name] = rejects
    ordered = sorted(found.values(), key=committed_at)
    return Lineage(root, tuple(ordered), tuple(missing))


def _newest(datasets: Sequence[Dataset], table: str, filters: Mapping[str, str]) -> Dataset | None:
    fitting = [d for d in datasets if d.table == table and all(getattr(d, k) == v for k, v in filters.items())]
    return fitting[-1] if fitting else None
