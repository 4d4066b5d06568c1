"""The ledger of a dataset's batches: which ones were handed to a server, and what became of them.

It lies beside the replies' journals in the lake and outlives every restart. An entry is one batch of one
shard; a shard whose batch left rows without a reply has another one, of the next round.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from scot_core.lake import Lake
from scot_core.lake.draft import Draft


@dataclass(frozen=True, slots=True)
class BatchEntry:
    """One batch, as far as it is known to have come.

    Attributes:
        ids: of the requests in it.
        usd: the most they can cost.
        file_id: of the uploaded requests.
        batch_id: None until the server has made the batch.
        status: how it ended, None while it has not.
        collected: its answers are in the journal.
    """

    shard: int
    round: int
    ids: tuple[str, ...] = ()
    usd: float = 0.0
    file_id: str | None = None
    batch_id: str | None = None
    status: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    problem: str = ""
    collected: bool = False

    @property
    def is_running(self) -> bool:
        """Made, and not known to have ended."""
        return self.batch_id is not None and self.status is None

    @property
    def is_waiting(self) -> bool:
        """Ended, its answers not fetched yet."""
        return self.status is not None and not self.collected


class Ledger:
    """Entries of one dataset; each fact is on disk before `write` returns."""

    def __init__(self, lake: Lake, draft: Draft) -> None:
        self._journal = lake.storage.journal(f"{draft.folder}/_journal/batches")

    def write(self, shard: int, round_: int, **facts: Any) -> None:
        """Add facts about one batch."""
        self._journal.append({"shard": shard, "round": round_, **facts})
        self._journal.close()

    def entries(self) -> list[BatchEntry]:
        """By shard and round. Records of one batch are put together in any order."""
        known: dict[tuple[int, int], BatchEntry] = {}
        for record in self._journal.records():
            place = record["shard"], record["round"]
            facts = {**record, "ids": tuple(record["ids"])} if "ids" in record else record
            known[place] = replace(known.get(place, BatchEntry(*place)), **facts)
        return [known[place] for place in sorted(known)]

    def latest(self, shard: int) -> BatchEntry | None:
        """The newest entry of a shard."""
        of_shard = [entry for entry in self.entries() if entry.shard == shard]
        return of_shard[-1] if of_shard else None

    def tries(self, shard: int) -> Counter[str]:
        """How many batches each request of a shard was in."""
        return Counter(name for entry in self.entries() if entry.shard == shard for name in entry.ids)

    def running(self) -> list[BatchEntry]:
        return [entry for entry in self.entries() if entry.is_running]

    def waiting(self) -> list[BatchEntry]:
        return [entry for entry in self.entries() if entry.is_waiting]

    def is_open(self, shard: int) -> bool:
        """Whether a batch of a shard is running, or has ended and waits for its answers to be fetched."""
        latest = self.latest(shard)
        return latest is not None and (latest.is_running or latest.is_waiting)

    def is_settled(self, shard: int) -> bool:
        """Whether no batch of a shard can still cost anything; one that a kill left without its id might."""
        latest = self.latest(shard)
        return latest is None or latest.collected

    def set_aside(self, but: int) -> float:
        """Dollars that batches of other shards may still cost at most."""
        return sum(entry.usd for entry in self.entries() if entry.shard != but and not entry.collected)
