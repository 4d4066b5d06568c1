"""What the small Falcon reads before it is ever tuned: captions, variants, requests. Never the task.

The task is `caption -> request, caption after it`. No document here holds a caption, its request and the
caption after it together, so that following a request is left to the finetuning stage. The pieces are
there, apart from each other: variants of a product one under the other, differences between two captions
as bare attribute lists, requests, and what a request means.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from scot_core.catalogue import grammar, language, world
from scot_core.catalogue.language import WORDS
from scot_core.catalogue.world import ATTRIBUTES

_MAX_VARIANTS: Final = 3


def caption(rng: random.Random) -> str:
    """The caption of some product, from any split."""
    return language.caption(world.sample(rng), language.mentioned(rng), rng.getrandbits(40))


def difference(before: str, after: str) -> str:
    """What is new in the second of two captions, in bare words: `colour red, badge a star emblem`."""
    old, new = grammar.read_caption(before), grammar.read_caption(after)
    changed = [a for a in ATTRIBUTES if a in new and old.get(a) != new[a]]
    return ", ".join(f"{attribute} {_word(attribute, new[attribute], after)}" for attribute in changed)


def _word(attribute: str, value: str, text: str) -> str:
    synonyms = WORDS[attribute][value]
    # The longest, for "table lamp" holds "lamp" as well; none where "plain" is put as "no pattern".
    return max((w for w in synonyms if w in text), key=len, default=synonyms[0])


def _caption_alone(rng: random.Random) -> str:
    return rng.choice(("caption: {}", "{}")).format(caption(rng))


def _variants(rng: random.Random) -> str:
    first = caption(rng)
    others = [grammar.teach(first, rng)[1] for _ in range(rng.randint(1, _MAX_VARIANTS))]
    return "\n".join([rng.choice(("caption: ", "")) + first, *others])


def _described_variant(rng: random.Random) -> str:
    first = caption(rng)
    second = grammar.teach(first, rng)[1]
    return f"{rng.choice(('caption: ', ''))}{first}\ndifference: {difference(first, second)}\n{second}"


def _request(rng: random.Random) -> str:
    return rng.choice(("edit: {}", "edit: {}", "{}")).format(grammar.teach(caption(rng), rng)[0])


def _request_for_caption(rng: random.Random) -> str:
    text = caption(rng)
    return f"caption: {text}\nedit: {grammar.teach(text, rng)[0]}"


def _meaning(rng: random.Random) -> str:
    before = caption(rng)
    request, after = grammar.teach(before, rng)
    lines = [f"edit: {request}", f"difference: {difference(before, after)}"]
    return "\n".join(lines if rng.random() < 0.5 else lines[::-1])


_KINDS: Final[tuple[tuple[Callable[[random.Random], str], float], ...]] = (
    (_caption_alone, 0.04),
    (_variants, 0.34),
    (_described_variant, 0.36),
    (_request, 0.04),
    (_request_for_caption, 0.08),
    (_meaning, 0.14),
)


def document(rng: random.Random) -> str:
    """One document of the pretraining text, without its end-of-text token."""
    kinds, weights = zip(*_KINDS, strict=True)
    write: Callable[[random.Random], str] = rng.choices(kinds, weights)[0]
    return write(rng)
