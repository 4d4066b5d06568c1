"""What every composed-retrieval benchmark is: queries, a gallery, and metrics on a pair of vector tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.metrics import Floats, bootstrap_interval

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Query:
    """One query as it is annotated. Image ids are strings, whatever the files use."""

    id: str
    reference: str
    modification: str
    """The text to encode."""
    modifications: tuple[str, ...]
    """The texts as published; FashionIQ has two, joined in `modification`."""
    targets: tuple[str, ...] = ()
    """Ground truth, the annotated target first; empty where a test server keeps it."""
    subset: tuple[str, ...] = ()
    """Candidates of Recall_subset@k, without the reference."""
    groups: tuple[str, ...] = ()
    """FashionIQ's category, CIRCO's semantic aspects, the catalogue's split."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric on one split in percent, with its bootstrap interval."""

    split: str
    metric: str
    value: float
    low: float
    high: float
    queries: int


class Benchmark(ABC):
    """Queries in annotation order and an ordered gallery of distinct image ids.

    Vectors are given as two tables, row i belonging to query i and to gallery image i: numpy or torch, float16,
    float32 or float64, any scale. Images are compared by cosine similarity (§3.4), ties going to the image that
    comes first in the gallery.
    """

    name: str

    def __init__(
        self,
        split: str,
        queries: Sequence[Query],
        gallery: Sequence[str],
        image_files: Mapping[str, str] | None = None,
    ) -> None:
        self.split = split
        self.queries = tuple(queries)
        self.gallery = tuple(gallery)
        self.image_files = dict(image_files or {})
        self.lost: frozenset[str] = frozenset()
        self.index = {image_id: i for i, image_id in enumerate(self.gallery)}
        if not self.queries:
            raise DataError(f"{self.name} {split}: the annotation holds no queries")
        if not self.gallery:
            raise DataError(f"{self.name} {split}: the gallery is empty")
        if len(self.index) < len(self.gallery):
            first = _first_duplicate(self.gallery)
            raise DataError(f"{self.name} {split}: image {first!r} stands more than once in the gallery")
        if (first := _first_duplicate([query.id for query in self.queries])) is not None:
            raise DataError(f"{self.name} {split}: query id {first!r} stands more than once in the annotation")

    @property
    def image_ids(self) -> tuple[str, ...]:
        """Every image that must be embedded: the gallery, then references that are not in it."""
        outside = dict.fromkeys(q.reference for q in self.queries if q.reference not in self.index)
        return self.gallery + tuple(outside)

    @property
    def galleries(self) -> Mapping[str, Sequence[str]]:
        """The images that queries are ranked against, by the group of the queries that have them; "" is every one."""
        return {"": self.gallery}

    def without(self, lost: Collection[str]) -> Self:
        """The same queries over a gallery that lacks some images, for who cannot get them all.

        A target that is lost is a miss, and a query whose reference is lost counts as a miss in every metric; other
        queries have fewer images to confuse their targets with. Numbers may be lower or higher than those on the
        whole benchmark, and are not comparable with them.
        """
        smaller = copy(self)
        smaller.lost = frozenset(lost)
        smaller.gallery = tuple(image for image in self.gallery if image not in smaller.lost)
        smaller.index = {image: i for i, image in enumerate(smaller.gallery)}
        if not smaller.gallery:
            raise DataError(f"{self.name} {self.split}: every image of the gallery is missing")
        return smaller

    @property
    def units(self) -> Sequence[str]:
        """Ids of what `per_query` has a value for: the queries, unless several texts ask the same."""
        return [query.id for query in self.queries]

    @property
    def splits(self) -> dict[str, Indices]:
        """Indices, into `units`, of each split that has rows of its own, the last being "all"."""
        return {"all": np.arange(len(self.queries))}

    def per_query(self, query_vectors: Any, gallery_vectors: Any) -> dict[str, Floats]:
        """Each metric of each query (`units`), arrays (Q,) in 0..100; NaN where a metric is not defined for a query.

        Raises ShapeError or DataError where the tables do not fit the benchmark or hold NaN or infinity, and
        ConfigError on a split whose targets are not public.
        """
        if not any(query.targets for query in self.queries):
            raise ConfigError(
                f"{self.name} {self.split} has no public targets; write its submission files and send them in"
            )
        queries, gallery = self._tables(query_vectors, gallery_vectors)
        unasked = np.array([query.reference in self.lost for query in self.queries])
        measured = self._measure(queries, gallery).items()
        return {metric: np.where(unasked & ~np.isnan(values), 0.0, 100 * values) for metric, values in measured}

    def per_unit(self, values: Floats) -> Floats:
        """Of a value for each query, (Q,), one for each of `units`: the mean over texts that ask the same."""
        return values

    def score(self, query_vectors: Any, gallery_vectors: Any) -> dict[str, float]:
        """Each metric over all queries, in percent. Raises as `per_query` does."""
        values = self.per_query(query_vectors, gallery_vectors)
        chosen, groups = self.splits["all"], self._groups("all")
        return {metric: _mean(column[chosen], groups) for metric, column in values.items()}

    def evaluate(self, query_vectors: Any, gallery_vectors: Any) -> list[MetricRow]:
        """Every metric on every split with its interval. Raises as `per_query` does."""
        return self.summarise(self.per_query(query_vectors, gallery_vectors))

    def summarise(
        self, values: Mapping[str, Floats], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
    ) -> list[MetricRow]:
        """Rows of what `per_query` gave, or of its average over several runs, with bootstrap intervals over queries."""
        rows = []
        for split, chosen in self.splits.items():
            groups = self._groups(split)
            for metric, column in values.items():
                low, high = bootstrap_interval(
                    column[chosen], groups=groups, confidence=confidence, resamples=resamples, seed=seed
                )
                defined = int((~np.isnan(column[chosen])).sum())
                rows.append(MetricRow(split, metric, _mean(column[chosen], groups), low, high, defined))
        return rows

    def submission(self, query_vectors: Any, gallery_vectors: Any) -> dict[str, Any]:
        """File name -> JSON object, checked, for the benchmark's evaluation server.

        Raises ConfigError for a benchmark without one, DataError where images are lost (`without`).
        """
        if self.lost:
            raise DataError(
                f"{self.name} {self.split}: a submission needs every image, and {len(self.lost)} are missing"
            )
        return self._submission(*self._tables(query_vectors, gallery_vectors))

    def _submission(self, queries: Any, gallery: Any) -> dict[str, Any]:
        """The files, from unit vectors."""
        raise ConfigError(f"{self.name} {self.split} has no evaluation server: use score()")

    @abstractmethod
    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        """Each metric of each query as a fraction, from unit vectors."""

    def _groups(self, split: str) -> NDArray[Any] | None:
        """Labels (Q,) whose plain mean makes the value of a split; None for the mean over its queries."""
        return None

    def strata(self, split: str) -> list[str]:
        """For each query of a split the stratum whose plain mean counts in the split's value; "" where there is one."""
        groups = self._groups(split)
        return [""] * len(self.splits[split]) if groups is None else [str(group) for group in groups]

    def _tables(self, query_vectors: Any, gallery_vectors: Any) -> tuple[Any, Any]:
        for what, table, rows in (
            ("query", query_vectors, len(self.queries)),
            ("gallery", gallery_vectors, len(self.gallery)),
        ):
            shape = tuple(getattr(table, "shape", ()))
            if len(shape) != 2 or shape[0] != rows:
                raise ShapeError(
                    f"{self.name} {self.split} has {rows} rows of {what} vectors, (N, D), but was given {shape}"
                )
        from scot_core.vectors import unit  # loads torch

        queries = unit(f"{self.name} query vectors", query_vectors)
        return queries, unit(f"{self.name} gallery", gallery_vectors)

    def target_indices(self) -> Indices:
        """Gallery indices (Q, T) of all targets, padded with -1, which also stands for one outside the gallery."""
        return self._padded([query.targets for query in self.queries])

    def reference_indices(self) -> Indices:
        """Gallery indices (Q,) of the references, -1 outside the gallery."""
        return self._padded([(query.reference,) for query in self.queries])[:, 0]

    def subset_indices(self) -> Indices:
        """Gallery indices (Q, S) of the subsets, padded with -1."""
        return self._padded([query.subset for query in self.queries])

    def _padded(self, ids: Sequence[Collection[str]]) -> Indices:
        table = np.full((len(ids), max(1, *map(len, ids))), -1, dtype=np.int64)
        for row, names in enumerate(ids):
            table[row, : len(names)] = [self.index.get(name, -1) for name in names]
        return table

    def target_ranks(self, best: Indices) -> Indices:
        """Ranks (Q, k) of the targets among each query's k best (Q, k), padded with -1: enough for metrics up to k."""
        targets = self.target_indices()
        hits = np.stack([(column[:, None] == targets).any(axis=1) for column in best.T], axis=1)
        return np.where(hits, np.arange(best.shape[1]), -1)

    def require_in_gallery(self, *, with_references: bool = False) -> None:
        """DataError where a published annotation names an image that its own published gallery lacks.

        Targets, and `with_references` what the protocol looks up there besides: references and members of subsets.
        """
        for query in self.queries:
            named = {"target": query.targets}
            if with_references:
                named |= {"reference": (query.reference,), "member": query.subset}
            for role, images in named.items():
                for image in images:
                    if image not in self.index:
                        raise DataError(
                            f"{self.name} {self.split}: {role} {image!r} of query {query.id} is not in the published "
                            "gallery; the annotation files do not belong together"
                        )


def numpy_of(table: Any) -> Any:
    """A numpy table or torch tensor as numpy."""
    return table if isinstance(table, np.ndarray) else table.cpu().numpy()


def _mean(values: Floats, groups: NDArray[Any] | None) -> float:
    """Of the queries of a split, or of the means of its groups."""
    if groups is None:
        return _nanmean(values)
    return float(np.mean([_nanmean(values[groups == group]) for group in np.unique(groups)]))


def _nanmean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _first_duplicate(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
