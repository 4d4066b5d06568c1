"""Triplets for every caption from an OpenAI-compatible server that serves the tuned model, such as vLLM (§4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydantic import SecretStr

from scot_core.config import GenerateConfig
from scot_core.errors import BudgetReached
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.llm.remote.chat import Sampling, TextRequest
from scot_core.stages.generate.local import Write, row_seed
from scot_core.stages.replies.ask import ask_and_keep, kept_records, key_or
from scot_core.stages.replies.read import reply_columns
from scot_core.stages.step import Tick
from scot_core.triplets import REPLY_END, local_prompt

STOP: Final = (REPLY_END,)  # where a server does not end a reply by itself, this does


class WriteRemotely(Write):
    """One try of the tuned model behind an endpoint: the same prompts, seeds and rows as where it is loaded here.

    Replies are journalled as they arrive. Their key holds the server's name and model beside the adapter they are
    said to come from; that the server serves that adapter is for whoever starts it.
    """

    spreads = False  # the server does the work, and the key stays here

    def __init__(
        self, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset,
        earlier: Sequence[Dataset] = (), api_key: SecretStr | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake, config, captions, adapters, earlier, devices=("endpoint",))
        self._key = api_key

    @property
    def outputs(self) -> Mapping[str, Identity]:
        here = super().outputs["replies"]
        sent = {name: value for name, value in here.config.items() if name != "batch_size"}  # the server batches
        config = {**sent, "stop": list(STOP)}
        inputs = [d.fingerprint for d in (self._captions, self._adapters, *self._earlier)]
        return {"replies": replace(here, fingerprint=fingerprint("generate.remote", 1, config, inputs), config=config)}

    def work(self, shard: int, tick: Tick) -> None:
        rows = self.rows(shard)
        seeds = {row["pair_id"]: row_seed(self.config.seed, self.attempt, row["pair_id"]) for row in rows}
        sampling = {i: Sampling(self.config.temperature, self.config.max_new_tokens, seed) for i, seed in seeds.items()}
        requests = [
            TextRequest(row["pair_id"], local_prompt(row["caption"]), sampling[row["pair_id"]], STOP) for row in rows
        ]
        draft = self.drafts["replies"]
        server, most = self.config.endpoint, self.config.max_usd
        spent = 0.0 if most is None else self._spent()
        try:
            kept = ask_and_keep(draft, shard, server, key_or(self._key), requests, tick, max_usd=most, spent_usd=spent)
        except BudgetReached as error:
            raise BudgetReached(f"generate.max_usd: {error}") from error
        merged = [{**row, **kept[row["pair_id"]], "seed": seeds[row["pair_id"]]} for row in rows]
        model = f"{self._adapters.config['base']}+{self._adapters.key}"
        draft.write_part(shard, reply_columns(merged, "generate", model, self.attempt))

    def _spent(self) -> float:
        """Dollars that all tries have cost until now."""
        draft, spent = self.drafts["replies"], sum(dataset.usage.usd for dataset in self._earlier)
        for shard in range(len(self.shards())):
            rows = draft.read_part(shard).to_pylist() if draft.has_part(shard) else kept_records(draft, shard).values()
            spent += sum(row["usd"] for row in rows)
        return spent
