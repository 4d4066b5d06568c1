"""What the steps of the seed stage know in common: whom to ask what, what is answered, what it has cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest
from operator import itemgetter
from typing import Any

from scot_core.config import SeedConfig, ServerConfig
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import Draft
from scot_core.lake.fingerprint import canonical_json, digest, fingerprint
from scot_core.llm.remote.chat import ChatRequest, Sampling
from scot_core.stages.replies.ask import Record, kept_records
from scot_core.stages.replies.join import Row
from scot_core.stages.replies.read import CAPTION_COLUMNS
from scot_core.stages.step import shard_sizes
from scot_core.triplets import PROMPT_VERSION, RESPONSE_FORMAT, chat_messages


def drawn(captions: Iterable[Row], count: int, seed: int) -> list[Row]:
    """A seeded sample that depends on ids alone, in the order of the captions: all, where there are fewer of them.

    Only the sample is in memory.
    """

    def place(numbered: tuple[int, Row]) -> bytes:
        return hashlib.blake2b(f"{seed}/{numbered[1]['pair_id']}".encode()).digest()

    sample = nsmallest(count, enumerate(captions), key=place)
    return [row for _, row in sorted(sample, key=itemgetter(0))]


def choose(captions: Iterable[Row], count: int, seed: int) -> list[Row]:
    """The same. Raises ConfigError where more are asked for than there are."""
    sample = drawn(captions, count, seed)
    if len(sample) < count:
        raise ConfigError(f"seed.count is {count}, but there are only {len(sample)} captions")
    return sample


@dataclass(frozen=True, slots=True)
class More:
    """A further round, where too many were rejected: more captions, among which are all that were asked before."""

    asked: int
    earlier: Dataset
    """The replies there are, which are not bought again."""


class SeedWork:
    """The captions to ask for, shard by shard, and the replies there are: in parts that are done, else in journals."""

    def __init__(self, lake: Lake, config: SeedConfig, captions: Dataset, more: More | None = None) -> None:
        self.config = config
        self.asked = config.count if more is None else more.asked
        self._lake, self._captions, self._more = lake, captions, more
        self._costs: dict[int, float] = {}  # of shards that are done

    @cached_property
    def identity(self) -> Identity:
        """The replies to every request. What is sent is part of it, not how (chat or batch) nor for how much."""
        messages = chat_messages("{caption}", self.config.prompt)
        config = {
            **self.config.identity(),
            "prompt_version": PROMPT_VERSION,
            "messages": messages,
            "response_format": RESPONSE_FORMAT,
        } | ({} if self._more is None else {"asked": self.asked})
        identity = fingerprint("seed", SeedConfig.STAGE_VERSION, config, [self._captions.fingerprint])
        return self._named(identity, config)

    def partial_identity(self) -> Identity:
        """The replies there are now: a dataset of its own, other than that of more replies."""
        ids = sorted(i for shard in range(self.shards) for i in self.answered(shard))
        config = {
            **self.identity.config,
            "answered": len(ids),
            "answers": digest(canonical_json(ids)),
        }
        return self._named(fingerprint("seed.partial", 1, config, [self.identity.fingerprint]), config)

    def _named(self, identity: str, config: Mapping[str, Any]) -> Identity:
        return Identity("replies", self._captions.source, "seed", identity, config, [self._captions.reference])

    @property
    def draft(self) -> Draft:
        return self._lake.draft(self.identity)

    @property
    def committed(self) -> Dataset | None:
        return self._lake.find(self.identity)

    @property
    def sizes(self) -> list[int]:
        """Rows of each shard."""
        return shard_sizes(self.asked, self.config.shard_rows)

    @property
    def shards(self) -> int:
        return len(self.sizes)

    @cached_property
    def _chosen(self) -> list[Row]:
        return choose(self._captions.each(CAPTION_COLUMNS), self.asked, self.config.seed)

    def rows(self, shard: int) -> list[Row]:
        size = self.config.shard_rows
        return self._chosen[shard * size : (shard + 1) * size]

    def requests(self, shard: int) -> list[ChatRequest]:
        """One for every row of a shard."""
        endpoint = self.config.endpoint
        sampling = Sampling(endpoint.temperature, endpoint.max_tokens, self.config.seed)
        return [
            ChatRequest(row["pair_id"], chat_messages(row["caption"], self.config.prompt), sampling, RESPONSE_FORMAT)
            for row in self.rows(shard)
        ]

    @cached_property
    def _earlier(self) -> dict[str, Record]:
        return {} if self._more is None else {row["pair_id"]: row for row in self._more.earlier.read().to_pylist()}

    def records(self, shard: int) -> dict[str, Record]:
        """The replies to rows of a shard that is not done: those of earlier rounds, and those in its journal."""
        earlier = {i: self._earlier[i] for row in self.rows(shard) if (i := row["pair_id"]) in self._earlier}
        return earlier | kept_records(self.draft, shard)

    def missing(self, shard: int) -> list[ChatRequest]:
        """The requests of a shard that have no reply yet."""
        answered = self.answered(shard)
        return [request for request in self.requests(shard) if request.id not in answered]

    def answered(self, shard: int) -> set[str]:
        """Ids of the rows of a shard that have a reply."""
        if self.draft.has_part(shard):
            return set(self.draft.read_part(shard)["pair_id"].to_pylist())
        return set(self.records(shard))

    def merged(self, shard: int, kept: Mapping[str, Record], missing: Mapping[str, Any] | None = None) -> list[Record]:
        """Rows of a shard with their replies, those without one with `missing` in its place."""
        seed = {"seed": self.config.seed}
        return [{**row, **(kept.get(row["pair_id"]) or missing or {}), **seed} for row in self.rows(shard)]

    def spent(self) -> float:
        """Dollars that all shards have cost so far, whether they are done or were stopped halfway."""
        return sum(self._cost(shard) for shard in range(self.shards))

    def _cost(self, shard: int) -> float:
        if shard not in self._costs:
            if not self.draft.has_part(shard):
                return float(sum(record["usd"] for record in self.records(shard).values()))
            self._costs[shard] = float(sum(self.draft.read_part(shard)["usd"].to_pylist()))
        return self._costs[shard]

    def server(self, base_url: str) -> ServerConfig:
        """Whom to ask, at `base_url`."""
        return self.config.endpoint.model_copy(update={"base_url": base_url})
