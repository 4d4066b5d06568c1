"""Seed triplets from a strong model behind an OpenAI-compatible endpoint (§4.2: 4,000 from GPT-4)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from types import TracebackType
from typing import Any

from scot_core.config import TEACHER, EndpointConfig, SeedConfig
from scot_core.errors import ConfigError
from scot_core.fingerprint import fingerprint
from scot_core.lake import Dataset, Identity, Lake
from scot_core.llm import Reply
from scot_core.llm.endpoint import ChatRequest, EndpointSettings, ask
from scot_core.settings import settings
from scot_core.stages.replies import CAPTION_COLUMNS, reply_columns, usage_of
from scot_core.stages.step import Step, Tick, shard_sizes
from scot_core.triplets import RESPONSE_FORMAT, chat_messages


def choose(captions: Sequence[Mapping[str, Any]], count: int, seed: int) -> list[Mapping[str, Any]]:
    """A seeded sample that depends on ids alone, in the order of the captions.

    Raises ConfigError where more are asked for than there are.
    """
    if count > len(captions):
        raise ConfigError(f"seed.count is {count}, but there are only {len(captions)} captions")
    ranked = sorted(captions, key=lambda row: hashlib.blake2b(f"{seed}/{row['pair_id']}".encode()).digest())
    chosen = {row["pair_id"] for row in ranked[:count]}
    return [row for row in captions if row["pair_id"] in chosen]


class AskForSeeds(Step):
    """One reply for every chosen caption, journalled as it arrives: a kill never pays twice."""

    stage, name, unit = "seed", "ask for seed triplets", "replies"

    def __init__(self, lake: Lake, config: SeedConfig, captions: Dataset) -> None:
        super().__init__(lake)
        self.config, self._captions = config, captions
        self._source = str(captions.manifest["source"])
        self._open = ExitStack()
        self._costs: dict[int, float] = {}  # of shards that are done

    @property
    def outputs(self) -> Sequence[Identity]:
        messages = chat_messages("{caption}", self.config.prompt)
        config = {**self.config.identity(), "messages": messages, "response_format": RESPONSE_FORMAT}
        identity = fingerprint("seed", SeedConfig.STAGE_VERSION, config, [self._captions.fingerprint])
        return [Identity("replies", self._source, "seed", identity, config, [self._captions.name])]

    @cached_property
    def _chosen(self) -> list[Mapping[str, Any]]:
        rows = self._captions.read(CAPTION_COLUMNS).to_pylist()
        return choose(rows, self.config.count, self.config.seed)

    def shards(self) -> Sequence[int]:
        return shard_sizes(self.config.count, self.config.shard_rows)

    def work(self, shard: int, tick: Tick) -> None:
        draft = self.draft(self.outputs[0])
        rows = self._chosen[shard * self.config.shard_rows : (shard + 1) * self.config.shard_rows]
        journal = draft.journal(shard)
        kept = {record["id"]: record for record in journal.records()}
        tick(len(kept))

        def on_reply(request_id: str, reply: Reply, usd: float) -> None:
            record = {"id": request_id, **asdict(reply), "usd": usd}
            journal.append(record)
            kept[request_id] = record
            tick(1)

        requests = [
            ChatRequest(row["pair_id"], chat_messages(row["caption"], self.config.prompt), self.config.seed)
            for row in rows
            if row["pair_id"] not in kept
        ]
        try:
            if requests:
                spent = sum(self._cost(other) for other in range(len(self.shards())))
                ask(
                    self._endpoint,
                    settings().api_key.get_secret_value(),
                    requests,
                    on_reply=on_reply,
                    spent_usd=spent,
                    response_format=RESPONSE_FORMAT,
                )
        finally:
            journal.close()
        merged = [{**row, **kept[row["pair_id"]], "seed": self.config.seed} for row in rows]
        draft.write_part(shard, reply_columns(merged, "seed", self.config.endpoint.model, 1))

    def finish(self) -> None:
        draft = self.draft(self.outputs[0])
        count = len(self.shards())
        usage = usage_of((draft.read_part(shard) for shard in range(count)), self.seconds)
        draft.commit(count, rows_in=self.config.count, usage=usage)

    def _cost(self, shard: int) -> float:
        """Dollars that a shard has cost so far, whether it is done or was stopped halfway; 0 without a budget."""
        if self.config.max_usd is None:
            return 0.0
        if shard not in self._costs:
            draft = self.draft(self.outputs[0])
            if not draft.has_part(shard):
                return float(sum(record["usd"] for record in draft.journal(shard).records()))
            self._costs[shard] = usage_of(iter([draft.read_part(shard)]), 0.0).usd
        return self._costs[shard]

    @cached_property
    def _endpoint(self) -> EndpointSettings:
        endpoint = self.config.endpoint
        base_url = endpoint.base_url or self._loopback(endpoint)
        return EndpointSettings(
            base_url=base_url,
            model=endpoint.model,
            temperature=endpoint.temperature,
            max_tokens=endpoint.max_tokens,
            timeout_s=endpoint.timeout_s,
            attempts=endpoint.attempts,
            concurrency=endpoint.concurrency,
            requests_per_minute=endpoint.requests_per_minute,
            usd_per_million_prompt=endpoint.usd_per_million_prompt,
            usd_per_million_completion=endpoint.usd_per_million_completion,
            max_usd=self.config.max_usd,
        )

    def _loopback(self, endpoint: EndpointConfig) -> str:
        if endpoint.model != TEACHER:
            raise ConfigError(
                "seed.endpoint.base_url is empty: set it to an OpenAI-compatible server, such as https://api.openai.com/v1"
            )
        from scot_core.catalogue.teacher import serve

        return self._open.enter_context(serve())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
