"""CIRR (Liu et al., ICCV 2021), release candidate 2.

Files: `captions/cap.rc2.<split>.json` (pairid, reference, target_hard, caption, img_set.members) and
`image_splits/split.rc2.<split>.json` (image id -> file). Protocol:

- the target is `target_hard`; the reference is taken out of the gallery of its query;
- R@1/5/10/50; Rs@1/2/3 among the members of the query's image set without the reference;
- the targets of test1 are kept by the evaluation server, which takes two files: the first 50 images, and the
  first 3 of the subset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scot_core.benchmarks.base import Benchmark, Query, numpy_of
from scot_core.benchmarks.files import Annotation, entries, read_json
from scot_core.benchmarks.submission import Expected, check_lists
from scot_core.errors import ConfigError, DataError
from scot_core.metrics import Floats, recall_at

VERSION = "rc2"
RECALL_AT = (1, 5, 10, 50)
SUBSET_RECALL_AT = (1, 2, 3)
SUBMITTED = {"recall": 50, "recall_subset": 3}


class CIRR(Benchmark):
    name = "cirr"

    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        from scot_core import retrieval  # loads torch

        targets = self.target_indices()[:, 0]
        ranks = numpy_of(retrieval.ranks(queries, gallery, targets, exclude=self.reference_indices()))
        order = numpy_of(retrieval.order_within(queries, gallery, self.subset_indices()))
        hits = (order == targets[:, None]) & (targets[:, None] >= 0)
        subset_ranks = np.where(hits.any(axis=1), hits.argmax(axis=1), -1)
        recalls = {f"R@{k}": recall_at(ranks, k) for k in RECALL_AT}
        return recalls | {f"Rs@{k}": recall_at(subset_ranks, k) for k in SUBSET_RECALL_AT}

    def _submission(self, queries: Any, gallery: Any) -> dict[str, Any]:
        """The two files of the evaluation server: `version` and `metric`, and for each pair id its image names."""
        from scot_core import retrieval  # loads torch

        _, best = retrieval.top_k(queries, gallery, SUBMITTED["recall"] + 1)
        order = retrieval.order_within(queries, gallery, self.subset_indices())
        files: dict[str, Any] = {}
        for metric, table in (("recall", numpy_of(best)), ("recall_subset", numpy_of(order))):
            content: dict[str, Any] = {"version": VERSION, "metric": metric}
            for query, row in zip(self.queries, table.tolist(), strict=True):
                names = [self.gallery[i] for i in row if i >= 0]
                content[query.id] = [name for name in names if name != query.reference][: SUBMITTED[metric]]
            files[self.file_name(metric)] = content
        self.check_submission(files)
        return files

    def file_name(self, metric: str) -> str:
        return f"{self.split}_pred_ranks_{metric}.json"

    def check_submission(self, files: Mapping[str, Any]) -> None:
        """DataError naming the first thing in the two files that the server would refuse or misread."""
        for metric, count in SUBMITTED.items():
            file = self.file_name(metric)
            if not isinstance(content := files.get(file), Mapping):
                raise DataError(f"the submission lacks {file}")
            header = {"version": VERSION, "metric": metric}
            for key, value in header.items():
                if content.get(key) != value:
                    raise DataError(f"{file}: {key!r} must be {value!r}, not {content.get(key)!r}")
            expected = {}
            for query in self.queries:
                inside = query.subset if metric == "recall_subset" else self.gallery
                allowed = frozenset(inside) & self.index.keys() if metric == "recall_subset" else self.index.keys()
                room = len(allowed) - (query.reference in allowed)
                expected[query.id] = Expected(min(count, room), allowed, query.reference)
            check_lists(file, {k: v for k, v in content.items() if k not in header}, expected)


def load(root: Path, split: str, category: str | None, gallery: Sequence[str] | None) -> CIRR:
    """Read one split ("val", "test1", "train"). Raises ConfigError and DataError."""
    if category is not None:
        raise ConfigError("CIRR has no categories; leave category out")
    root = root / "cirr" if (root / "cirr").is_dir() else root
    files = read_json(root / "image_splits" / f"split.{VERSION}.{split}.json")
    if not isinstance(files, dict):
        raise DataError(f"split.{VERSION}.{split}.json must hold an object of image id -> file")
    path = root / "captions" / f"cap.{VERSION}.{split}.json"
    queries = [_query(entry) for entry in entries(path)]
    images = {str(image): str(file).removeprefix("./") for image, file in files.items()}
    benchmark = CIRR(split, queries, list(images) if gallery is None else gallery, images)
    if gallery is None:
        benchmark.require_in_gallery(with_references=True)
    return benchmark


def _query(entry: Annotation) -> Query:
    reference = entry.image_id("reference")
    members = entry.object("img_set").image_ids("members")
    targets = (entry.image_id("target_hard"),) if "target_hard" in entry else ()
    if targets and targets[0] not in members:
        raise entry.fail(f"target {targets[0]!r} is not a member of its image set")
    if reference in targets:  # it is no candidate, so the query could only be missed
        raise entry.fail(f"target and reference are both {reference!r}")
    caption = entry.text("caption")
    if targets and not caption.strip():  # test1 as published has one: pair 27098
        raise entry.fail("'caption' is empty")
    return Query(
        id=entry.image_id("pairid"),
        reference=reference,
        modification=caption,
        modifications=(caption,),
        targets=targets,
        subset=tuple(member for member in members if member != reference),
    )
