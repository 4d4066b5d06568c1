"""Texts that the catalogue encoder is pretrained on, each with what it says about the product.

Captions come full or partial, modification texts from the grammar; none says anything that the catalogue's
benchmark holds out. Noise keeps the text tower from leaning on the grammar's frames: filler words, dropped function
words, in captions other words for the same values, and words whose identity is withheld so that their letters must do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import torch

from scot_core.catalogue.grammar import edit
from scot_core.catalogue.language import WORDS, caption, mentioned
from scot_core.catalogue.words import NEW_WORDS
from scot_core.catalogue.world import ATTRIBUTES, TYPES, Product, sample, split_of, values
from scot_core.encoders.catalogue_text import UNKNOWN, Tokens, words

CONCEPTS: Final[dict[str, tuple[str, ...]]] = {
    attribute: tuple(dict.fromkeys(value for t in TYPES for value in values(attribute, t))) for attribute in ATTRIBUTES
}
"""Attribute to all its values, over all types."""

_CODES: Final = {a: {value: code for code, value in enumerate(domain)} for a, domain in CONCEPTS.items()}

_FILLER: Final = tuple(
    words(
        "very nice new great lovely shop view look please really home style same but want one just some would "
        "like my product picture image showing quality brand"
    )
)
_FUNCTION_WORDS: Final = frozenset(
    words("a an the this is and has with of photo in shown that it to i want same but one have")
)
_NEW_WORD_RATE: Final = 0.15  # of each value that a caption names


@dataclass(frozen=True, slots=True)
class Said:
    """A text and the attributes it determines."""

    text: str
    says: Mapping[str, str]


def codes(says: Mapping[str, str]) -> list[int]:
    """The number of each attribute's value in `CONCEPTS`, -1 for attributes that are not in `says`."""
    return [_CODES[attribute][says[attribute]] if attribute in says else -1 for attribute in ATTRIBUTES]


def full_caption(product: Product, style: int) -> str:
    """A caption that mentions every attribute."""
    return caption(product, ATTRIBUTES, style)


def caption_of(product: Product, rng: random.Random) -> Said:
    """A caption with noise: half of them full, a third as the lake's captions are, the rest sparse."""
    kind = rng.random()
    mention = frozenset(ATTRIBUTES)
    if kind > 0.85:
        mention = frozenset(rng.sample(ATTRIBUTES, rng.randint(1, 3)))
    elif kind > 0.5:
        mention = mentioned(rng)
    text = caption(product, mention, rng.getrandbits(30))
    says = {attribute: getattr(product, attribute) for attribute in mention}
    return Said(_noisy(_in_new_words(text, says, rng), rng), says)


def modification_of(product: Product, rng: random.Random, split: str | None) -> Said:
    """A modification text with noise, and the values it asks for. It leads out of no split."""
    asked = edit(product, rng, allowed=within(split))
    settled = asked.changed - asked.free
    return Said(_noisy(asked.modification, rng), {a: getattr(asked.product, a) for a in settled})


def within(split: str | None) -> Callable[[Product], bool] | None:
    """What a product of a split may become; none is the whole catalogue."""
    return None if split is None else lambda product: split_of(product) == split


def _in_new_words(text: str, says: Mapping[str, str], rng: random.Random) -> str:
    """A caption with some of its values in words of `NEW_WORDS`."""
    for attribute, value in says.items():
        if rng.random() < _NEW_WORD_RATE:
            known = max((word for word in WORDS[attribute][value] if word in text), key=len, default=None)
            text = text if known is None else text.replace(known, NEW_WORDS[attribute][value], 1)
    return text


def _noisy(text: str, rng: random.Random) -> str:
    said = words(text)
    if rng.random() < 0.15:
        said = [w for w in said if w not in _FUNCTION_WORDS or rng.random() < 0.4] or said
    if rng.random() < 0.2:
        for _ in range(rng.randint(1, 3)):
            said.insert(rng.randint(0, len(said)), rng.choice(_FILLER))
    return " ".join(said)


def forget_words(tokens: Tokens, rng: random.Random, share: float = 0.08) -> Tokens:
    """Withholds the identity of some distinct words; their n-grams stay."""
    kept = torch.tensor([i < 2 or rng.random() >= share for i in range(len(tokens.word_ids))])
    return replace(tokens, word_ids=tokens.word_ids.where(kept, UNKNOWN))


@cache
def vocabulary(split: str | None) -> tuple[str, ...]:
    """The words of many captions and modification texts, sorted."""
    rng = random.Random(0)
    found: set[str] = set(_FILLER)
    for _ in range(8000):
        product = sample(rng, split)
        asked = edit(product, rng, allowed=within(split)).modification
        found |= {*words(caption_of(product, rng).text), *words(full_caption(product, rng.getrandbits(30)))}
        found |= {*words(asked)}
    return tuple(sorted(found))
