"""One reply, read: a triplet, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scot_core.sources import held_out_of
from scot_core.triplets import Filter, Rejection, Style, parse, read_reply

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

    def rejected(self, reason: str) -> Reading:
        return replace(self, modification=None, modified_caption=None, reason=reason)


@dataclass(frozen=True, slots=True)
class Reader:
    """How replies are read."""

    style: Style
    strength: Filter

    def __call__(
        self, caption: Mapping[str, Any], reply: Mapping[str, Any], tries: int = 1, *, accepted: bool = False
    ) -> Reading:
        """The reply of a try to a caption, which is not judged again where it was `accepted` before."""
        if accepted:
            result = parse(reply["text"], self.style)
        else:
            result = read_reply(caption["caption"], reply["text"], reply["finish_reason"], self.style, self.strength)
        if isinstance(result, Rejection):
            return Reading(caption, reply["model"], tries, reply["text"], None, None, result.reason)
        parts, held = (result.modification, result.modified_caption), held_out_of(caption["source"])
        read = Reading(caption, reply["model"], tries, reply["text"], *parts, None)
        return read.rejected(HELD_OUT) if held and not accepted and held.shows(caption["caption"], *parts) else read
