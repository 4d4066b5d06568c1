"""From replies to triplets and rejects: a pure reading of what a model said (§3.2, eq. 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.sources import held_out_of, keyed
from scot_core.stages.replies.join import Row, Rows, repeated, require_all
from scot_core.stages.step import Step, Tick, identities, shard_sizes
from scot_core.triplets import PARSER_VERSION, Filter, Rejection, Style, duplicates, read_reply

CAPTION_COLUMNS = ("pair_id", "source", "image_id", "caption")
REPLY_COLUMNS = ("pair_id", "text", "finish_reason", "model")
READ_ROWS = 50_000  # replies of one part of triplets
HELD_OUT = "held_out"  # reason of a triplet that shows what the benchmark of its source holds out; no filter's


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of one caption: a triplet, or the reason why not."""

    caption: Mapping[str, Any]
    model: str
    tries: int
    raw: str
    modification: str | None
    modified_caption: str | None
    reason: str | None


def read_replies(
    captions: Iterable[Row], attempts: Sequence[Iterable[Row]], style: Style, strength: Filter = "strict"
) -> list[Reading]:
    """One reading for every caption that was asked, in the order of the first attempt.

    `attempts` holds the replies of each try; the first acceptable one counts. Within a try, later rows that
    repeat a modification for the same caption are duplicates; so are those of a later try.
    """
    by_id = {row["pair_id"]: row for row in captions}
    readings: dict[str, Reading] = {}
    tries = [{row["pair_id"]: row for row in rows} for rows in attempts]
    asked = list(tries[0]) if tries else []
    for replies in tries:
        waiting = [i for i in asked if i in replies and (i not in readings or readings[i].reason is not None)]
        tried = [_read(by_id[i], replies[i], readings.get(i), style, strength) for i in waiting]
        kept = [reading for reading in readings.values() if reading.reason is None]
        repeated = duplicates([(r.caption["caption"], r.modification) for r in [*kept, *tried]])[len(kept) :]
        for reading, again in zip(tried, repeated, strict=True):
            readings[reading.caption["pair_id"]] = _rejected(reading, "duplicate") if again else reading
    return [readings[i] for i in asked]


class Readings:
    """`read_replies` over datasets of any size, some rows at a time.

    Whether a row repeats another depends on rows that lie anywhere, but only where two captions are the same: these
    rows are read first and kept. Of all others a few parts are in memory.
    """

    def __init__(self, captions: Dataset, attempts: Sequence[Dataset], style: Style, strength: Filter) -> None:
        self._captions, self._attempts, self._style, self._strength = captions, attempts, style, strength
        self._rows = Rows(captions, CAPTION_COLUMNS)
        self._replies = [Rows(attempt, REPLY_COLUMNS) for attempt in attempts]

    def __len__(self) -> int:
        return len(self._replies[0])

    def between(self, start: int, end: int) -> list[Reading]:
        """Of the captions that were asked at these places."""
        asked = {row["pair_id"]: row for row in self._replies[0].between(start, end)}
        alone = [pair for pair in asked if pair not in self._twins]
        captions = self._rows.of(alone)
        require_all(captions, alone, self._captions, self._attempts[0])
        found = {pair: _read(captions[pair], asked[pair], None, self._style, self._strength) for pair in alone}
        for attempt in self._replies[1:]:
            again = attempt.of([pair for pair, reading in found.items() if reading.reason is not None])
            for pair, reply in again.items():
                found[pair] = _read(captions[pair], reply, found[pair], self._style, self._strength)
        return [found.get(pair) or self._twins[pair] for pair in asked]

    @cached_property
    def _twins(self) -> dict[str, Reading]:
        texts = dict(repeated(self._captions))
        attempts = [
            [row for part in attempt.read_parts(REPLY_COLUMNS) for row in part.to_pylist() if row["pair_id"] in texts]
            for attempt in self._attempts
            if texts
        ]
        asked = {row["pair_id"] for rows in attempts for row in rows}
        readings = read_replies(
            Rows(self._captions, CAPTION_COLUMNS).of(asked).values(), attempts, self._style, self._strength
        )
        return {reading.caption["pair_id"]: reading for reading in readings}


def _read(
    caption: Mapping[str, Any], reply: Mapping[str, Any], before: Reading | None, style: Style, strength: Filter
) -> Reading:
    tries = 1 if before is None else before.tries + 1
    result = read_reply(caption["caption"], reply["text"], reply["finish_reason"], style, strength)
    if isinstance(result, Rejection):
        return Reading(caption, reply["model"], tries, reply["text"], None, None, result.reason)
    parts, held = (result.modification, result.modified_caption), held_out_of(caption["source"])
    read = Reading(caption, reply["model"], tries, reply["text"], *parts, None)
    return _rejected(read, HELD_OUT) if held and held.shows(caption["caption"], *parts) else read


def _rejected(reading: Reading, reason: str) -> Reading:
    return Reading(reading.caption, reading.model, reading.tries, reading.raw, None, None, reason)


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
        return Readings(self._captions, self._attempts, self._style, self._strength)

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
