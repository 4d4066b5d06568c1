"""The shape that everything a stage does has: work in shards, and steps, which are work that ends in datasets."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.lake.fingerprint import fingerprint

if TYPE_CHECKING:
    from scot_core.lake.draft import Draft

Tick = Callable[[int], None]
Committed = Mapping[str, Dataset]  # by table


class Work(ABC):
    """Work on one lake that commits nothing: what it finds out, it keeps itself.

    `run` may be called for different shards at once from several threads, at most `parallel` of them.
    """

    stage: str  # the stage it belongs to, for progress and logs
    name: str  # what it does, in a few words
    unit: str = "rows"
    parallel: int = 1
    spreads: bool = False
    """Whether its shards may be done by copies in other processes, which leave nothing but their parts."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._lock = threading.Lock()
        self._seconds = 0.0

    @property
    @abstractmethod
    def folder(self) -> str:
        """Where in the lake it keeps what is done before all of it is."""

    @abstractmethod
    def shards(self) -> Sequence[int]:
        """Rows (or other units) of each shard."""

    @abstractmethod
    def work(self, shard: int, tick: Tick) -> None:
        """Do one shard; `tick(n)` after every n units."""

    def is_done(self, shard: int) -> bool:
        """True where there is nothing left to do for a shard."""
        return False

    def committed(self) -> Committed | None:
        """What it ends in, where that is in the lake already and nothing need be run; else None."""
        return None

    def commit(self) -> Committed:
        """Commit what it ends in. Every shard is done."""
        return {}

    def run(self, shard: int, tick: Tick) -> bool:
        """Do one shard unless it is done already. Returns True where work was done."""
        if self.is_done(shard):
            tick(self.shards()[shard])
            return False
        started = time.monotonic()
        self.work(shard, tick)
        self.add_seconds(time.monotonic() - started)
        return True

    def __getstate__(self) -> dict[str, Any]:
        """What a copy in another process starts from: no lock, and of a subclass no model, pool or server."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Seconds of work of this run, summed over shards."""
        return round(self._seconds, 3)

    def add_seconds(self, seconds: float) -> None:
        """Count work that a copy has done."""
        with self._lock:
            self._seconds += seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:  # noqa: B027 - most hold nothing
        """Give back what is held (servers, models)."""


class Step(Work):
    """Work that ends in committed datasets, each of which has one part for each shard.

    A shard that is already in the lake is skipped, so a step that was killed is simply run again.
    """

    @property
    @abstractmethod
    def outputs(self) -> Mapping[str, Identity]:
        """The datasets this step commits, by table, in the order in which it does; the one it is about is last."""

    @property
    def folder(self) -> str:
        return list(self.drafts.values())[-1].folder

    @cached_property
    def drafts(self) -> Mapping[str, Draft]:
        """Where `work` writes its parts, by table."""
        return {table: self.lake.draft(identity) for table, identity in self.outputs.items()}

    def is_done(self, shard: int) -> bool:
        """True where every output already has this shard's part, with the files that belong to it."""
        return all(draft.has_part(shard) for draft in self.drafts.values())

    def committed(self) -> Committed | None:
        """The outputs, where all of them are committed and whole; else None."""
        found = {table: self.lake.find(identity) for table, identity in self.outputs.items()}
        whole = {table: dataset for table, dataset in found.items() if dataset is not None}
        return whole if len(whole) == len(found) else None

    def commit(self) -> Committed:
        """Raises LakeError where a row is lost: what went in must be in the outputs, `rejects` or others."""
        datasets = self.finish()
        self.lake.write_views()
        return datasets

    def finish(self) -> Committed:
        """Commit the outputs, in order. Rows of `rejects` are those that the others lack."""
        count, rows_in, usage = len(self.shards()), self.rows_in(), self.usage()  # a commit clears the work folder
        rejected, datasets = 0, {}
        for table, draft in self.drafts.items():
            if table == "rejects":
                datasets[table] = draft.commit(count, rows_in=None, usage=usage)
                rejected = datasets[table].rows
            else:
                datasets[table] = draft.commit(count, rows_in=rows_in, rejected=rejected, usage=usage)
        return datasets

    def rows_in(self) -> int | None:
        """Rows that went in, counted apart from those that came out; None where nothing says how many there must be."""
        return sum(self.shards())

    def usage(self) -> Usage:
        """What it cost."""
        return Usage(seconds=self.seconds)


Run = Callable[[Work], Committed]  # a flow gives one that submits tasks, a test one that loops


def identities(
    *tables: str, source: str, label: str, sealed_as: str, version: int, config: Mapping[str, Any],
    inputs: Sequence[Dataset] = (),
) -> dict[str, Identity]:  # fmt: skip
    """Datasets that one step makes of its inputs; `label` is their stage, `sealed_as` the one in their fingerprint."""
    seal = fingerprint(sealed_as, version, config, [dataset.fingerprint for dataset in inputs])
    made_from = [dataset.reference for dataset in inputs]
    return {table: Identity(table, source, label, seal, config, made_from) for table in tables}


def shard_sizes(rows: int, per_shard: int) -> list[int]:
    """Rows of each shard: all full but the last."""
    return [min(per_shard, rows - start) for start in range(0, rows, per_shard)]
