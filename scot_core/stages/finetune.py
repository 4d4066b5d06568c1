"""LoRA on a 4-bit causal language model, with its replies measured before and after (§4.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scot_core.config import FinetuneConfig
from scot_core.errors import ConfigError, DataError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.llm import Reply
from scot_core.llm.local.weights import weights_revision
from scot_core.sources import RIGHT, Judge, judge_of
from scot_core.stages.gates import require_quality
from scot_core.stages.replies.read import CAPTION_COLUMNS
from scot_core.stages.seed.work import drawn
from scot_core.stages.step import Run, Step, Tick, identities
from scot_core.triplets import (
    REPLY_END,
    Rejection,
    few_shot_prompt,
    local_completion,
    local_prompt,
    parse,
    read_reply,
)

EVALUATION_SEED = 1


def finetune(run: Run, lake: Lake, config: FinetuneConfig, captions: Dataset, seeds: Dataset) -> Dataset:
    """Returns the adapter. Raises GateError where what the model writes is not good enough to go on with."""
    if config.min_right and judge_of(captions.source) is None:
        raise ConfigError(
            f"finetune.min_right cannot be measured: nobody can judge edits of {captions.source}. Use finetune.min_kept"
        )
    adapters = run(Finetune(lake, config, captions, seeds))["adapters"]
    return require_quality(adapters, {"kept": config.min_kept, "right": config.min_right})


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares of replies, in percent. `right` is known only where a grammar can judge (the catalogue)."""

    parsed: float
    kept: float
    right: float | None
    right_of_kept: float | None


def quality(captions: Sequence[str], replies: Sequence[Reply], judge: Judge | None) -> Quality:
    """How good replies are: they parse; the filters keep them; the edit is real, applied, and nothing else changed."""
    counts: Counter[str] = Counter()
    for caption, reply in zip(captions, replies, strict=True):
        parsed = parse(reply.text, "lines")
        if isinstance(parsed, Rejection):
            continue
        kept = not isinstance(read_reply(caption, reply.text, reply.finish_reason, "lines"), Rejection)
        right = judge is not None and judge(caption, parsed.modification, parsed.modified_caption) == RIGHT
        counts.update(parsed=1, kept=kept, right=right, both=kept and right)
    share = 100 / len(replies)
    return Quality(
        parsed=counts["parsed"] * share,
        kept=counts["kept"] * share,
        right=counts["right"] * share if judge else None,
        right_of_kept=100 * counts["both"] / max(counts["kept"], 1) if judge else None,
    )


def _ended(reply: Reply) -> Reply:
    """Up to where the model goes on with a caption of its own: what comes after that is no part of the reply."""
    text, end, _ = reply.text.partition(REPLY_END)
    return replace(reply, text=text, finish_reason="stop") if end else reply


class Finetune(Step):
    """A PEFT adapter (safetensors), its loss curve, and the quality of replies before and after."""

    stage, name, unit = "finetune", "tune the language model", "steps"

    def __init__(self, lake: Lake, config: FinetuneConfig, captions: Dataset, seeds: Dataset) -> None:
        super().__init__(lake)
        self.config, self._captions, self._seeds = config, captions, seeds
        self._source = captions.source

    @property
    def outputs(self) -> Mapping[str, Identity]:
        config = {**self.config.identity(), "weights": weights_revision(self.config.base, self.config.revision)}
        return identities(
            "adapters", source=self._source, label="finetune", sealed_as="finetune",
            version=FinetuneConfig.STAGE_VERSION, config=config, inputs=[self._captions, self._seeds],
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return [self.config.steps]

    def work(self, shard: int, tick: Tick) -> None:
        from scot_core.llm.local.finetune import finetune as tune

        draft = self.drafts["adapters"]
        work = draft.work_folder()
        held_out = self._held_out()
        before = self._measure(None, held_out, few_shot_prompt)  # it has not seen what a reply looks like
        losses = tune(self.config, self._examples(), work, progress=lambda *_: tick(1))
        after = self._measure(work, held_out, local_prompt)
        draft.write_part(shard, self._columns(losses, before, after), files_of(work, "adapter"))

    def rows_in(self) -> None:
        """Numbers of a run: as many as there are."""

    def _examples(self) -> list[tuple[str, str]]:
        rows = self._seeds.read(["caption", "modification", "modified_caption"]).to_pylist()
        if not rows:
            raise DataError(f"{self._seeds.name} holds no triplets to learn from; look at `rejects` for the reasons")
        return [(local_prompt(r["caption"]), local_completion(r["modification"], r["modified_caption"])) for r in rows]

    def _held_out(self) -> list[Mapping[str, Any]]:
        """Captions the seeds were not made from."""
        used = set(self._seeds.read(["pair_id"])["pair_id"].to_pylist())
        free = (row for row in self._captions.each(CAPTION_COLUMNS) if row["pair_id"] not in used)
        held_out = drawn(free, self.config.held_out, self.config.seed)
        if not held_out:
            raise DataError("every caption is a seed, none is left to measure the language model on: lower seed.count")
        return held_out

    def _measure(
        self, adapter: Path | None, rows: Sequence[Mapping[str, Any]], prompt: Callable[[str], str]
    ) -> Quality:
        from scot_core.llm.local.generator import Generator

        generator = Generator.load(self.config.base, adapter, revision=self.config.revision)
        replies = generator.generate(
            [prompt(row["caption"]) for row in rows],
            [EVALUATION_SEED + index for index in range(len(rows))],
            temperature=self.config.temperature,
            max_new_tokens=self.config.max_new_tokens,
            batch_size=self.config.evaluation_batch_size,
        )
        generator.close()
        return quality([row["caption"] for row in rows], list(map(_ended, replies)), judge_of(self._source))

    def _columns(self, losses: Sequence[float], before: Quality, after: Quality) -> dict[str, Any]:
        rows: list[tuple[str, int, str, float]] = [("train", step, "loss", loss) for step, loss in enumerate(losses, 1)]
        for phase, measured in (("before", before), ("after", after)):
            rows += [(phase, 0, f"share_{name}", v) for name, v in asdict(measured).items() if v is not None]
        columns = dict(zip(("phase", "step", "metric", "value"), map(list, zip(*rows, strict=True)), strict=True))
        return {"source": [self._source] * len(rows), **columns}
