"""How the catalogue's benchmark asks: every edit in five templates that no triplet uses, in known and in new words.

Disjoint from `scot_core.catalogue.language`, in whose words the teacher, the small Falcon and the encoder's pretraining
ask. `KNOWN` says the values in the words of the captions, `NEW` in those of `NEW_WORDS`; `TRAINED` is a text of the
training's grammar, for comparison.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from scot_core.catalogue import language
from scot_core.catalogue.language import ABSENT, WORDS, with_article
from scot_core.catalogue.words import NEW_WORDS

TRAINED, KNOWN, NEW = "trained", "known words", "new words"
WORDINGS: Final = (KNOWN, NEW, TRAINED)
NEGATION, SWAP = "negation", "swap"

_Word = Callable[[str, str], str]
"""Attribute and value -> what it is called."""

# An edit in a phrase or as a request; which one a frame takes is named in it. {w} the new value, {a} with its article,
# {old} the value that is there, {thing} what goes.
_FRAMES: Final = (
    "could you show me one {phrase}?",
    "looking for this exact article {phrase}",
    "keep everything as it was, only {request}",
    "{request}, please, nothing else",
    "what i need differs: {phrase}",
)
_CLAUSES: Final[dict[str, tuple[str, str]]] = {
    "type": ("that would be {a}", "exchange the product for {a}"),
    "colour": ("coloured {w}", "paint everything {w}"),
    "pattern": ("bearing {w} all over", "cover this in {w}"),
    "detail": ("featuring {w}", "let this have {w}"),
    "background": ("pictured {w}", "move this so it stands {w}"),
    "badge": ("carrying {a}", "print {a} onto this"),
    "size": ("looking {w} next to this", "let this become {w}"),
    "gone": ("having no {thing} at all", "let this have no {thing} at all"),
    "negation": ("not {old} any longer but {w}", "no more {old}, rather {w}"),
    "swap": ("{w} where this was {old}", "instead of {old} put {w}"),
}
_COMPARED: Final = {"small": ("smaller", "smaller"), "large": ("larger", "bigger")}
# What goes; of other things it is said what is there afterwards.
_GONE: Final = {"sleeveless": "sleeves", "no handle": "handle", "plain": "pattern", "none": "badge"}
_GONE_NEW: Final = {"none": "logo"}


def asked(
    kind: str, changes: Mapping[str, str], before: Mapping[str, str], rng: random.Random
) -> dict[str, tuple[str, ...]]:
    """The modification texts of an edit, by wording: five in known words, five in new ones, and one as in training.

    Args:
        kind: of the edit; `negation` and `swap` name what is there as well.
        changes: attribute to its new value, one to three of them.
        before: attribute to its value in the reference.
        rng: chooses synonyms, and the training grammar's text.
    """
    choice = {attribute: rng.randrange(2) for attribute in changes}
    ordered = sorted(changes, key=lambda attribute: attribute != "type")  # a new type is asked for first
    return {
        KNOWN: _texts([_clause(kind, a, changes[a], before[a], _known(choice[a]), _GONE) for a in ordered]),
        NEW: _texts([_clause(kind, a, changes[a], before[a], _new, _GONE_NEW) for a in ordered]),
        TRAINED: (language.modification(changes, before, choice, rng),),
    }


def _texts(clauses: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    phrase, request = (" and ".join(texts) for texts in zip(*clauses, strict=True))
    return tuple(frame.format(phrase=phrase, request=request) for frame in _FRAMES)


def _known(choice: int) -> _Word:
    """Values in the words of captions."""

    def word(attribute: str, value: str) -> str:
        synonyms = _COMPARED[value] if attribute == "size" else WORDS[attribute][value]
        return synonyms[choice % len(synonyms)]

    return word


def _new(attribute: str, value: str) -> str:
    return NEW_WORDS[attribute][value]


def _clause(
    kind: str, attribute: str, new: str, old: str, word: _Word, gone: Mapping[str, str]
) -> tuple[str, str]:  # fmt: skip
    """A change as a phrase and as a request."""
    operation = kind if kind in (NEGATION, SWAP) else attribute
    if new in ABSENT.get(attribute, ()) and new in gone:
        operation = "gone"
    elif new == "plain":
        operation = "colour"
    said = word(attribute, new)
    article = said if said.startswith("a ") else with_article(said)
    before = word(attribute, old)
    if attribute == "type" and operation != "type":
        said, before = article, with_article(before)
    words = {"w": said, "a": article, "old": before, "thing": gone.get(new, "")}
    phrase, request = _CLAUSES[operation]
    return phrase.format(**words), request.format(**words)
