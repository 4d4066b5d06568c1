"""Spherical interpolation between the two embeddings (arXiv 2405.00571, equation 3).

Departures: that paper also tunes the image encoder towards the texts (TAT), which is left out, since all methods here
share one frozen encoder; and its weight is chosen on training triplets like the tuned sum's, never on the benchmark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scot_core.benchmarks.baselines import check_pairs
from scot_core.methods.spec import Method
from scot_core.methods.sums import TRIPLETS, tuned

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

_ALMOST_PARALLEL = 1e-4  # sine of the angle below which the arc is not told from its chord


def slerp(image: Vectors, text: Vectors, weight: float) -> Vectors:
    """The point at `weight` of the way on the great circle from image to text, rows (N, D) normalised first.

    sin((1 - w) θ) / sin θ · image + sin(w θ) / sin θ · text, with θ the angle between the two; of almost parallel (or
    opposite) vectors the normalised weighted sum. Raises ShapeError where the tables differ in shape, ConfigError for a
    weight outside [0, 1].
    """
    from scot_core.vectors import unit

    check_pairs(image, text, weight)
    v, t = (np.asarray(unit(name, table), np.float64) for name, table in (("image", image), ("text", text)))
    angle = np.arccos(np.clip((v * t).sum(axis=1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    apart = sine > _ALMOST_PARALLEL
    sine = np.where(apart, sine, 1)
    of_image = np.where(apart, np.sin((1 - weight) * angle) / sine, 1 - weight)
    of_text = np.where(apart, np.sin(weight * angle) / sine, weight)
    blended: Vectors = unit("slerp", (of_image * v + of_text * t).astype(np.float32))
    return blended


METHODS = (
    Method(
        "slerp", "the point between them on the sphere, its weight chosen on training triplets", "arXiv 2405.00571",
        tuned("slerp", slerp), needs=(TRIPLETS,),
    ),
)  # fmt: skip
