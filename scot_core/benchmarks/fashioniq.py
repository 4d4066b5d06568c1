"""FashionIQ (Wu et al., CVPR 2021), as the field evaluates zero-shot methods on it.

Files: `captions/cap.<category>.<split>.json` (candidate = reference, target, two captions) and
`image_splits/split.<category>.<split>.json` (image ids). Protocol:

- the gallery of a category is its own split file, in file order, and the reference stays in it;
- the two captions are joined into one text by " and ", each stripped of `.?, ` at its ends;
- R@10 and R@50; the average row is the plain mean over the three categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scot_core.benchmarks.base import Benchmark, Indices, Query, numpy_of
from scot_core.benchmarks.files import entries, id_list
from scot_core.errors import ConfigError, DataError
from scot_core.metrics import Floats, recall_at

CATEGORIES = ("dress", "shirt", "toptee")
RECALL_AT = (10, 50)


class FashionIQ(Benchmark):
    """One category, or all three with their average.

    With all three, `gallery` is the union of the categories' galleries (in order, each image once), and each
    query is ranked against the images of its own category alone.
    """

    name = "fashioniq"

    def __init__(
        self, split: str, queries: Sequence[Query], gallery: Sequence[str], galleries: dict[str, list[str]]
    ) -> None:
        images = dict.fromkeys([*gallery, *(query.reference for query in queries)])
        super().__init__(split, queries, gallery, {image: f"images/{image}.jpg" for image in images})
        self._galleries = galleries
        self._category = np.array([query.groups[0] for query in self.queries])

    @property
    def splits(self) -> dict[str, Indices]:
        whole = {"all": np.arange(len(self.queries))}
        if len(self._galleries) == 1:
            return whole
        return {c: np.flatnonzero(self._category == c) for c in self._galleries} | whole

    @property
    def galleries(self) -> Mapping[str, Sequence[str]]:
        return self._galleries

    def _groups(self, split: str) -> NDArray[Any] | None:
        return self._category if split == "all" else None

    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        from scot_core import retrieval  # loads torch

        ranks = np.full(len(self.queries), -1, dtype=np.int64)
        for category, ids in self._galleries.items():
            members = np.array([self.index[image] for image in ids if image in self.index], dtype=np.int64)
            chosen = np.flatnonzero(self._category == category)
            if not len(members):  # all of them lost
                continue
            place = np.full(len(self.gallery) + 1, -1, dtype=np.int64)
            place[members] = np.arange(len(members))
            targets = place[self.target_indices()[chosen, 0]]
            ranks[chosen] = numpy_of(retrieval.ranks(_rows(queries, chosen), _rows(gallery, members), targets))
        return {f"R@{k}": recall_at(ranks, k) for k in RECALL_AT}


def _rows(table: Any, chosen: Indices) -> Any:
    """The chosen rows, without a copy where they are all rows."""
    return table if len(chosen) == len(table) else table[chosen]


def join_captions(captions: Sequence[str]) -> str:
    """The joining of CLIP4Cir and SEARLE's validation code. A few captions are empty; the joining stays."""
    return " and ".join(caption.strip(".?, ") for caption in captions)


def load(root: Path, split: str, category: str | None, gallery: Sequence[str] | None) -> FashionIQ:
    """Read one category, or all for None. `gallery` replaces the gallery of every category that is read.

    Raises ConfigError for an unknown category and DataError for files that are missing or damaged.
    """
    if category is not None and category not in CATEGORIES:
        raise ConfigError(f"FashionIQ has no category {category!r}; it has {', '.join(CATEGORIES)}")
    queries: list[Query] = []
    galleries: dict[str, list[str]] = {}
    for name in CATEGORIES if category is None else (category,):
        queries += _queries(root, split, name)
        galleries[name] = (
            id_list(root / "image_splits" / f"split.{name}.{split}.json") if gallery is None else list(gallery)
        )
        if len(set(galleries[name])) < len(galleries[name]):
            raise DataError(f"fashioniq {split}: the gallery of {name} names an image more than once")
    union = list(dict.fromkeys(image for ids in galleries.values() for image in ids))
    benchmark = FashionIQ(split, queries, union, galleries)
    if gallery is None:
        _require_targets(benchmark, galleries)
    return benchmark


def _queries(root: Path, split: str, category: str) -> list[Query]:
    path = root / "captions" / f"cap.{category}.{split}.json"
    return [
        Query(
            id=f"{category}-{position}",
            reference=entry.image_id("candidate"),
            modification=join_captions(captions := entry.texts("captions")),
            modifications=captions,
            targets=(entry.image_id("target"),) if "target" in entry else (),
            groups=(category,),
        )
        for position, entry in enumerate(entries(path))
    ]


def _require_targets(benchmark: FashionIQ, galleries: dict[str, list[str]]) -> None:
    members = {category: set(ids) for category, ids in galleries.items()}
    for query in benchmark.queries:
        for target in query.targets:
            if target not in members[query.groups[0]]:
                raise DataError(
                    f"fashioniq {benchmark.split}: target {target!r} of query {query.id} is not in the published "
                    "gallery of its category; the annotation files do not belong together"
                )
