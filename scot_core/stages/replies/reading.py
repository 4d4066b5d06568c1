"""One reply, read: a triplet, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from scot_core.sources import held_out_of
from scot_core.triplets import Filter, Parsed, Rejection, Style, read_reply

HELD_OUT = "held_out"  # reason of a triplet that shows what the benchmark of its source holds out; no filter's
ASKED_AGAIN = "asked_again"  # stands for the reason until the next try is read, and in no table
KEPT = 1 << 14  # replies whose judgement is kept: where more seeds are asked for, those there were are read once more


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

    def rejected(self, reason: str) -> Reading:
        return replace(self, modification=None, modified_caption=None, reason=reason)


@dataclass(frozen=True, slots=True)
class Reader:
    """How replies are read."""

    style: Style
    strength: Filter

    def __call__(
        self, caption: Mapping[str, Any], reply: Mapping[str, Any], before: Reading | None = None,
        accepted: bool | None = None,
    ) -> Reading:  # fmt: skip
        """A reply to a caption, of which `before` is what became of it until now.

        `accepted` says what became of the reply when it was judged before: then it is not judged by the filter again.
        """
        tries = 1 if before is None else before.tries + 1
        if accepted is False:
            return Reading(caption, reply["model"], tries, reply["text"], None, None, ASKED_AGAIN)
        strength = "off" if accepted else self.strength
        result = _judged(caption["caption"], reply["text"], reply["finish_reason"], self.style, strength)
        if isinstance(result, Rejection):
            return Reading(caption, reply["model"], tries, reply["text"], None, None, result.reason)
        parts, held = (result.modification, result.modified_caption), held_out_of(caption["source"])
        read = Reading(caption, reply["model"], tries, reply["text"], *parts, None)
        return read.rejected(HELD_OUT) if held and held.shows(caption["caption"], *parts) else read


@lru_cache(maxsize=KEPT)
def _judged(caption: str, text: str, finish_reason: str, style: Style, strength: Filter) -> Parsed | Rejection:
    return read_reply(caption, text, finish_reason, style, strength)
