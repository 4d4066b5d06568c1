"""Queries that only look at the two embeddings: either alone, and their sums (§4.3, Baselines)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scot_core.benchmarks.baselines import BASELINES, KNOWN_WORDS_SUM, Blend, choose_weight, weighted
from scot_core.methods.spec import Known, Method, Need, Queries, Ready

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

TRIPLETS = Need("triplets", "scot run --until embed")
PAPER = "SCOT, §4.3"


def alone(name: str) -> Callable[[Known], Ready]:
    """A baseline, which learns nothing."""
    compose = BASELINES[name]
    return lambda known: Ready(name, {"": lambda queries: compose(queries.images, queries.texts)})


def tuned(shown: str, blend: Blend, *, known_words: bool = False) -> Callable[[Known], Ready]:
    """A blend of the two, with the weight of the text that suits training triplets; `shown` goes before it.

    Texts are read as they are, or in the words that the encoder knows, where it can tell.
    """

    def ready(known: Known) -> Ready:
        some = known.examples
        weight = choose_weight(some.image, some.text, some.target, some.gallery, blend)

        def compose(queries: Queries) -> Vectors:
            if not known_words:
                return blend(queries.images, queries.texts, weight)
            return blend(queries.images, known.embed_requests(queries.requests), weight)

        return Ready(f"{shown}, weight {weight:.2f}", {"": compose})

    return ready


METHODS = (
    Method("image-only", "the reference image's embedding", PAPER, alone("image-only")),
    Method("text-only", "the modification text's embedding", PAPER, alone("text-only")),
    Method("image+text", "their sum, normalised", PAPER, alone("image+text")),
    Method(
        "tuned-sum", "their weighted sum, its weight chosen on training triplets", "Scot's strong baseline",
        tuned("image+text", weighted), needs=(TRIPLETS,),
    ),
    Method(
        "tuned-sum-known", "the same, of the text in words that the encoder knows", "beside scot-grounded",
        tuned(KNOWN_WORDS_SUM, weighted, known_words=True), needs=(TRIPLETS,),
    ),
)  # fmt: skip
