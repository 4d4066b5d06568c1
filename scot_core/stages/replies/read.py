"""From replies to triplets and rejects: a pure reading of what a model said (§3.2, eq. 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.sources import keyed
from scot_core.stages.replies.join import Rows, Verdicts, require_all
from scot_core.stages.replies.reading import Reader, Reading
from scot_core.stages.replies.twins import Twins, repeated
from scot_core.stages.step import Step, Tick, identities, shard_sizes
from scot_core.triplets import PARSER_VERSION, Filter, Style

CAPTION_COLUMNS = ("pair_id", "source", "image_id", "caption")
REPLY_COLUMNS = ("pair_id", "text", "finish_reason", "model")
READ_ROWS = 50_000  # replies of one part of triplets


class Readings:
    """What became of every caption that was asked, over datasets of any size, some rows at a time.

    `attempts` holds the replies of each try; the first acceptable one counts. Those that were judged to know what to
    try again are not judged again. What `Twins` says of captions that stand in several rows waits in a folder in
    `work`.
    """

    def __init__(self, captions: Dataset, attempts: Sequence[Dataset], read: Reader, work: Path) -> None:
        self._captions, self._attempts, self._read, self._work = captions, attempts, read, work
        self._rows = Rows(captions, CAPTION_COLUMNS)
        self._replies = [Rows(attempt, REPLY_COLUMNS) for attempt in attempts]
        self._verdicts = Verdicts(attempts)

    def __len__(self) -> int:
        return len(self._replies[0])

    def between(self, start: int, end: int) -> list[Reading]:
        """Of the captions that were asked at these places."""
        asked = {row["pair_id"]: row for row in self._replies[0].between(start, end)}
        captions = self._rows.of(asked)
        require_all(captions, asked, self._captions, self._attempts[0])
        known = self._twins.between(start, end)
        found = {pair: Reading(captions[pair], *known[at]) for at, pair in enumerate(asked, start) if at in known}
        waiting, replies = {pair: at for at, pair in enumerate(asked, start) if at not in known}, asked
        for attempt, rows in enumerate(self._replies):
            if attempt:
                waiting = {pair: at for pair, at in waiting.items() if found[pair].reason is not None}
                replies = rows.of(waiting)
            tried = [pair for pair in waiting if pair in replies]
            verdicts = self._verdicts.of(attempt, [waiting[pair] for pair in tried])
            for pair, accepted in zip(tried, verdicts, strict=True):
                found[pair] = self._read(captions[pair], replies[pair], found.get(pair), accepted)
        return [found[pair] for pair in asked]

    @cached_property
    def _twins(self) -> Twins:
        return Twins(self._rows, self._replies, self._verdicts, repeated(self._captions), self._read, self._work)


def parsing(strength: Filter, source: str) -> dict[str, Any]:
    """What enters a fingerprint of how replies are read; lakes from before there was a choice were read strictly."""
    return {"parser": PARSER_VERSION} | ({} if strength == "strict" else {"filter": strength}) | keyed(source)


class ReadReplies(Step):
    """Triplets and rejects from the replies of one or more attempts. Rows in = triplets + rejects."""

    name = "read the replies"

    def __init__(
        self, lake: Lake, stage: str, kind: Literal["seed", "generated"], style: Style,
        captions: Dataset, attempts: Sequence[Dataset], strength: Filter = "strict",
    ) -> None:  # fmt: skip
        super().__init__(lake)
        self.stage, self._kind, self._style, self._strength = stage, kind, style, strength
        self._captions, self._attempts = captions, attempts

    @property
    def outputs(self) -> Mapping[str, Identity]:
        source = self._captions.source
        config = parsing(self._strength, source) | {"style": self._style, "kind": self._kind}
        return identities(
            "rejects", "triplets", source=source, label=self.stage, sealed_as=f"{self.stage}.read",
            version=1, config=config, inputs=self._attempts,
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return shard_sizes(self._attempts[0].rows, READ_ROWS) or [0]

    @cached_property
    def _readings(self) -> Readings:
        read, work = Reader(self._style, self._strength), self.drafts["triplets"].work_folder()
        return Readings(self._captions, self._attempts, read, work)

    def work(self, shard: int, tick: Tick) -> None:
        readings = self._readings.between(shard * READ_ROWS, (shard + 1) * READ_ROWS)
        kept, rejected = ([r for r in readings if (r.reason is not None) == refused] for refused in (False, True))
        self.drafts["rejects"].write_part(shard, self._reject_columns(rejected))
        self.drafts["triplets"].write_part(shard, self._triplet_columns(kept))
        tick(len(readings))

    def _triplet_columns(self, readings: Sequence[Reading]) -> dict[str, Any]:
        return {
            **{name: [r.caption[name] for r in readings] for name in CAPTION_COLUMNS},
            "kind": [self._kind] * len(readings),
            "modification": [r.modification for r in readings],
            "modified_caption": [r.modified_caption for r in readings],
            "model": [r.model for r in readings],
        }

    def _reject_columns(self, readings: Sequence[Reading]) -> dict[str, Any]:
        return {
            "pair_id": [r.caption["pair_id"] for r in readings],
            "source": [r.caption["source"] for r in readings],
            "stage": [self.stage] * len(readings),
            "reason": [r.reason for r in readings],
            "raw": [r.raw for r in readings],
            "tries": [r.tries for r in readings],
        }


def reply_columns(rows: Sequence[Mapping[str, Any]], stage: str, model: str, attempt: int) -> dict[str, Any]:
    """Columns of `replies` from rows of (pair_id, source, seed, reply fields, usd)."""
    own = ("pair_id", "source", "seed", "text", "finish_reason", "prompt_tokens", "completion_tokens", "usd")
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in own}
    return {**columns, "stage": [stage] * len(rows), "model": [model] * len(rows), "attempt": [attempt] * len(rows)}


def usage_of(parts: Iterator[pa.Table], seconds: float) -> Usage:
    """Tokens and money of replies."""
    prompt = completion = 0
    usd = 0.0
    for part in parts:
        prompt += sum(part["prompt_tokens"].to_pylist())
        completion += sum(part["completion_tokens"].to_pylist())
        usd += sum(part["usd"].to_pylist())
    return Usage(seconds=seconds, prompt_tokens=prompt, completion_tokens=completion, usd=round(usd, 6))
