"""Reading the catalogue's English: edits, a judge of triplets, and a teacher that writes them.

The judge decides from text alone, by the attributes that the three texts name. The teacher works from a
caption's text alone, as a language model behind an endpoint must; it never leads from a seen product into
a held-out type or combination.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from scot_core.catalogue import language
from scot_core.catalogue.language import ABSENT, WORDS, Wording
from scot_core.catalogue.world import ATTRIBUTES, BADGES, HELD_TYPES, TYPES, Product, is_held, values
from scot_core.errors import DataError

CONTRADICTION: Final = "?"
_TWO_CHANGES: Final = 0.4  # share of edits that change two attributes
_MAX_DRAWS: Final = 1000

# Phrase to (attribute, value); None: words that name what is there, and ask for nothing.
_Lexicon = dict[str, tuple[str, str] | None]


def _caption_lexicon() -> _Lexicon:
    named: _Lexicon = {
        word.removeprefix("a "): (attribute, value)
        for attribute, words in WORDS.items()
        for value, synonyms in words.items()
        for word in synonyms
    }
    return named | {
        "no pattern": ("pattern", "plain"),
        "without a pattern": ("pattern", "plain"),
        "sleeveless": ("detail", "sleeveless"),
        "without sleeves": ("detail", "sleeveless"),
        "without a handle": ("detail", "no handle"),
        "without a badge": ("badge", "none"),
        "nothing printed on it": ("badge", "none"),
    }


def _modification_lexicon() -> _Lexicon:
    asked = _caption_lexicon()
    for word, size in (("larger", "large"), ("bigger", "large"), ("smaller", "small")):
        asked[word] = ("size", size)
    asked |= {"increase the size": ("size", "large"), "reduce the size": ("size", "small")}
    removed = {"pattern": ("pattern", "plain"), "sleeves": ("detail", "sleeveless"), "handle": ("detail", "no handle")}
    removed |= {f"{badge}{noun}": ("badge", "none") for badge in BADGES[1:] for noun in ("", " badge", " emblem")}
    removed |= {"badge": ("badge", "none"), "emblem": ("badge", "none")}
    for thing, meaning in removed.items():
        asked |= {f"{verb} the {thing}": meaning for verb in ("remove", "take off", "without")}
        asked[f"the {thing}"] = None
    return asked | {f"a {badge}": ("badge", badge) for badge in BADGES[1:]}


_BEFORE, _AFTER = r"(?<![\w-])", r"(?![\w-])"


def _matcher(lexicon: _Lexicon) -> re.Pattern[str]:
    longest_first = sorted(lexicon, key=len, reverse=True)
    return re.compile(_BEFORE + "(?:" + "|".join(map(re.escape, longest_first)) + ")" + _AFTER)


_CAPTION_LEXICON: Final = _caption_lexicon()
_CAPTION_WORDS: Final = _matcher(_CAPTION_LEXICON)
_MODIFICATION_LEXICON: Final = _modification_lexicon()
_MODIFICATION_WORDS: Final = _matcher(_MODIFICATION_LEXICON)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _matches(text: str, words: re.Pattern[str], lexicon: _Lexicon) -> Iterator[tuple[re.Match[str], str, str]]:
    """The phrases that name something, with the attribute and the value they name."""
    for match in words.finditer(text):
        meaning = lexicon[match.group()]
        if meaning is not None:
            yield match, *meaning


def _read(text: str, words: re.Pattern[str], lexicon: _Lexicon) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, attribute, value in _matches(_plain(text), words, lexicon):
        found[attribute] = value if found.get(attribute, value) == value else CONTRADICTION
    return found


def read_caption(text: str) -> dict[str, str]:
    """The attributes a caption names and their values; `CONTRADICTION` where it names two."""
    return _read(text, _CAPTION_WORDS, _CAPTION_LEXICON)


def read_modification(text: str) -> dict[str, str]:
    """The attributes a modification asks for and the values it asks; `CONTRADICTION` where it asks for two."""
    return _read(text, _MODIFICATION_WORDS, _MODIFICATION_LEXICON)


def named(text: str) -> set[tuple[str, str]]:
    """Every attribute and value that a caption or a modification names, what goes included: two colours are two."""
    found = _matches(_plain(text), _MODIFICATION_WORDS, _MODIFICATION_LEXICON)
    return {(attribute, value) for _, attribute, value in found}


# ------------------------------------------------------------------------------------------------ edits


@dataclass(frozen=True, slots=True)
class Edit:
    """A modification of a product.

    Attributes:
        modification: the text that asks for it.
        product: the product after it.
        changed: the attributes asked for.
        free: attributes it leaves open (the detail, when the new type has not the old detail).
    """

    modification: str
    product: Product
    changed: frozenset[str]
    free: frozenset[str]


def _draw_changes(known: Mapping[str, str], rng: random.Random, max_changes: int) -> dict[str, str]:
    """One or two attributes and a new value for each; `known` may leave attributes out."""
    editable = [a for a in ATTRIBUTES if "type" in known or a not in ("type", "detail")]
    while True:
        count = 2 if max_changes > 1 and rng.random() < _TWO_CHANGES else 1
        chosen = rng.sample(editable, count)
        if not {"type", "detail"} <= set(chosen):
            break
    changes: dict[str, str] = {}
    for attribute in chosen:
        # Nobody asks to remove what was not mentioned.
        barred = (known[attribute],) if attribute in known else ABSENT.get(attribute, ())
        # Without a type there is no change of detail, and nothing else depends on the type.
        domain = values(attribute, known.get("type", TYPES[0]))
        changes[attribute] = rng.choice([v for v in domain if v not in barred])
    return changes


def _draw_choice(changes: Mapping[str, str], rng: random.Random) -> dict[str, int]:
    return {attribute: rng.randrange(2) for attribute in changes}


def edit(
    product: Product,
    rng: random.Random,
    *,
    max_changes: int = 2,
    allowed: Callable[[Product], bool] | None = None,
) -> Edit:
    """Draw a modification of a product whose every attribute is known.

    Args:
        product: the reference.
        rng: source of the draw.
        max_changes: 1, or 2 for two changes in two of five edits.
        allowed: what the product may become; None allows everything.

    Raises:
        DataError: no allowed product in 1,000 draws.
    """
    known = product.attributes()
    for _ in range(_MAX_DRAWS):
        changes = _draw_changes(known, rng, max_changes)
        free: frozenset[str] = frozenset()
        after = dict(changes)
        if "type" in changes and product.detail not in values("detail", changes["type"]):
            after["detail"] = rng.choice(values("detail", changes["type"]))
            free = frozenset({"detail"})
        target = product.replace(**after)
        if allowed is None or allowed(target):
            text = language.modification(changes, known, _draw_choice(changes, rng), rng)
            return Edit(text, target, frozenset(changes), free)
    raise DataError(f"no allowed edit of {product} in {_MAX_DRAWS} draws: loosen `allowed`")


# ------------------------------------------------------------------------------------------------ judge


class Verdict(StrEnum):
    """What the grammar says of a triplet."""

    RIGHT = "right"  # the edit is real, applied, and nothing else changed
    NO_EDIT = "no_edit"  # the modification asks for nothing, or for what the caption says already
    IDENTICAL = "identical"  # the modified caption is the caption
    NOT_APPLIED = "not_applied"  # something asked for is missing from the modified caption
    COLLATERAL = "collateral"  # something changed, came or went that nobody asked for


def judge(caption: str, modification: str, modified_caption: str) -> Verdict:
    """Judge a triplet by what its three texts name; the first verdict that applies, in the order of `Verdict`."""
    before, asked, after = read_caption(caption), read_modification(modification), read_caption(modified_caption)
    if all(before.get(attribute) == value for attribute, value in asked.items()):
        return Verdict.NO_EDIT
    if _plain(caption) == _plain(modified_caption):
        return Verdict.IDENTICAL
    if not all(_is_applied(attribute, value, after) for attribute, value in asked.items()):
        return Verdict.NOT_APPLIED
    expected = before | asked
    if "type" in asked and "detail" in before and before["detail"] not in values("detail", asked["type"]):
        expected.pop("detail")
    same = all(after.get(a) == expected.get(a) or (a in asked and _is_applied(a, asked[a], after)) for a in ATTRIBUTES)
    return Verdict.RIGHT if same else Verdict.COLLATERAL


def _is_applied(attribute: str, value: str, after: Mapping[str, str]) -> bool:
    # Something removed may be left unmentioned.
    absent = attribute not in after and value in ABSENT.get(attribute, ())
    return absent or (value != CONTRADICTION and after.get(attribute) == value)


# ---------------------------------------------------------------------------------------------- teacher


def _wording(caption: str) -> Wording:
    """The wording behind a caption, such that its text is the caption.

    Raises:
        DataError: not a caption of `language.caption`.
    """
    text = _plain(caption)
    said: dict[str, str] = {}
    choice: dict[str, int] = {}
    position: dict[str, int] = {}
    for match, attribute, value in _matches(text, _CAPTION_WORDS, _CAPTION_LEXICON):
        synonyms = [word.removeprefix("a ") for word in WORDS[attribute][value]]
        said[attribute] = value
        choice[attribute] = synonyms.index(match.group()) if match.group() in synonyms else 0
        position[attribute] = match.start()
    wording = Wording(
        frame=_frame(text, position),
        said=said,
        choice=choice,
        pattern_first=position.get("pattern", 1) < position.get("colour", 0),
    )
    if wording.text() != text:
        raise DataError(f"the catalogue's grammar cannot read the caption {caption[:80]!r}: it only reads its own")
    return wording


def _frame(text: str, position: Mapping[str, int]) -> int:
    if text.startswith("this "):
        return language.STATEMENT
    if text.startswith("a photo of "):
        return language.PHOTO
    if position.get("background") == 0 or " that has " in text:
        return language.SCENE
    return language.PLAIN if text.startswith(("a ", "an ")) else language.TITLE


def teach(caption: str, rng: random.Random) -> tuple[str, str]:
    """Write a modification for a caption, and the caption after it, from the caption's text alone.

    The modified caption keeps the caption's wording and changes only the words concerned. An attribute the
    caption left out is put where it belongs; a detail the new type has not is dropped. Products of the
    seen split stay in it, as far as the caption tells.

    Returns:
        (modification, modified caption)

    Raises:
        DataError: a caption the grammar cannot read.
    """
    wording = _wording(caption)
    while True:  # ends: a change of size or background is always possible
        changes = _draw_changes(wording.said, rng, 2)
        said = {**wording.said, **changes}
        if not _enters_held_out(wording.said, said):
            break
    if "type" in changes and said.get("detail") not in values("detail", said["type"]):
        said.pop("detail", None)
    # What is new is said in the modification's words; badges keep the caption's (badge, emblem).
    choice = {**wording.choice, **_draw_choice(changes, rng)}
    if "badge" in changes:
        choice["badge"] = wording.choice.get("badge", 0)
    modified = replace(wording, said=said, choice=choice)
    return language.modification(changes, wording.said, choice, rng), modified.text()


def _enters_held_out(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    changed = {a for a, value in after.items() if before.get(a) != value}
    if "type" in changed and after["type"] in HELD_TYPES:
        return True
    colour, pattern = (after.get(a) if {"type", a} & changed else None for a in ("colour", "pattern"))
    return is_held(after.get("type"), colour, pattern)
