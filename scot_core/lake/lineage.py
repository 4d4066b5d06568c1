"""What a dataset was made from, followed through the manifests."""

from __future__ import annotations

from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake
from scot_core.lake.schema import TABLES


def parents(lake: Lake, dataset: Dataset) -> list[Dataset]:
    """The inputs of a dataset, in its own order. Raises LakeError where one is gone or damaged."""
    return [_input(lake, dataset, place) for place in range(len(dataset.inputs))]


def ancestor(lake: Lake, dataset: Dataset, table: str) -> Dataset:
    """The nearest dataset of a table that a dataset was made from; of equally near ones the first input.

    Raises LakeError where there is none, or it, or what leads to it, is gone or damaged.
    """
    generation, met = [dataset], {dataset.reference}
    while generation:
        following = [(child, place) for child in generation for place in range(len(child.inputs))]
        for child, place in following:
            if child.inputs[place].table == table:
                return _input(lake, child, place)
        generation = []
        for child, place in following:
            if child.inputs[place] not in met:
                met.add(child.inputs[place])
                generation.append(_input(lake, child, place))
    raise LakeError(f"{dataset.name} was made from nothing in table {table}")


def _input(lake: Lake, dataset: Dataset, place: int) -> Dataset:
    reference = dataset.inputs[place]
    found = lake.table(reference.table).find(reference.key) if reference.table in TABLES else None
    if found is None:
        raise LakeError(f"{reference}, which {dataset.name} was made from, is no longer in {lake.url}: run again")
    return found
