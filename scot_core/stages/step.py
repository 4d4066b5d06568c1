"""The shape every step of the pipeline has."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from scot_core.lake import Dataset, Draft, Identity, Lake

Tick = Callable[[int], None]


class Step(ABC):
    """Work on one lake that ends in committed datasets.

    `run` may be called for different shards at once from several threads, at most `parallel` of them. A shard
    that is already in the lake is skipped, so a step that was killed is simply run again.
    """

    stage: str  # the stage it belongs to, for progress and logs
    name: str  # what it does, in a few words
    unit: str = "rows"
    parallel: int = 1

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._lock = threading.Lock()
        self._seconds = 0.0

    @property
    @abstractmethod
    def outputs(self) -> Sequence[Identity]:
        """The datasets this step commits, the last one last."""

    @abstractmethod
    def shards(self) -> Sequence[int]:
        """Rows (or other units) of each shard."""

    @abstractmethod
    def work(self, shard: int, tick: Tick) -> None:
        """Do one shard and write its parts; `tick(n)` after every n units."""

    @abstractmethod
    def finish(self) -> None:
        """Commit the outputs, in order. Every shard is done."""

    def is_done(self, shard: int) -> bool:
        """True where every output already has this shard's part."""
        return all(self.draft(identity).has_part(shard) for identity in self.outputs)

    def committed(self) -> tuple[Dataset, ...] | None:
        """The outputs, where all of them are committed and whole; else None."""
        found = [self.lake.find(identity) for identity in self.outputs]
        return None if any(d is None for d in found) else tuple(d for d in found if d is not None)

    def run(self, shard: int, tick: Tick) -> bool:
        """Do one shard unless it is done already. Returns True where work was done."""
        if self.is_done(shard):
            tick(self.shards()[shard])
            return False
        started = time.monotonic()
        self.work(shard, tick)
        with self._lock:
            self._seconds += time.monotonic() - started
        return True

    def commit(self) -> tuple[Dataset, ...]:
        self.finish()
        self.lake.write_views()
        datasets = self.committed()
        assert datasets is not None, "finish() commits every output"
        return datasets

    def draft(self, identity: Identity) -> Draft:
        return self.lake.draft(identity)

    @property
    def seconds(self) -> float:
        """Seconds of work in this process, summed over shards."""
        return round(self._seconds, 3)

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027 - most steps hold nothing
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what the step holds (servers, models)."""


Run = Callable[[Step], tuple[Dataset, ...]]  # a flow gives one that submits tasks, a test one that loops


def shard_sizes(rows: int, per_shard: int) -> list[int]:
    """Rows of each shard: all full but the last."""
    return [min(per_shard, rows - start) for start in range(0, rows, per_shard)]


def run_here(step: Step, tick: Tick = lambda _: None) -> tuple[Dataset, ...]:
    """Run a step in this thread, shard by shard, and commit it; at once where it is committed already."""
    found = step.committed()
    if found is not None:
        return found
    with step:
        for shard in range(len(step.shards())):
            step.run(shard, tick)
        return step.commit()
