"""Triplets of several kinds in one dataset, whose texts are then embedded, and learned from, together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scot_core.lake import Dataset, Identity, Lake
from scot_core.stages.step import Run, Step, Tick, identities


def joined(run: Run, lake: Lake, given: Sequence[Dataset]) -> Dataset:
    """One dataset of all, in that order, each once; of one that one itself."""
    different = list({dataset.key: dataset for dataset in given}.values())
    return different[0] if len(different) == 1 else run(JoinTriplets(lake, different))["triplets"]


class JoinTriplets(Step):
    """The rows of datasets of `triplets`, one of their parts a shard."""

    stage, name, unit = "generate", "join triplets", "triplets"

    def __init__(self, lake: Lake, given: Sequence[Dataset]) -> None:
        super().__init__(lake)
        self._given = given
        self._parts = [(dataset, index) for dataset in given for index in range(len(dataset.parts))]

    @property
    def outputs(self) -> Mapping[str, Identity]:
        return identities(
            "triplets", source=self._given[0].source, label="generate", sealed_as="generate.joined", version=1,
            config={"of": [given.key for given in self._given]}, inputs=self._given,
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return [dataset.parts[index].rows for dataset, index in self._parts]

    def work(self, shard: int, tick: Tick) -> None:
        dataset, index = self._parts[shard]
        rows = dataset.read_part(index).drop_columns(["key"])
        self.drafts["triplets"].write_part(shard, dict(zip(rows.column_names, rows.columns, strict=True)))
        tick(len(rows))
