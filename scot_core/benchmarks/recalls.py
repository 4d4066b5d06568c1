"""Recall among the first images with the reference taken out, for benchmarks with any number of targets."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from scot_core.benchmarks.base import Benchmark, numpy_of
from scot_core.metrics import Floats, recall_at

RECALL_AT: Final = (1, 5, 10)


def recalls(benchmark: Benchmark, queries: Any, gallery: Any) -> dict[str, Floats]:
    """R@1/5/10 as fractions: whether any target is among the first k images that are not the reference."""
    from scot_core import retrieval  # loads torch

    best = numpy_of(retrieval.top_k(queries, gallery, max(RECALL_AT) + 1)[1])
    is_reference = best == benchmark.reference_indices()[:, None]
    order = np.argsort(is_reference, axis=1, kind="stable")  # the reference last, the others as they are
    ranks = benchmark.target_ranks(np.take_along_axis(best, order, axis=1))
    # with no more images than this, the reference is still among them
    ranks[np.take_along_axis(is_reference, order, axis=1)] = -1
    return {f"R@{k}": recall_at(ranks, k) for k in RECALL_AT}
