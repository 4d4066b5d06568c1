"""Triplets for every caption from an OpenAI-compatible server: of the tuned model (§4.2), such as vLLM, or of any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import SecretStr

from scot_core.config import GenerateConfig
from scot_core.errors import BudgetReached
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.llm.remote.chat import ChatRequest, Request, Sampling, TextRequest
from scot_core.stages.generate.local import Write, row_seed
from scot_core.stages.replies.ask import ask_and_keep, kept_records, key_or
from scot_core.stages.replies.join import Row
from scot_core.stages.replies.read import reply_columns
from scot_core.stages.step import Tick
from scot_core.triplets import PROMPT_VERSION, REPLY_END, RESPONSE_FORMAT, Style, chat_messages, local_prompt

STOP: Final = (REPLY_END,)  # where a server does not end a reply by itself, this does
TOKENS: Final = 256  # of a reply in JSON, as long as those of the seeds


class WriteRemotely(Write):
    """One try of the tuned model behind an endpoint: the same prompts, seeds and rows as where it is loaded here.

    Replies are journalled as they arrive. Their key holds the server's name and model beside the adapter they are
    said to come from; that the server serves that adapter is for whoever starts it.
    """

    spreads = False  # the server does the work, and the key stays here

    def __init__(
        self, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset | None,
        earlier: Sequence[Dataset] = (), api_key: SecretStr | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake, config, captions, adapters, earlier, devices=("endpoint",))
        self._key = api_key

    @property
    def outputs(self) -> Mapping[str, Identity]:
        here = super().outputs["replies"]
        sent = {name: value for name, value in here.config.items() if name != "batch_size"}  # the server batches
        return self._named(here, "generate.remote", {**sent, "stop": list(STOP)})

    def _named(self, here: Identity, sealed_as: str, config: Mapping[str, Any]) -> Mapping[str, Identity]:
        inputs = [dataset.fingerprint for dataset in self._inputs]
        return {"replies": replace(here, fingerprint=fingerprint(sealed_as, 1, config, inputs), config=config)}

    def _request(self, row: Row, seed: int) -> Request:
        sampling = Sampling(self.config.temperature, self.config.max_new_tokens, seed)
        return TextRequest(row["pair_id"], local_prompt(row["caption"]), sampling, STOP)

    def work(self, shard: int, tick: Tick) -> None:
        rows = self.rows(shard)
        seeds = {row["pair_id"]: row_seed(self.config.seed, self.attempt, row["pair_id"]) for row in rows}
        requests = [self._request(row, seeds[row["pair_id"]]) for row in rows]
        draft = self.drafts["replies"]
        server, most = self.config.endpoint, self.config.max_usd
        spent = 0.0 if most is None else self._spent()
        try:
            kept = ask_and_keep(draft, shard, server, key_or(self._key), requests, tick, max_usd=most, spent_usd=spent)
        except BudgetReached as error:
            raise BudgetReached(f"generate.max_usd: {error}") from error
        merged = [{**row, **kept[row["pair_id"]], "seed": seeds[row["pair_id"]]} for row in rows]
        draft.write_part(shard, reply_columns(merged, "generate", self._model, self.attempt))

    def _spent(self) -> float:
        """Dollars that all tries have cost until now."""
        draft, spent = self.drafts["replies"], sum(dataset.usage.usd for dataset in self._earlier)
        for shard in range(len(self.shards())):
            rows = draft.read_part(shard).to_pylist() if draft.has_part(shard) else kept_records(draft, shard).values()
            spent += sum(row["usd"] for row in rows)
        return spent


class AskWithoutAdapter(WriteRemotely):
    """One try of whatever model a server has, asked as a teacher is asked for seeds: with its prompt, for JSON."""

    style: Style = "json"

    def __init__(
        self, lake: Lake, config: GenerateConfig, captions: Dataset, earlier: Sequence[Dataset] = (),
        api_key: SecretStr | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake, config, captions, None, earlier, api_key)

    @property
    def outputs(self) -> Mapping[str, Identity]:
        here = super().outputs["replies"]
        sent = {name: value for name, value in here.config.items() if name != "stop"}
        asked = {"prompt_version": PROMPT_VERSION, "messages": chat_messages("{caption}", None), "max_tokens": TOKENS}
        return self._named(here, "generate.endpoint", {**sent, **asked, "response_format": RESPONSE_FORMAT})

    @property
    def _model(self) -> str:
        return self.config.endpoint.model

    def _request(self, row: Row, seed: int) -> Request:
        sampling = Sampling(self.config.temperature, TOKENS, seed)
        return ChatRequest(row["pair_id"], chat_messages(row["caption"], None), sampling, RESPONSE_FORMAT)


def write_by(
    lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset | None, earlier: Sequence[Dataset],
    api_key: SecretStr | None,
) -> Write:  # fmt: skip
    """One try of whatever is to write: a server's own model, the tuned one behind a server, or that loaded here."""
    if not config.needs_adapter:
        return AskWithoutAdapter(lake, config, captions, earlier, api_key)
    if config.is_remote:
        return WriteRemotely(lake, config, captions, adapters, earlier, api_key)
    return Write(lake, config, captions, adapters, earlier)
