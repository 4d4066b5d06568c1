"""How an edit of a caption is asked for: in several ways, which follow from what comes and what goes.

Only what comes and goes is named, never the rest of a caption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from scot_core.triplets.spans import with_article

Kind = Literal["replace", "add", "remove"]

_ARTICLES: Final = ("a", "an", "the")
_JOINING: Final = ("with", "and")
_PLACING: Final = (
    *("in", "on", "at", "under", "over", "near", "by", "behind", "beside", "between", "through", "across", "along"),
    *("against", "above", "below", "around", "inside", "outside", "from", "to", "into", "onto", "for", "of"),
)
_SWAP: Final = (
    "replace {old} with {new}",
    "{new} instead of {old}",
    "change {old} to {new}",
    "swap {old} for {new}",
    "make it {new}",
    "{new}",
)
_SWAP_PLACE: Final = ("{new} instead of {old}", "change {old} to {new}", "make it {new}", "{new}")
_ADD_THING: Final = ("add {new}", "with {new}", "give it {new}")
_ADD_PLACE: Final = ("show it {new}", "make it {new}", "{new}")
_ADD_WORD: Final = ("add {new}", "make it {new}", "{new}")
_REMOVE: Final = ("remove {the}{old}", "without {the}{old}", "take away {the}{old}", "no {old}")

ASKING: Final = tuple(
    sorted(
        {
            word
            for form in (*_SWAP, *_ADD_THING, *_ADD_PLACE, *_ADD_WORD, *_REMOVE)
            for word in form.split()
            if "{" not in word
        }
    )
)
"""The words that edits are asked with, whatever comes and goes."""


@dataclass(frozen=True, slots=True)
class Span:
    """Words that come or go, as written, and whether they end a phrase that begins with "a" or "an"."""

    text: str
    named: bool

    @property
    def kind(self) -> Literal["thing", "place", "word"]:
        first = self.text.partition(" ")[0].lower()
        if first in _PLACING:
            return "place"
        named = self.named and not first.endswith("ing")
        return "thing" if named or first in _ARTICLES or first in _JOINING else "word"

    def bare(self) -> str:
        """Without articles and the like in front: `ball` of `with a ball`, `grass` of `on the grass`."""
        words = self.text.split()
        while len(words) > 1 and words[0].lower() in (*_ARTICLES, *_JOINING, *_PLACING):
            words.pop(0)
        return " ".join(words)

    def old(self) -> str:
        """As what is there: `the ball` of `with a ball`."""
        return f"the {self.bare()}" if self.kind == "thing" else self.text

    def new(self) -> str:
        """As what shall be there: `a ball` of `with a ball`."""
        first, _, rest = self.text.partition(" ")
        if first.lower() in _JOINING and rest:
            return rest
        is_bare_thing = self.kind == "thing" and first.lower() not in _ARTICLES
        return with_article(self.text) if is_bare_thing else self.text


def kind_of(old: str, new: str) -> Kind:
    """What an edit does, by the words that go and come."""
    return "replace" if old and new else "add" if new else "remove"


def wordings(old: Span, new: Span) -> list[str]:
    """Every way to ask for an edit; `old` is empty in an addition, `new` in a removal."""
    if not new.text:
        the = "the " if old.kind == "thing" else ""
        return [form.format(old=old.bare(), the=the) for form in _REMOVE]
    if not old.text:
        added = {"thing": _ADD_THING, "place": _ADD_PLACE, "word": _ADD_WORD}[new.kind]
        return [form.format(new=new.new()) for form in added]
    forms = _SWAP_PLACE if "place" in (old.kind, new.kind) else _SWAP
    return [form.format(old=old.old(), new=new.new()) for form in forms]
