"""The embedded catalogue: drawn products, exact ground truth by attributes (`scot_core.catalogue.queries`).

Protocol: several targets per query; the reference is not in the gallery, another drawing of it is, as a
distractor; R@1/5/10 asks for any target among the first k, Rs@1 for a target as the best of the query's subset,
mAP@5/10 divides by min(K, number of targets) as CIRCO does. Every query is asked in several texts: its value is the
mean over the five in known words, none of which training uses; "R@1 worst" is the lowest of these five, "R@1 spread"
the highest less the lowest. The classes of wrong first images are shares of the same texts.

Splits by what was held out: `seen`, `combination`, `type`, and `all`; by the kind of edit (`kind: removal`); and by the
words that all queries are asked in (`wording: new words`, `wording: trained`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from scot_core.benchmarks.base import Benchmark, Indices, Query, numpy_of
from scot_core.catalogue.queries import DISTRACTORS, KINDS, TEST, CatalogueQueries, error_of, make
from scot_core.catalogue.wordings import KNOWN, WORDINGS
from scot_core.catalogue.world import SPLITS
from scot_core.errors import ConfigError
from scot_core.metrics import Floats, average_precision_at, recall_at

NAME = "catalogue"
RECALL_AT = (1, 5, 10)
PRECISION_AT = (5, 10)
ERRORS: Final = (*DISTRACTORS, "other")


class Catalogue(Benchmark):
    """Its `queries` are one for every text; what is measured, and has rows, are `units`: a query in one wording."""

    name = NAME

    def __init__(self, split: str, drawn: CatalogueQueries, places: Sequence[int], gallery: Sequence[str]) -> None:
        names = [item.image_id for item in drawn.gallery]
        self._drawn, queries = drawn, []
        self._units: list[tuple[int, str]] = []
        self._unit_of: list[int] = []
        for wording in WORDINGS:
            for place in places:
                query = drawn.queries[place]
                targets = tuple(names[i] for i in drawn.targets(place))
                subset = tuple(names[i] for i in query.subset)
                for number, text in enumerate(query.modifications[wording]):
                    self._unit_of.append(len(self._units))
                    queries.append(
                        Query(
                            id=f"{query.query_id} {wording} {number}", reference=query.reference_id, modification=text,
                            modifications=(text,), targets=targets, subset=subset,
                            groups=(query.split, f"kind: {query.kind}", f"wording: {wording}"),
                        )
                    )  # fmt: skip
                self._units.append((place, wording))
        super().__init__(split, queries, gallery)

    @property
    def units(self) -> list[str]:
        return [f"{self._drawn.queries[place].query_id} {wording}" for place, wording in self._units]

    @property
    def first_texts(self) -> Indices:
        """Of each drawn query, where its first text in known words stands among `queries`."""
        count = sum(wording == KNOWN for _, wording in self._units)
        return np.searchsorted(self._unit_of, np.arange(count))

    @property
    def splits(self) -> dict[str, Indices]:
        wording = np.array([wording for _, wording in self._units])
        asked = [self._drawn.queries[place] for place, _ in self._units]
        known = wording == KNOWN
        chosen = {split: known & [query.split == split for query in asked] for split in SPLITS}
        chosen |= {f"kind: {kind}": known & [query.kind == kind for query in asked] for kind in KINDS}
        chosen |= {f"wording: {name}": wording == name for name in WORDINGS if name != KNOWN}
        found = {split: np.flatnonzero(mask) for split, mask in chosen.items() if mask.any()}
        return found | {"all": np.flatnonzero(known)}

    def per_unit(self, values: Floats) -> Floats:
        means: Floats = np.add.reduceat(values, self._starts) / np.bincount(self._unit_of)
        return means

    @property
    def _starts(self) -> Indices:
        """Where the texts of each unit begin."""
        return np.flatnonzero(np.diff(np.array(self._unit_of), prepend=-1))

    def per_query(self, query_vectors: Any, gallery_vectors: Any) -> dict[str, Floats]:
        """Each metric of each unit; see `Benchmark.per_query`."""
        values = super().per_query(query_vectors, gallery_vectors)
        means = {metric: self.per_unit(column) for metric, column in values.items()}
        worst, best = (extreme.reduceat(values["R@1"], self._starts) for extreme in (np.minimum, np.maximum))
        return means | {"R@1 worst": worst, "R@1 spread": best - worst}

    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        from scot_core import retrieval  # loads torch

        targets = self.target_indices()
        best = numpy_of(retrieval.top_k(queries, gallery, max(*RECALL_AT, *PRECISION_AT))[1])
        ranks = self.target_ranks(best)
        positives = np.array([len(query.targets) for query in self.queries])
        subsets = self.subset_indices()
        first = numpy_of(retrieval.order_within(queries, gallery, subsets))[:, :1]
        values = {f"R@{k}": recall_at(ranks, k) for k in RECALL_AT}
        values["Rs@1"] = ((first == targets) & (first >= 0)).any(axis=1).astype(np.float64)
        values |= {f"mAP@{k}": average_precision_at(ranks, k, positives) for k in PRECISION_AT}
        missed = values["R@1"] == 0
        values["own distractor first"] = ((best[:, :1] == subsets).any(axis=1) & missed).astype(np.float64)
        errors = self._errors(best[:, 0], missed)
        return values | {f"error: {name}": (errors == name).astype(np.float64) for name in ERRORS}

    def _errors(self, first: Indices, missed: Any) -> Any:
        """The class of each text's first image, (Q,); empty for a target."""
        place_of = {item.image_id: place for place, item in enumerate(self._drawn.gallery)}
        found = []
        for row, unit in enumerate(self._unit_of):
            query = self._drawn.queries[self._units[unit][0]]
            item = self._drawn.gallery[place_of[self.gallery[int(first[row])]]]
            found.append(error_of(query, item.product) if missed[row] else "")
        return np.array(found)


def from_queries(drawn: CatalogueQueries, gallery: Sequence[str] | None = None, split: str = "all") -> Catalogue:
    """The benchmark over drawn queries, all of them or those of one split."""
    places = [place for place, query in enumerate(drawn.queries) if split in ("all", query.split)]
    names = [item.image_id for item in drawn.gallery]
    return Catalogue(split, drawn, places, names if gallery is None else gallery)


def load(split: str = "all", gallery: Sequence[str] | None = None, draw: str = TEST) -> Catalogue:
    """The catalogue benchmark of the default size: 900 queries, a gallery of 6,000.

    "val", the split that `benchmarks.load` assumes, means all. Raises ConfigError for an unknown split.
    """
    if split not in ("val", "all", *SPLITS):
        raise ConfigError(f"the catalogue has no split {split!r}; it has {', '.join(SPLITS)} and all")
    return from_queries(make(draw=draw), gallery, "all" if split == "val" else split)
