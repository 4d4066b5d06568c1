"""The lenient filter: what a person wrote passes, what was not done at all does not.

People do not say every word that their edit brings, nor bring every word that they say: "make it night-time" turns a
sunset into a night. So it is enough that each part of a request shows in the modified caption, by words that are alike,
that half of what is new is spoken of, and that not much went without a word. It shares its reading of requests and
captions with the strict filter, `scot_core.triplets.edits`.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Final

from scot_core.triplets.edits import Change, Request, content, has, is_denied, related

_SUPPORTED: Final = 1 / 2  # of the new words, at least
_LOOSE: Final = 0.2  # of the caption's words may go without a word
_SPARE: Final = 2  # words that may make room for one run beyond as many as come
_PARTS: Final = 3  # words that may go with a thing that is replaced
_ALIKE: Final = 0.8  # share of letters that two long words have in common
_JOINTS: Final = re.compile("[-_]")  # file names and tags, in which captions come


def fault(caption: str, modification: str, modified_caption: str) -> str | None:
    """The first thing wrong with an edit, None where nothing seems to be: the reasons of `edits.fault`."""
    request = Request.of(_JOINTS.sub(" ", modification))
    change = Change.between(*(content(_JOINTS.sub(" ", text)) for text in (caption, modified_caption)))
    if not _is_applied(request, change):
        return "unapplied_edit"
    if not _is_supported(request, change):
        return "unsupported_edit"
    return None if _is_kept(request, change) else "lost_content"


def alike(a: str, b: str) -> bool:
    """Whether two words may be one: forms of a word, one within the other, the same beginning, or a slip of the pen."""
    short, long = sorted((a, b), key=len)
    if related(a, b) or len(short) < 4:
        return related(a, b)
    shared = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    same_beginning = shared >= 4 and shared >= 0.6 * len(short)
    return short in long or same_beginning or (len(short) >= 6 and SequenceMatcher(None, a, b).ratio() >= _ALIKE)


def _is_applied(request: Request, change: Change) -> bool:
    """Every clause shows by a word that is new, or by one that went; nothing that shall go stays whole."""
    come, gone = change.come, change.gone
    if not come and not gone:
        return False
    for clause in request.clauses:
        named = [word for word in clause.old if has(word, change.before, alike)]
        if named and not any(has(word, gone, alike) or is_denied(word, change.after) for word in named):
            return False
        if clause.wanted and not clause.removes and not any(has(word, come, alike) for word in clause.wanted):
            return False
    asks = any(clause.wanted or clause.old or clause.removes for clause in request.clauses)
    return asks or bool(come)


def _is_supported(request: Request, change: Change) -> bool:
    """Half of the new words are spoken of, were moved, or follow such a word; what is removed may leave other words."""
    if any(clause.removes for clause in request.clauses):
        return True
    moved = list(change.gone)
    new = unsupported = 0
    for run in change.runs:
        led_at: int | None = None
        for word in run.come:
            if word.text in moved:
                moved.remove(word.text)
                continue
            new += 1
            if request.speaks_of(word.text, alike):
                led_at = word.place
            elif run.gone or led_at is None or word.place != led_at + 1:
                unsupported += 1
    return unsupported <= (1 - _SUPPORTED) * new


def _is_kept(request: Request, change: Change) -> bool:
    """Few words go without others in their place and without having been named, unless something is removed."""
    if any(clause.removes for clause in request.clauses):
        return True
    come = change.come
    loose = 0
    for run in change.runs:
        gone = [word for word in run.gone if word not in come]
        if run.come:
            loose += max(0, len(gone) - len(run.come) - _SPARE)
        elif not any(request.speaks_of(word, alike) for word in gone):
            loose += len(gone)
    return loose <= _LOOSE * len(change.before) + (_PARTS if request.new_thing else 0)
