"""Seed triplets through a Batch API: submit, wait, collect, as short steps that can stop and start anywhere.

The ids of files and batches are written to the ledger in the lake as soon as they are known, so a batch that
takes a day survives any restart; one that was made in the moment of a kill is found again by its label. What
a batch leaves unanswered (it expired, or rows failed) is submitted again in the next round.
"""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from scot_core.config import SeedConfig, ServerConfig
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Lake
from scot_core.llm import Reply
from scot_core.llm.remote.chat import ChatRequest, highest_price
from scot_core.stages.replies.ask import keep, key_or
from scot_core.stages.seed.ledger import BatchEntry, Ledger
from scot_core.stages.seed.work import More, SeedWork
from scot_core.stages.step import Tick, Work

if TYPE_CHECKING:  # loads openai
    from scot_core.llm.remote.batch import BatchClient

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S: Final = 900.0  # of one step: the next one goes on waiting
_HOPELESS: Final = 8  # requests turned down and none answered: it is not the requests


def batch_rounds(
    lake: Lake, config: SeedConfig, captions: Dataset, api_key: SecretStr | None = None, more: More | None = None
) -> Iterator[Work]:  # fmt: skip
    """The work that is due, one round after the other, until every caption has a reply or the budget is spent.

    Each must have been run when the next is asked for.
    """
    while SeedWork(lake, config, captions, more).committed is None:
        rounds = (kind(lake, config, captions, api_key, more) for kind in (SubmitBatches, CollectBatches, AwaitBatches))
        due = next((one for one in rounds if one.is_due()), None)
        if due is None:
            return
        yield due


class _Batches(Work):
    """What it finds out is in the ledger and the journals of the replies, which `AskForSeeds` commits."""

    stage = "seed"

    def __init__(
        self, lake: Lake, config: SeedConfig, captions: Dataset, api_key: SecretStr | None = None,
        more: More | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake)
        self.config = config
        self._seeds = SeedWork(lake, config, captions, more)
        self._ledger = Ledger(lake, self._seeds.draft)
        self._key = api_key

    @property
    def folder(self) -> str:
        return self._seeds.draft.folder

    @abstractmethod
    def is_due(self) -> bool:
        """Whether there is anything to do."""

    @property
    def _server(self) -> ServerConfig:
        base_url = self.config.endpoint.base_url
        if not base_url:
            raise ConfigError("seed.mode batch needs seed.endpoint.base_url, such as https://api.openai.com/v1")
        return self._seeds.server(base_url)

    def _client(self) -> BatchClient:
        from scot_core.llm.remote.batch import BatchClient

        return BatchClient(self._server, key_or(self._key))


class SubmitBatches(_Batches):
    """One batch for every shard with captions that have no reply, as far as the budget goes."""

    name, unit = "submit batches", "requests"

    def is_due(self) -> bool:
        return any(self._affordable(shard) for shard in range(self._seeds.shards))

    def shards(self) -> Sequence[int]:
        return self._seeds.sizes

    def work(self, shard: int, tick: Tick) -> None:
        requests = self._affordable(shard)
        if not requests:
            return
        entry = self._ledger.latest(shard)
        if entry is None or entry.batch_id is not None:
            entry = BatchEntry(shard, 1 if entry is None else entry.round + 1)
        self._submit(self._client(), entry, requests)
        tick(len(requests))

    def _submit(self, client: BatchClient, entry: BatchEntry, requests: Sequence[ChatRequest]) -> None:
        key = self._seeds.draft.identity.key
        label = {"scot_dataset": f"replies/{key}", "scot_shard": str(entry.shard), "scot_round": str(entry.round)}
        facts = {"ids": [request.id for request in requests], "usd": self._highest(requests)}
        made = client.find(label)  # made in the moment of a kill, or for a lake that is gone
        if made is None:
            # a file that a kill left without a batch costs nothing, and may be gone by now: another takes its place
            file_id = client.upload(f"scot-{key}-{entry.shard:05d}-{entry.round}.jsonl", requests)
            self._ledger.write(entry.shard, entry.round, file_id=file_id, **facts)
            made = client.create(file_id, label)
        elif not entry.ids:
            self._ledger.write(entry.shard, entry.round, file_id=made.file_id, **facts)
        self._ledger.write(entry.shard, entry.round, batch_id=made.id)

    def _affordable(self, shard: int) -> list[ChatRequest]:
        """Requests to submit now: none where the shard has a batch already, else those that the budget pays for."""
        if self._seeds.draft.has_part(shard) or self._ledger.is_open(shard):
            return []
        missing = self._seeds.missing(shard)
        if not missing or self.config.max_usd is None:
            return missing
        left = self.config.max_usd - self._seeds.spent() - self._ledger.set_aside(but=shard)
        for count, request in enumerate(missing):
            left -= self._highest([request])
            if left < 0:
                return missing[:count]
        return missing

    def _highest(self, requests: Sequence[ChatRequest]) -> float:
        discount, server = self.config.endpoint.batch_discount, self._server
        return discount * sum(highest_price(server, request) for request in requests)


class AwaitBatches(_Batches):
    """Look how far the batches are until one has ended, for a quarter of an hour at most."""

    name, unit = "wait for batches", "requests"

    def __init__(
        self, lake: Lake, config: SeedConfig, captions: Dataset, api_key: SecretStr | None = None,
        more: More | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake, config, captions, api_key, more)
        self._running = self._ledger.running()

    def is_due(self) -> bool:
        return bool(self._running)

    def shards(self) -> Sequence[int]:
        return [sum(len(entry.ids) for entry in self._running)]

    def work(self, shard: int, tick: Tick) -> None:
        from scot_core.llm.remote.failures import GoneError

        until = time.monotonic() + _LONGEST_WAIT_S
        done = 0
        client = self._client()
        while True:
            try:
                ended, now = self._look(client)
            except GoneError as error:  # a server that is down for a while ends no batch
                if time.monotonic() > until:
                    raise
                logger.warning("%s; looking again", error)
                ended, now = False, done
            tick(max(0, now - done))
            done = max(done, now)
            if ended or time.monotonic() > until:
                return
            _sleep(self.config.poll_s, tick)

    def _look(self, client: BatchClient) -> tuple[bool, int]:
        """Whether any batch has ended, and how many requests are done in all."""
        ended, done = False, 0
        for entry in self._running:
            batch = client.look(entry.batch_id or "")
            done += min(batch.done, len(entry.ids))
            if batch.has_ended:
                ended = True
                self._ledger.write(
                    entry.shard, entry.round, status=batch.status, problem=client.failures.spoken(batch.problem),
                    output_file_id=batch.output_file_id, error_file_id=batch.error_file_id,
                )  # fmt: skip
        return ended, done


class CollectBatches(_Batches):
    """Fetch what the batches that ended have answered, into the journals of the replies."""

    name, unit = "collect batches", "requests"

    def __init__(
        self, lake: Lake, config: SeedConfig, captions: Dataset, api_key: SecretStr | None = None,
        more: More | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake, config, captions, api_key, more)
        self._waiting = self._ledger.waiting()

    def is_due(self) -> bool:
        return bool(self._waiting)

    def shards(self) -> Sequence[int]:
        return [len(entry.ids) for entry in self._waiting]

    def work(self, shard: int, tick: Tick) -> None:
        entry = self._waiting[shard]
        client = self._client()
        requests = {request.id: request for request in self._seeds.requests(entry.shard)}
        answers: dict[str, Reply | str] = {}
        for file_id in (entry.output_file_id, entry.error_file_id):
            for name, answer in client.answers(file_id, requests):
                answers.setdefault(name, answer)  # what was answered has not failed, too
        replies = {name: answer for name, answer in answers.items() if isinstance(answer, Reply)}
        self._require_sense(client, entry, replies)
        replies |= self._given_up(client, entry, answers)
        kept = keep(self._seeds.draft, entry.shard, ((i, reply, self._usd(reply)) for i, reply in replies.items()))
        self._ledger.write(entry.shard, entry.round, collected=True)
        tick(kept)
        if entry.status in ("failed", "cancelled"):
            what = f"failed: {entry.problem}" if entry.status == "failed" else "was cancelled"
            raise client.failures.error(f"says that batch {entry.batch_id} {what}; run again to submit the rest")

    def _require_sense(self, client: BatchClient, entry: BatchEntry, replies: dict[str, Reply]) -> None:
        refused = [name for name, reply in replies.items() if reply.finish_reason == "error:bad_request"]
        if len(refused) >= _HOPELESS and len(refused) == len(replies):
            self._ledger.write(entry.shard, entry.round, collected=True)
            raise client.failures.error(f"turned down all {len(refused)} requests of a batch: look at its error file")

    def _given_up(self, client: BatchClient, entry: BatchEntry, answers: dict[str, Reply | str]) -> dict[str, Reply]:
        """Replies that say so, for rows without one that were in as many batches as they may be."""
        tries = self._ledger.tries(entry.shard)
        why = {name: answers.get(name, "server") for name in entry.ids}
        left = {
            name: Reply("", f"error:{reason}", 0, 0)
            for name, reason in why.items()
            if isinstance(reason, str) and tries[name] >= self.config.endpoint.attempts
        }
        answered = any(isinstance(answer, Reply) for answer in answers.values()) or self._seeds.answered(entry.shard)
        if left and not answered:  # it is not the requests
            self._ledger.write(entry.shard, entry.round, collected=True)
            raise client.failures.error(
                f"answered nothing in {entry.round} batches, the last is {entry.batch_id}: "
                "raise seed.endpoint.attempts, or ask in mode chat"
            )
        return left

    def _usd(self, reply: Reply) -> float:
        return self.config.endpoint.batch_discount * self._server.usd(reply.prompt_tokens, reply.completion_tokens)


def _sleep(seconds: float, tick: Tick) -> None:
    """Sleep, and notice at once when the run is stopped: `tick` raises then."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        tick(0)
        time.sleep(min(left, 1.0))
