"""The embedded catalogue: drawn products, exact ground truth by attributes (`scot_core.catalogue.queries`).

Protocol: several targets per query; the reference is not in the gallery, another drawing of it is, as a
distractor; R@1/5/10 asks for any target among the first k, Rs@1 for a target as the best of the query's subset,
mAP@5/10 divides by min(K, number of targets) as CIRCO does. Splits by what was held out: `seen`, `combination`,
`type`, and `all`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scot_core.benchmarks.base import Benchmark, Indices, Query, numpy_of
from scot_core.catalogue.queries import CatalogueQueries, make
from scot_core.catalogue.world import SPLITS
from scot_core.errors import ConfigError
from scot_core.metrics import Floats, average_precision_at, recall_at

NAME = "catalogue"
RECALL_AT = (1, 5, 10)
PRECISION_AT = (5, 10)


class Catalogue(Benchmark):
    name = NAME

    @property
    def splits(self) -> dict[str, Indices]:
        of_query = np.array([query.groups[0] for query in self.queries])
        present = {split: np.flatnonzero(of_query == split) for split in SPLITS if (of_query == split).any()}
        return present | {"all": np.arange(len(self.queries))}

    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        from scot_core import retrieval  # loads torch

        targets = self.target_indices()
        _, found = retrieval.top_k(queries, gallery, max(*RECALL_AT, *PRECISION_AT))
        ranks = self.target_ranks(numpy_of(found))
        positives = np.array([len(query.targets) for query in self.queries])
        first = numpy_of(retrieval.order_within(queries, gallery, self.subset_indices()))[:, :1]
        subset_hit = ((first == targets) & (first >= 0)).any(axis=1)
        values = {f"R@{k}": recall_at(ranks, k) for k in RECALL_AT}
        values["Rs@1"] = subset_hit.astype(np.float64)
        return values | {f"mAP@{k}": average_precision_at(ranks, k, positives) for k in PRECISION_AT}


def from_queries(drawn: CatalogueQueries, gallery: Sequence[str] | None = None, split: str = "all") -> Catalogue:
    """The benchmark over drawn queries, all of them or those of one split."""
    names = [item.image_id for item in drawn.gallery]
    queries = [
        Query(
            id=query.query_id,
            reference=query.reference_id,
            modification=query.modification,
            modifications=(query.modification,),
            targets=tuple(names[i] for i in drawn.targets(position)),
            subset=tuple(names[i] for i in query.subset),
            groups=(query.split,),
        )
        for position, query in enumerate(drawn.queries)
        if split in ("all", query.split)
    ]
    return Catalogue(split, queries, names if gallery is None else gallery)


def load(split: str = "all", gallery: Sequence[str] | None = None) -> Catalogue:
    """The catalogue benchmark of the default size: 900 queries, a gallery of 6,000.

    "val", the split that `benchmarks.load` assumes, means all. Raises ConfigError for an unknown split.
    """
    if split not in ("val", "all", *SPLITS):
        raise ConfigError(f"the catalogue has no split {split!r}; it has {', '.join(SPLITS)} and all")
    return from_queries(make(), gallery, "all" if split == "val" else split)
