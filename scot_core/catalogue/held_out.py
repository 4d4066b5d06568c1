"""Which triplets show what the catalogue's benchmark holds out: types, and pairs of type and colour or pattern."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import product
from typing import Final

from scot_core.catalogue import world
from scot_core.catalogue.grammar import named, read_caption, read_modification

_VERSION: Final = 1  # of how texts are read here
RULE: Final = hashlib.blake2b(
    json.dumps([_VERSION, sorted(world.HELD_TYPES), sorted(world.HELD_COLOURS), sorted(world.HELD_PATTERNS)]).encode(),
    digest_size=6,
).hexdigest()
"""What is held out, in 12 hex digits: it enters the keys of the triplets that were kept away from it."""


def shows(caption: str, modification: str, modified_caption: str) -> bool:
    """Whether one of the three names what is held out, or the first two together ask for it.

    A text that names two types or two colours names each with each. The request is read into the caption as well,
    since a modified caption need not say all that was asked for.
    """
    asked_for = read_caption(caption) | read_modification(modification)
    texts = (_values(text) for text in (caption, modification, modified_caption))
    return any(map(_is_held, (*texts, {attribute: {value} for attribute, value in asked_for.items()})))


def pairs(caption: str, modification: str, modified_caption: str) -> set[str]:
    """The pairs of a type with a colour or a pattern that a triplet shows, before or after, such as `mug red`."""
    asked_for = read_caption(caption) | read_modification(modification)
    texts = [_values(text) for text in (caption, modified_caption)]
    texts.append({attribute: {value} for attribute, value in asked_for.items()})
    named = [(values.get("type", ()), (*values.get("colour", ()), *values.get("pattern", ()))) for values in texts]
    return {f"{kind} {other}" for kinds, others in named for kind, other in product(kinds, others)}


def _values(text: str) -> dict[str, set[str]]:
    values: dict[str, set[str]] = {}
    for attribute, value in named(text):
        values.setdefault(attribute, set()).add(value)
    return values


def _is_held(values: Mapping[str, set[str]]) -> bool:
    types = values.get("type", set())
    if types & world.HELD_TYPES:
        return True
    beside: list[tuple[str | None, str | None]] = [(colour, None) for colour in values.get("colour", ())]
    beside += [(None, pattern) for pattern in values.get("pattern", ())]
    return any(world.is_held(kind, *other) for kind, other in product(types, beside))
