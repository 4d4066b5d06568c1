"""Which concepts of a vocabulary an image shows, by zero-shot classification with the frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scot_core.errors import DataError, ShapeError
from scot_core.searle.sentences import TEMPLATES, Sentence
from scot_core.vectors import Vectors

_CONCEPTS_AT_ONCE, _IMAGES_AT_ONCE = 256, 1024


def vocabulary(names: Iterable[str]) -> tuple[str, ...]:
    """Names without blanks around them, each once, in the order given. SEARLE's are those of Open Images V7."""
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def concept_vectors(
    embed_texts: Callable[[Sequence[str]], npt.NDArray[Any]],
    concepts: Sequence[str],
    templates: Sequence[Sentence] = TEMPLATES,
) -> Vectors:
    """One vector for each concept, (V, D) float32, L2-normalised.

    It is the mean of the normalised vectors of the concept in every template: SEARLE's code averages over all its
    templates; `(Sentence.parse("a photo of $"),)` is the plain prompt. Raises DataError for an empty vocabulary.
    """
    if not concepts:
        raise DataError("there is no concept in the vocabulary")
    chunks = []
    for start in range(0, len(concepts), _CONCEPTS_AT_ONCE):
        some = concepts[start : start + _CONCEPTS_AT_ONCE]
        vectors = np.asarray(embed_texts([t.with_word(name) for name in some for t in templates]), dtype=np.float32)
        chunks.append(_unit(_unit(vectors).reshape(len(some), len(templates), -1).mean(axis=1)))
    return np.concatenate(chunks)


def nearest_concepts(images: Vectors, vectors: Vectors, concepts: Sequence[str], k: int = 15) -> list[tuple[str, ...]]:
    """The `k` concepts most similar to each image, most similar first (all where there are fewer).

    `images` (N, D) need not be normalised, `vectors` (V, D) are those of `concept_vectors`. Raises
    ShapeError where the three do not fit together.
    """
    if images.ndim != 2 or vectors.shape != (len(concepts), images.shape[1]):
        raise ShapeError(f"images {images.shape} and vectors {vectors.shape} of {len(concepts)} concepts do not fit")
    found: list[tuple[str, ...]] = []
    for start in range(0, len(images), _IMAGES_AT_ONCE):
        distances = -(images[start : start + _IMAGES_AT_ONCE] @ vectors.T)
        best = np.sort(np.argpartition(distances, min(k, len(concepts)) - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(np.take_along_axis(distances, best, axis=1), axis=1, kind="stable")
        found.extend(tuple(concepts[c] for c in row) for row in np.take_along_axis(best, order, axis=1))
    return found


def _unit(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / lengths
