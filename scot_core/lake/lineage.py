"""What was made from what, by the inputs that manifests name."""

from __future__ import annotations

from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake


def parents(lake: Lake, dataset: Dataset) -> list[Dataset]:
    """The inputs of a dataset, in its own order. Raises LakeError where one is gone."""
    found = []
    for name in map(str, dataset.manifest["inputs"]):
        table, _, key = name.partition("/")
        parent = lake.table(table).find(key)
        if parent is None:
            raise LakeError(f"{name}, which {dataset.name} was made from, is no longer in {lake.url}: run again")
        found.append(parent)
    return found


def ancestor(lake: Lake, dataset: Dataset, table: str) -> Dataset:
    """The nearest dataset of a table that a dataset was made from.

    Generations are searched one after the other: generated triplets come from the captions they were written for,
    not from those that their adapter was tuned on. Raises LakeError where there is none, or one on the way is gone.
    """
    generation = {dataset.name: dataset}
    while generation:
        generation = {parent.name: parent for child in generation.values() for parent in parents(lake, child)}
        for found in generation.values():
            if found.table == table:
                return found
    raise LakeError(f"{dataset.name} was made from nothing in table {table}")
