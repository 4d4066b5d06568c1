"""Seed triplets from a strong model behind an OpenAI-compatible endpoint (§4.2: 4,000 from GPT-4).

Money is a hard stop. Where `max_usd` ends before the captions do, the replies it bought are committed as a
dataset of their own, whose other rows are rejects with the reason `budget_reached`; the journal they came
from stays, so that a later run with more money asks for the rest alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from typing import Final, Self

from pydantic import SecretStr

from scot_core.config import TEACHER, SeedConfig, ServerConfig
from scot_core.errors import BudgetReached, ConfigError, EndpointError
from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.lake.draft import Draft
from scot_core.lake.storage import Journal
from scot_core.llm import Reply
from scot_core.stages.replies.ask import Record, ask_and_keep, key_or
from scot_core.stages.replies.read import reply_columns, usage_of
from scot_core.stages.seed.ledger import Ledger
from scot_core.stages.seed.work import More, SeedWork, choose
from scot_core.stages.step import Committed, Step, Tick

__all__ = ["AskForSeeds", "Loopback", "choose", "require_whole"]

BUDGET_REACHED: Final = "budget_reached"
_NOT_ASKED: Final = {**asdict(Reply("", BUDGET_REACHED, 0, 0)), "usd": 0.0}


class Loopback:
    """The catalogue's own teacher, started when it is first asked for, until the block ends."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._open.close()

    @cached_property
    def url(self) -> str:
        from scot_core.catalogue.teacher import serve_beside

        return self._open.enter_context(serve_beside())


class AskForSeeds(Step):
    """One reply for every chosen caption, journalled as it arrives: a kill never pays twice.

    In mode batch nothing is asked here: the replies have been collected, and are written and committed. `loopback` is
    asked where the configuration names no server.
    """

    stage, unit = "seed", "replies"

    def __init__(
        self, lake: Lake, config: SeedConfig, captions: Dataset, api_key: SecretStr | None = None,
        more: More | None = None, loopback: Loopback | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake)
        self.name = "ask for seed triplets" if more is None else "ask for more in place of rejects"
        self.config = config
        self._seeds = SeedWork(lake, config, captions, more)
        self._key, self._teacher = api_key, loopback

    @property
    def outputs(self) -> Mapping[str, Identity]:
        return {"replies": self._seeds.identity}

    def committed(self) -> Committed | None:
        """All replies; else those that a budget not larger than an earlier one has bought."""
        found = super().committed()
        if found is not None or self.config.max_usd is None:
            return found
        stops = list(self._stops.records())
        if not stops:
            return None
        partial = self._seeds.partial_identity()
        count = partial.config["answered"]
        if not any(s["answered"] == count and s["max_usd"] >= self.config.max_usd for s in stops):
            return None
        bought = self.lake.find(partial)
        return None if bought is None else {"replies": bought}

    def shards(self) -> Sequence[int]:
        return self._seeds.sizes

    def work(self, shard: int, tick: Tick) -> None:
        seeds = self._seeds
        kept = self._collected(shard, tick) if self.config.mode == "batch" else self._ask(shard, tick)
        if len(kept) == len(seeds.rows(shard)):  # else the budget is reached: `finish` commits what it bought
            self._write(self._seeds.identity, shard, seeds.merged(shard, kept))

    def _collected(self, shard: int, tick: Tick) -> dict[str, Record]:
        kept = self._seeds.records(shard)
        if self.config.max_usd is None and len(kept) < len(self._seeds.rows(shard)):
            raise EndpointError("not every reply of the batches has been collected: run the stage again")
        tick(len(kept))
        return kept

    def _ask(self, shard: int, tick: Tick) -> dict[str, Record]:
        seeds, ledger = self._seeds, Ledger(self.lake, self._seeds.draft)
        if not ledger.is_settled(shard):
            raise EndpointError(
                "a batch with these captions is still open, asking now would pay for them twice: "
                "collect it first, with seed.mode batch"
            )
        spent = 0.0 if self.config.max_usd is None else seeds.spent() + ledger.set_aside(but=shard)
        try:
            asked = ask_and_keep(
                seeds.draft, shard, self._server, key_or(self._key), seeds.missing(shard), tick,
                max_usd=self.config.max_usd, spent_usd=spent,
            )  # fmt: skip
        except BudgetReached:
            return seeds.records(shard)
        tick(len(seeds.rows(shard)) - len(asked))
        return seeds.records(shard) | asked

    def finish(self) -> Committed:
        whole = all(self._seeds.draft.has_part(shard) for shard in range(self._seeds.shards))
        return super().finish() if whole else {"replies": self._commit_what_was_paid_for()}

    def usage(self) -> Usage:
        return self._usage(self._seeds.draft)

    def _usage(self, draft: Draft) -> Usage:
        return usage_of(map(draft.read_part, range(self._seeds.shards)), self.seconds)

    def _commit_what_was_paid_for(self) -> Dataset:
        """Raises BudgetReached where nothing was."""
        seeds, shards = self._seeds, range(len(self.shards()))
        identity = seeds.partial_identity()
        if not identity.config["answered"]:
            raise BudgetReached(
                f"seed.max_usd of ${self.config.max_usd or 0:.2f} does not pay for a single request: raise it"
            )
        draft = self.lake.draft(identity)
        for shard in shards:
            kept = seeds.records(shard)
            if seeds.draft.has_part(shard):
                kept = {row["pair_id"]: row for row in seeds.draft.read_part(shard).to_pylist()}
            self._write(identity, shard, seeds.merged(shard, kept, _NOT_ASKED))
        bought = draft.commit(len(shards), rows_in=seeds.asked, usage=self._usage(draft))
        stops = self._stops
        stops.append({"max_usd": self.config.max_usd, "answered": identity.config["answered"]})
        stops.close()
        return bought

    def _write(self, identity: Identity, shard: int, rows: Sequence[Record]) -> None:
        self.lake.draft(identity).write_part(shard, reply_columns(rows, "seed", self.config.endpoint.model, 1))

    @property
    def _stops(self) -> Journal:
        """Where a budget ended before, and after how many replies."""
        return self.lake.storage.journal(f"{self._seeds.draft.folder}/_journal/stops")

    @cached_property
    def _server(self) -> ServerConfig:
        return self._seeds.server(self.config.endpoint.base_url or self._loopback())

    def _loopback(self) -> str:
        if self._teacher is None or self.config.endpoint.model != TEACHER:
            raise ConfigError(
                "seed.endpoint.base_url is empty: set it to an OpenAI-compatible server, such as https://api.openai.com/v1"
            )
        return self._teacher.url


def require_whole(replies: Dataset, triplets: Dataset, config: SeedConfig) -> None:
    """Raises BudgetReached where a budget cut the replies short, unless `config.accept_partial`."""
    answered = replies.config.get("answered")
    if answered is None or config.accept_partial:
        return
    raise BudgetReached(
        f"seed.max_usd is reached: ${replies.usage.usd:.4f} paid for {answered:,} of {config.count:,} seeds, committed "
        f"as {triplets.name}. Raise it to go on (nothing is paid twice), or set seed.accept_partial to use these"
    )
