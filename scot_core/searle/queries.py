"""Composed queries: the pseudo-token of the reference image in a sentence with the modification."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from scot_core.errors import ShapeError
from scot_core.searle.sentences import Sentence, join_captions, query_sentence
from scot_core.searle.towers import PseudoTokenTower

Ask = Callable[[str], Sentence]
"""The sentence of a modification text."""
_AT_ONCE = 256


def compose(
    tower: PseudoTokenTower, words: Tensor, modifications: Sequence[str], ask: Ask = query_sentence
) -> Tensor:  # fmt: skip
    """Query vectors (B, D), L2-normalised, float32 or float64, of pseudo-tokens (B, W) and their modification texts.

    Raises ShapeError where the two do not fit together.
    """
    if len(words) != len(modifications):
        raise ShapeError(f"{len(words)} pseudo-tokens, but {len(modifications)} modifications; they must be pairs")
    sentences = [ask(text) for text in modifications]
    with torch.no_grad():
        chunks = [
            tower.features(sentences[start : start + _AT_ONCE], words[start : start + _AT_ONCE].to(tower.device))
            for start in range(0, max(1, len(sentences)), _AT_ONCE)
        ]
        features = torch.cat(chunks)
        return functional.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=1)


def compose_both_orders(
    tower: PseudoTokenTower, words: Tensor, captions: Sequence[tuple[str, str]], ask: Ask = query_sentence
) -> Tensor:  # fmt: skip
    """FashionIQ's queries, (B, D): the mean of the two orders of a query's captions, each normalised before and the
    mean after. Raises what `compose` raises."""
    one = compose(tower, words, [join_captions(first, second) for first, second in captions], ask)
    other = compose(tower, words, [join_captions(second, first) for first, second in captions], ask)
    return functional.normalize((one + other) / 2, dim=1)
