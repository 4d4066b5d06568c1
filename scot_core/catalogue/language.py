"""The catalogue's English: captions in five frames with synonyms, and modification texts in three moods.

A caption is a `Wording` (what is said, and with which words) put into a frame. Two captions of one style
differ only in the words that name different values. `scot_core.catalogue.grammar` reads both back.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scot_core.catalogue.world import ATTRIBUTES, BADGES, COLOURS, DETAILS, Product

_NEGATIVE: Final = {"sleeveless": "no sleeves"}
# Attribute to value to its synonyms; a wording chooses one synonym per attribute by index.
WORDS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "type": {
        "t-shirt": ("t-shirt", "tee"),
        "dress": ("dress", "gown"),
        "tote bag": ("tote bag", "shopper"),
        "backpack": ("backpack", "rucksack"),
        "mug": ("mug", "cup"),
        "vase": ("vase", "jar"),
        "sneaker": ("sneaker", "trainer"),
        "beanie": ("beanie", "knit hat"),
        "lamp": ("lamp", "table lamp"),
        "cushion": ("cushion", "pillow"),
    },
    "colour": {colour: (colour,) for colour in COLOURS},
    "pattern": {
        "plain": ("plain",),
        "striped": ("striped", "stripy"),
        "polka dot": ("polka dot", "dotted"),
        "checked": ("checked", "plaid"),
        "zigzag": ("zigzag", "chevron"),
        "floral": ("floral", "flowery"),
    },
    "detail": {d: (_NEGATIVE.get(d, d),) for details in DETAILS.values() for d in details},
    "badge": {
        badge: ("no badge", "no emblem") if badge == "none" else (f"a {badge} badge", f"a {badge} emblem")
        for badge in BADGES
    },
    "size": {"small": ("small", "little"), "large": ("large", "big")},
    "background": {
        "white": ("on a white background", "in a white studio"),
        "wood": ("on a wooden table", "on wooden boards"),
        "brick": ("against a brick wall", "in front of bricks"),
        "grass": ("on the grass", "on a green lawn"),
        "tiles": ("on a tiled floor", "on pale tiles"),
    },
}
UNNAMED: Final = "item"  # the noun of a caption that does not mention the type
# Values that are the absence of something: they are asked for by removing it.
ABSENT: Final = {"pattern": ("plain",), "badge": ("none",), "detail": ("sleeveless", "no handle")}

PLAIN, PHOTO, SCENE, STATEMENT, TITLE = FRAMES = range(5)


def with_article(phrase: str) -> str:
    """`mug` -> `a mug`, `orange mug` -> `an orange mug`."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _synonym(attribute: str, value: str, choice: Mapping[str, int]) -> str:
    synonyms = WORDS[attribute][value]
    return synonyms[choice.get(attribute, 0) % len(synonyms)]


def _listed(items: Sequence[str]) -> str:
    """`x`, `x and y`, `x, y and z`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


@dataclass(frozen=True)
class Wording:
    """What a caption says and how: values of the mentioned attributes, and the words chosen for them.

    Attributes:
        frame: one of `FRAMES`.
        said: mentioned attribute to value.
        choice: attribute to index of the synonym (taken modulo the number of synonyms).
        pattern_first: `striped red` rather than `red striped`; `plain` always comes first.
    """

    frame: int
    said: Mapping[str, str]
    choice: Mapping[str, int]
    pattern_first: bool

    def word(self, attribute: str) -> str | None:
        """The words for an attribute, None if it is not mentioned."""
        if attribute not in self.said:
            return None
        return _synonym(attribute, self.said[attribute], self.choice)

    def text(self) -> str:
        """The caption."""
        noun = self.word("type") or UNNAMED
        if self.frame == STATEMENT:
            return self._statement(noun)
        order = ("size", "colour", "pattern")
        if self.pattern_first or self.said.get("pattern") == "plain":
            order = ("size", "pattern", "colour")
        name = " ".join([*filter(None, map(self.word, order)), noun])
        place, extras = self.word("background"), _listed([*filter(None, map(self.word, ("detail", "badge")))])
        if self.frame == PLAIN:
            return _joined(with_article(name), extras and f" with {extras}", place and f" {place}")
        if self.frame == PHOTO:
            return _joined(f"a photo of {with_article(name)}", place and f" {place}", extras and f", with {extras}")
        if self.frame == SCENE:
            return _joined(place and f"{place}, ", with_article(name), extras and f" that has {extras}")
        return _joined(name, extras and f", with {extras}", place and f", {place}")

    def _statement(self, noun: str) -> str:
        adjectives = _listed([*filter(None, map(self.word, ("size", "colour")))])
        pattern = self.word("pattern")
        if pattern is not None:  # "is red and zigzag" is no English
            pattern = "no pattern" if self.said["pattern"] == "plain" else f"a {pattern} pattern"
        extras = _listed([*filter(None, (pattern, self.word("detail"), self.word("badge")))])
        place = self.word("background")
        return _joined(
            f"this {noun}",
            adjectives and f" is {adjectives}",
            extras and f", with {extras}",
            place and f", shown {place}",
        )


def _joined(*parts: str | None) -> str:
    return "".join(part for part in parts if part)


def mentioned(rng: random.Random) -> frozenset[str]:
    """The attributes a caption mentions: type and colour nearly always, each other one in three of four."""
    chosen = [a for a in ATTRIBUTES if rng.random() < (0.97 if a in ("type", "colour") else 0.75)]
    return frozenset(chosen or ["type"])


def caption(product: Product, mention: Collection[str], style: int) -> str:
    """Describe a product; the same style gives minimally different captions for similar products.

    Args:
        product: what is shown.
        mention: the attributes to mention, the rest is left to the image.
        style: any non-negative integer; it fixes the frame, the synonyms and the order of the adjectives.
    """
    # Spread neighbouring styles over all choices (a multiplicative hash), then read the choices off.
    rest = (style * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 24
    rest, frame = divmod(rest, len(FRAMES))
    rest, order = divmod(rest, 3)
    return Wording(
        frame=frame,
        said={a: getattr(product, a) for a in ATTRIBUTES if a in mention},
        choice={a: rest >> i & 1 for i, a in enumerate(ATTRIBUTES)},
        pattern_first=order == 0,
    ).text()


# Modification texts. One mood per text, so that two requests read as one sentence. Each form is a lead and
# a rest: a lead that two requests share is said once ("is red and larger"). {w} a word, {a} with its
# article, {old} the badge that is there.
_Forms = dict[str, tuple[tuple[str, str], ...]]
_IMPERATIVE: Final[_Forms] = {
    "type": (("make it", "{a}"), ("turn it into", "{a}"), ("swap it for", "{a}"), ("change it to", "{a}")),
    "colour": (("make it", "{w}"), ("change the colour to", "{w}"), ("turn it", "{w}")),
    "pattern": (("make it", "{w}"), ("give it", "a {w} pattern"), ("change it to", "a {w} pattern")),
    "pattern removed": (("make it", "plain"), ("remove", "the pattern")),
    "detail": (("give it", "{w}"), ("switch to", "{w}"), ("change it to one with", "{w}")),
    "detail removed": (("remove", "the {thing}"), ("change it to one with", "{w}")),
    "badge added": (("add", "{a} badge"), ("put", "{a} on it"), ("give it", "{a} badge")),
    "badge swapped": (
        ("replace", "the {old} with {a}"), ("change", "the badge to {a}"), ("swap", "the {old} for {a}"),
    ),
    "badge removed": (("remove", "the badge"), ("remove", "the {old}"), ("take off", "the {old}")),
    "larger": (("make it", "larger"), ("make it", "bigger"), ("increase", "the size")),
    "smaller": (("make it", "smaller"), ("reduce", "the size"), ("choose", "a smaller one")),
    "background": (("show it", "{w}"), ("photograph it", "{w}"), ("place it", "{w}")),
}  # fmt: skip
_PREDICATE: Final[_Forms] = {
    "type": (("is", "{a}"),),
    "colour": (("is", "{w}"), ("comes in", "{w}")),
    "pattern": (("has", "a {w} pattern"),),
    "pattern removed": (("is", "plain"), ("has", "no pattern")),
    "detail": (("has", "{w}"),),
    "detail removed": (("has", "{w}"),),
    "badge added": (("has", "{a} badge"), ("has", "{a} on it")),
    "badge swapped": (("now has", "{a} badge instead of the {old}"), ("now has", "{a} instead of the {old}")),
    "badge removed": (("has", "no badge"), ("has", "nothing printed on it")),
    "larger": (("is", "larger"), ("is", "bigger")),
    "smaller": (("is", "smaller"),),
    "background": (("is", "{w}"), ("is shown", "{w}")),
}
_PHRASE: Final[_Forms] = {
    "type": (("as", "{a}"),),
    "colour": (("in", "{w}"),),
    "pattern": (("with", "a {w} pattern"),),
    "pattern removed": (("without", "the pattern"), ("with", "no pattern")),
    "detail": (("with", "{w}"),),
    "detail removed": (("with", "{w}"), ("without", "the {thing}")),
    "badge added": (("with", "{a} badge"), ("with", "{a} on it")),
    "badge swapped": (("with", "{a} badge"), ("showing", "{a} instead of the {old}")),
    "badge removed": (("without", "the {old}"), ("without", "the badge"), ("with", "no badge")),
    "larger": (("in", "a larger size"), ("in", "a bigger size")),
    "smaller": (("in", "a smaller size"),),
    "background": (("", "{w}"),),
}
_MOODS: Final = (_IMPERATIVE, _IMPERATIVE, _PREDICATE, _PHRASE)
_PHRASE_FRAMES: Final = ("{}", "the same but {}", "i want it {}", "i would like it {}")
_SHARED_LEADS: Final = frozenset({"make it", "is", "has", "with", "give it"})
_THINGS: Final = {"sleeveless": "sleeves", "no handle": "handle"}


def _operation(attribute: str, new: str, old: str | None) -> str:
    if attribute == "size":
        return "larger" if new == "large" else "smaller"
    if new in ABSENT.get(attribute, ()):
        return f"{attribute} removed"
    if attribute == "badge":
        return "badge added" if old in (None, "none") else "badge swapped"
    return attribute


def modification(
    changes: Mapping[str, str],
    before: Mapping[str, str],
    choice: Mapping[str, int],
    rng: random.Random,
) -> str:
    """Ask for changes: `make it larger and add a star badge`, `is red`, `the same but with no handle`.

    Args:
        changes: attribute to its new value, one or two of them.
        before: attribute to its value in the reference, as far as it is known.
        choice: attribute to index of the synonym, as in `Wording`.
        rng: chooses mood and forms.
    """
    if list(changes) == ["type"] and rng.random() < 0.2:
        return f"the same design on {with_article(_synonym('type', changes['type'], choice))}"
    forms = rng.choice(_MOODS)
    said: list[tuple[str, str, str]] = []
    for attribute in sorted(changes, key=lambda a: a != "type"):  # a new type is asked for first
        new, old = changes[attribute], before.get(attribute)
        lead, rest = rng.choice(forms[_operation(attribute, new, old)])
        word = new if attribute == "badge" else _synonym(attribute, new, choice)
        rest = rest.format(w=word, a=with_article(word), old=old, thing=_THINGS.get(new))
        said.append((attribute, lead, rest))
    text = said[0][1] + " " + said[0][2]
    for attribute, lead, rest in said[1:]:
        shared = lead in _SHARED_LEADS and lead == said[0][1] and "type" not in (attribute, said[0][0])
        text += f" and {rest}" if shared else f" and {lead} {rest}"
    text = " ".join(text.split())
    return rng.choice(_PHRASE_FRAMES).format(text) if forms is _PHRASE else text
