"""Doing shards of a committed dataset again: the next run works on these, and on nothing else of it.

The successor (see `succession`) begins with every other part: the rows as they are, but for the column that names their
dataset. The next run with the settings of the dataset finds those parts done, as after a kill, and does the rest: rows
in = rows out + rejects is checked at its commit as at any other. The old dataset stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.succession import backfilled, record, successor

TABLES = ("captions", "galleries", "replies", "embeddings")  # the rest is one shard, or read from what can be redone


@dataclass(frozen=True, slots=True)
class Backfill:
    """Shards of a dataset to do again, with those of the rejects that were written beside it."""

    dataset: Dataset
    rejects: Dataset | None
    shards: tuple[int, ...]
    matching: int
    """Rows that are the reason why."""

    @property
    def rows(self) -> int:
        """Rows that are done again: those that were kept, and those that were rejected."""
        return sum(made.parts[shard].rows for made in self.made for shard in self.shards)

    @property
    def usd(self) -> float:
        """What was paid for the replies that are asked for again."""
        if self.dataset.table != "replies":
            return 0.0
        return sum(sum(self.dataset.read_part(shard, ["usd"])["usd"].to_pylist()) for shard in self.shards)

    @property
    def made(self) -> list[Dataset]:
        return [self.dataset] if self.rejects is None else [self.rejects, self.dataset]


def backfills(lake: Lake, table: str, matching: Mapping[str, Mapping[int, int]]) -> list[Backfill]:
    """What is to be done again.

    Args:
        table: one of `TABLES`, or `rejects` for what was written beside one.
        matching: of datasets of the table by key, rows that match by shard.

    Raises ConfigError where a dataset is not made in shards of its own, or was succeeded already.
    """
    return [_backfill(lake, table, key, shards) for key, shards in matching.items() if shards]


def _backfill(lake: Lake, table: str, key: str, shards: Mapping[int, int]) -> Backfill:
    beside = {name: lake.table(name).find(key) for name in (*TABLES, "rejects")}
    dataset = beside[table] if table in TABLES else next((beside[name] for name in TABLES if beside[name]), None)
    if dataset is None:
        raise ConfigError(
            f"{table}/{key} is not made in shards of its own: its rows are read from replies, or are one result. Redo "
            'those: scot backfill replies --where "pair_id in (select pair_id from rejects where …)"'
        )
    if dataset.table in backfilled(lake.storage, key):
        raise ConfigError(f"{dataset.name} is being done again already: let `scot run` finish that, then look again")
    if "answered" in dataset.config:
        raise ConfigError(f"{dataset.name} is what a budget paid for: raise seed.max_usd and run again instead")
    rejects = beside["rejects"] if dataset.table != "galleries" else None
    for made in filter(None, (dataset, rejects)):
        if made.files or len(made.parts) != len(dataset.parts):
            raise ConfigError(f"{made.name} is not made in shards of its own: change a setting, and run again")
    return Backfill(dataset, rejects, tuple(sorted(shards)), sum(shards.values()))


def begin(lake: Lake, backfill: Backfill, where: str) -> Identity:
    """Copy what stays and write down what is done again, in this order: a kill in between changes nothing.

    Returns the identity of the successor. Raises LakeError where a part is not what was committed.
    """
    shards, identities = list(backfill.shards), {}
    for made in backfill.made:
        identities[made.table] = successor(_identity(made), shards)
        _copy(lake, made, identities[made.table], shards)
    entry = {"shards": shards, "where": where, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    record(lake.storage, backfill.dataset.key, {table: {**entry, "to": to.key} for table, to in identities.items()})
    return identities[backfill.dataset.table]


def _copy(lake: Lake, made: Dataset, to: Identity, but: Sequence[int]) -> None:
    draft = lake.draft(to)
    for index, part in enumerate(made.parts):
        if index in but or draft.has_part(index):
            continue
        table = made.read_part(index).drop_columns(["key"])
        if draft.write_part(index, dict(zip(table.column_names, table.columns, strict=True))) != part.rows:
            raise LakeError(f"{to.folder} does not hold every row of {made.name}, part {index}: please report it")


def _identity(made: Dataset) -> Identity:
    return Identity(made.table, made.source, made.stage, made.fingerprint, made.config, made.inputs)
