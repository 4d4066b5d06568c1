"""Queries without a trained composition: image-only, text-only and their weighted sum (§4.3, Baselines)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scot_core.errors import ConfigError, ShapeError
from scot_core.metrics import Floats, recall_at

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors


KNOWN_WORDS_SUM = "image+text in known words"
ALONE = ("image-only", "text-only")
"""The baselines that look at one of the two."""


def image_only(image: Vectors, text: Vectors) -> Vectors:
    """The reference image's own embedding (N, D), normalised; the text is not used."""
    return _unit("image", image)


def text_only(image: Vectors, text: Vectors) -> Vectors:
    """The modification text's own embedding (N, D), normalised; the image is not used."""
    return _unit("text", text)


def image_and_text(image: Vectors, text: Vectors) -> Vectors:
    """The normalised sum of the two normalised embeddings, (N, D): "Image+Text" of Tables 1 and 2."""
    return weighted(image, text, 0.5)


def weighted(image: Vectors, text: Vectors, weight: float) -> Vectors:
    """Normalised `weight * text + (1 - weight) * image` of the normalised embeddings, (N, D).

    Raises ShapeError where the tables differ in shape, ConfigError for a weight outside [0, 1].
    """
    check_pairs(image, text, weight)
    return _unit("sum", weight * _unit("text", text) + (1 - weight) * _unit("image", image))


def check_pairs(image: Vectors, text: Vectors, weight: float) -> None:
    """Raises ShapeError where the tables differ in shape, ConfigError for a weight outside [0, 1]."""
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"the weight of the text must be in [0, 1], not {weight}")
    if image.shape != text.shape:
        raise ShapeError(f"image vectors are {image.shape}, text vectors {text.shape}; they must be pairs")


Blend = Callable[["Vectors", "Vectors", float], "Vectors"]
"""Images and texts (N, D), and the text's weight in [0, 1] -> normalised (N, D)."""

BASELINES: dict[str, Callable[[Vectors, Vectors], Vectors]] = {
    "image-only": image_only,
    "text-only": text_only,
    "image+text": image_and_text,
}

WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))


def choose_weight(
    image: Vectors, text: Vectors, target: Vectors, gallery: Vectors, blend: Blend = weighted,
    grid: Sequence[float] = WEIGHTS,
) -> float:  # fmt: skip
    """The text weight whose blends best find, among training images, the one nearest to the modified caption.

    image, text, target: (N, D) of training triplets; gallery: (G, D) of training images, so no benchmark is looked at.
    Images are searched, as in retrieval: with captions as the gallery, the gap between the modalities alone would
    decide. Equal recalls go to the weight that comes first in the grid.
    """
    from scot_core import retrieval  # loads torch

    if not len(grid):
        raise ConfigError("choose_weight needs at least one weight to try")
    images = _unit("gallery", gallery)
    nearest = retrieval.top_k(_unit("target", target), images, 1)[1][:, 0]
    recalls = [recall_at(retrieval.ranks(blend(image, text, w), images, nearest), 1).mean() for w in grid]
    return float(grid[int(np.argmax(recalls))])


def _unit(name: str, table: Vectors) -> Vectors:
    from scot_core.vectors import unit  # loads torch

    scaled: Vectors = unit(f"{name} vectors", table)
    return scaled


def composed_only(values: Mapping[str, Floats], alone: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Recall on the queries that neither image nor text answers alone, at the same k; NaN for the others. What is left
    of the queries is the composition gap of a benchmark."""
    return {
        f"{metric} composed": np.where(np.any([one[metric] > 0 for one in alone], axis=0), np.nan, values[metric])
        for metric in ("R@1", "R@10")
        if metric in values and alone
    }
