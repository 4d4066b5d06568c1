"""SEARLE-OTI (arXiv 2303.15247): the pseudo-tokens of the references are found by gradient descent, query by query.

Only phrases are needed, no φ: concepts of the vocabulary nearest to each reference, their phrases, and `invert`. A
reference that several queries share is inverted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scot_core.methods.spec import Compose, Known, Method, Need, Queries, Ready
from scot_core.methods.words import written

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

NAME = "searle-oti"
PHRASES = Need("phrases", "scot run --until invert")
_AT_ONCE = 256


def ready(known: Known) -> Ready:
    """One run for each of the seeds that are known: of first pseudo-tokens, templates and phrases."""
    import torch

    from scot_core.searle import concept_vectors, invert, nearest_concepts

    tower, phrases = known.tower, known.phrases(PHRASES)
    vocabulary = tuple(phrases)
    vectors = concept_vectors(known.embed_texts, vocabulary) if vocabulary else None

    def composer(seed: int) -> Compose:
        def compose(queries: Queries) -> Vectors:
            rows = {name: row for row, name in enumerate(queries.ids)}  # each reference once
            ids, images = list(rows), queries.images[list(rows.values())]
            concepts: list[tuple[str, ...]] = [()] * len(ids)
            if vectors is not None:
                concepts = nearest_concepts(images, vectors, vocabulary, known.oti.concepts)
            words = [
                invert(
                    tower, ids[start : start + _AT_ONCE], torch.from_numpy(images[start : start + _AT_ONCE]),
                    concepts[start : start + _AT_ONCE], phrases, known.oti, seed,
                )
                for start in range(0, len(ids), _AT_ONCE)
            ]  # fmt: skip
            place = {name: row for row, name in enumerate(ids)}
            return written(tower, torch.cat(words)[[place[name] for name in queries.ids]], queries)

        return compose

    return Ready(NAME, {f"seed-{seed}": composer(seed) for seed in known.seeds})


METHODS = (
    Method(
        NAME, "a photo of v that {text}; v inverted from the image at query time", "arXiv 2303.15247",
        ready, needs=(PHRASES,), words=True, draws=True,
    ),
)  # fmt: skip
