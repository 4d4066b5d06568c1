"""What is made of a reply (§3.2, eq. 2): its two parts, or the reason why it makes no triplet."""

from __future__ import annotations

import json
import re
import string
from dataclasses import dataclass
from typing import Final, Literal

from scot_core.triplets import edits, lenient

PARSER_VERSION: Final = 2  # of parse, screen and what repeats what: another number makes new triplets of old replies

Style = Literal["lines", "json"]
Filter = Literal["off", "lenient", "strict"]
FAULTS: Final = {"lenient": lenient.fault, "strict": edits.fault}


@dataclass(frozen=True, slots=True)
class Parsed:
    """The two parts of a reply, each on one line."""

    modification: str
    modified_caption: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a reply makes no triplet; `reason` is a stable word of snake case."""

    reason: str


_FENCE: Final = "```"
_APOLOGY = re.compile(
    r"\A\W*(i'?m sorry|i am sorry|sorry\b|i can(no|')t|i am unable|i'm unable|as an ai\b)", re.IGNORECASE
)


def parse(text: str, style: Style) -> Parsed | Rejection:
    """Split a finished reply into its two parts.

    Rejects as `not_two_lines` (style "lines"), `refused`, `not_json`, `wrong_schema`, `error_wrong_encoding` (style
    "json"), `empty_modification`, `empty_modified_caption`.
    """
    parts = _two_lines(text) if style == "lines" else _json_object(text)
    if isinstance(parts, Rejection):
        return parts
    modification, modified_caption = (" ".join(part.split()) for part in parts)
    if not modification:
        return Rejection("empty_modification")
    if not modified_caption:
        return Rejection("empty_modified_caption")
    return Parsed(modification, modified_caption)


def _two_lines(text: str) -> tuple[str, str] | Rejection:
    # Blank lines at the end are a model's habit; one in front is a missing modification.
    lines = text.rstrip().split("\n")
    return (lines[0], lines[1]) if len(lines) == 2 else Rejection("not_two_lines")


def _json_object(text: str) -> tuple[str, str] | Rejection:
    try:
        reply = json.loads(unfenced(text))
    except (ValueError, RecursionError):  # the latter for "[[[[…"
        return Rejection("refused" if _APOLOGY.match(text.replace("\u2019", "'")) else "not_json")
    names = ("modification", "modified_caption")
    if not isinstance(reply, dict) or set(reply) != set(names) or not all(isinstance(reply[n], str) for n in names):
        return Rejection("wrong_schema")
    if not all(_is_text(reply[name]) for name in names):
        return Rejection("error_wrong_encoding")
    return reply["modification"], reply["modified_caption"]


def unfenced(text: str) -> str:
    """What stands in a reply that is one fenced block, else the reply. No regular expression: replies may be long."""
    block = text.strip()
    if len(block) < 2 * len(_FENCE) or not block.startswith(_FENCE) or not block.endswith(_FENCE):
        return text
    return block[len(_FENCE) : -len(_FENCE)].lstrip(string.ascii_lowercase).strip()


def _is_text(value: str) -> bool:
    r"""False for lone surrogates (`\ud800` in JSON). No table holds them, so no reading that is stored had any."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unfinished(finish_reason: str) -> Rejection | None:
    if finish_reason == "stop":
        return None
    known = {"length": "truncated", "refusal": "refused"}
    return Rejection(known.get(finish_reason, finish_reason.replace(":", "_").replace("-", "_")))


_MAX_MODIFICATION: Final = 200  # characters
_MAX_MODIFIED_CAPTION: Final = 1000
_SHORTEST, _LONGEST = 0.4, 2.5  # of the modified caption, relative to the caption
_SLACK: Final = 40  # characters by which even a short caption may grow
_LEAK = re.compile(
    r"\b(caption|edit|modification|modified[_ ]caption)\s*[:=]|<\|?[a-z_/]+\|?>|```|\bjson\b|[{}]",
    re.IGNORECASE,
)


def screen(
    caption: str, parsed: Parsed, finish_reason: str, strength: Filter = "strict"
) -> Rejection | None:  # fmt: skip
    """General filters: None for a triplet worth keeping, else the first reason against it.

    Strength `off` asks only that the reply is whole; `lenient` and `strict` differ in how exactly an edit must be
    applied (`scot_core.triplets.lenient`, `scot_core.triplets.edits`). In order: `truncated`, `refused`,
    `error_<kind>` (the reply is not whole); `prompt_leak`; `identical`; `modification_is_caption`;
    `modification_is_modified_caption`; `length`; `unapplied_edit`, `unsupported_edit`, `lost_content`.
    """
    modification, modified = parsed.modification, parsed.modified_caption
    before, asked, after = normalise(caption), normalise(modification), normalise(modified)
    if (unfinished := _unfinished(finish_reason)) is not None or strength == "off":
        return unfinished
    if _leaks(caption, modification) or _leaks(caption, modified):
        return Rejection("prompt_leak")
    if after == before:
        return Rejection("identical")
    if asked == before:
        return Rejection("modification_is_caption")
    if asked == after:
        return Rejection("modification_is_modified_caption")
    bounds = _SHORTEST * len(before), max(_LONGEST * len(before), len(before) + _SLACK)
    fits = bounds[0] <= len(after) <= bounds[1] and len(after) <= _MAX_MODIFIED_CAPTION
    if not fits or len(modification) > _MAX_MODIFICATION or not asked or not after:
        return Rejection("length")
    reason = FAULTS[strength](caption, modification, modified)
    return Rejection(reason) if reason is not None else None


def _leaks(caption: str, text: str) -> bool:
    leak = _LEAK.search(text)
    return leak is not None and leak.group().lower() not in caption.lower()


def read_reply(
    caption: str, text: str, finish_reason: str, style: Style, strength: Filter = "strict"
) -> Parsed | Rejection:
    """The triplet of a reply: finished, parsed and screened, or the reason why there is none."""
    if (unfinished := _unfinished(finish_reason)) is not None:
        return unfinished
    parsed = parse(text, style)
    if isinstance(parsed, Rejection):
        return parsed
    return screen(caption, parsed, finish_reason, strength) or parsed


def normalise(text: str) -> str:
    """Case, white space and punctuation at the ends do not make two texts different."""
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'")
