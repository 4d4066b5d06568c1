"""CIRCO (Baldrati et al., ICCV 2023): several ground truths per query over COCO 2017 unlabeled.

Files: `annotations/<split>.json` and COCO's `image_info_unlabeled2017.json` (123,403 images). Protocol:

- AP@K divides by min(K, number of ground truths); mAP@5/10/25/50; R@K looks at the annotated target alone;
- the reference stays in the gallery; the text is the relative caption (the shared concept is not used);
- mAP@10 per semantic aspect, over the queries that show it (`mAP@10/<aspect>`);
- the ground truth of the test split is kept by the evaluation server, which takes the first 50 image ids.
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
from scot_core.metrics import Floats, average_precision_at

AT = (5, 10, 25, 50)
ASPECT_AT = 10
ASPECTS = (
    "cardinality",
    "addition",
    "negation",
    "direct_addressing",
    "compare_change",
    "comparative_statement",
    "statement_with_conjunction",
    "spatial_relations_background",
    "viewpoint",
)
SUBMITTED = 50
COCO_FILE = "image_info_unlabeled2017.json"
COCO_FOLDERS = ("COCO2017_unlabeled/annotations", "annotations", ".")


class CIRCO(Benchmark):
    name = "circo"

    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        from scot_core import retrieval  # loads torch

        best = numpy_of(retrieval.top_k(queries, gallery, max(AT))[1])
        ranks, target = self.target_ranks(best), self.target_indices()[:, :1]
        positives = np.array([len(query.targets) for query in self.queries])
        precision = {k: average_precision_at(ranks, k, positives) for k in AT}
        values = {f"mAP@{k}": precision[k] for k in AT}
        values |= {f"R@{k}": ((best[:, :k] == target).any(axis=1)).astype(np.float64) for k in AT}
        for aspect in ASPECTS:
            shown = np.array([aspect in query.groups for query in self.queries])
            if shown.any():
                values[f"mAP@{ASPECT_AT}/{aspect}"] = np.where(shown, precision[ASPECT_AT], np.nan)
        return values

    def _submission(self, queries: Any, gallery: Any) -> dict[str, Any]:
        """The file of the evaluation server: for each query id its 50 best COCO ids (integers)."""
        from scot_core import retrieval  # loads torch

        _, best = retrieval.top_k(queries, gallery, SUBMITTED)
        content = {
            query.id: [int(self.gallery[i]) for i in row]
            for query, row in zip(self.queries, best.tolist(), strict=True)
        }
        files = {self.file_name(): content}
        self.check_submission(files)
        return files

    def file_name(self) -> str:
        return f"submission_{self.split}.json"

    def check_submission(self, files: Mapping[str, Any]) -> None:
        """DataError naming the first thing in the file that the server would refuse or misread."""
        if not isinstance(content := files.get(self.file_name()), Mapping):
            raise DataError(f"the submission lacks {self.file_name()}")
        allowed = {int(image) for image in self.gallery}
        expected = Expected(min(SUBMITTED, len(self.gallery)), allowed, None)
        check_lists(self.file_name(), content, {query.id: expected for query in self.queries})


def load(root: Path, split: str, category: str | None, gallery: Sequence[str] | None) -> CIRCO:
    """Read one split ("val", "test"). Raises ConfigError and DataError."""
    if category is not None:
        raise ConfigError("CIRCO has no categories; leave category out")
    queries = [_query(entry) for entry in entries(root / "annotations" / f"{split}.json")]
    published = _coco_ids(root) if gallery is None else None
    ids = list(published) if published is not None else list(gallery or ())
    if wrong := [image for image in ids if not image.isdecimal()]:
        raise DataError(f"CIRCO's images have COCO's numbers as ids; {wrong[0]!r} is none")
    known = published or {}
    images = {
        image: f"COCO2017_unlabeled/unlabeled2017/{known.get(image, f'{int(image):012d}.jpg')}"
        for image in dict.fromkeys([*ids, *(query.reference for query in queries)])
    }
    benchmark = CIRCO(split, queries, ids, images)
    if published is not None:
        benchmark.require_in_gallery()
    return benchmark


def coco_path(root: Path) -> Path | None:
    """Where COCO's list of unlabeled images lies under the root, if anywhere."""
    candidates = (root / folder / COCO_FILE for folder in COCO_FOLDERS)
    return next((path for path in candidates if path.is_file()), None)


def _coco_ids(root: Path) -> dict[str, str]:
    """COCO id -> file name, in file order."""
    path = coco_path(root)
    if path is None:
        raise DataError(
            f"{COCO_FILE} is not under {root} (looked in {', '.join(COCO_FOLDERS)}); `scot doctor` says where to "
            "get it, or give the gallery's ids yourself"
        )
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{path} has no list 'images'")
    rows = [Annotation(path, i, image) for i, image in enumerate(content["images"])]
    ids = {row.image_id("id"): row.text("file_name") for row in rows}
    if len(ids) < len(rows):
        raise DataError(f"{path} names an image id more than once")
    return ids


def _query(entry: Annotation) -> Query:
    targets: tuple[str, ...] = ()
    if "gt_img_ids" in entry:
        target, truths = entry.image_id("target_img_id"), entry.image_ids("gt_img_ids")
        if target not in truths:
            raise entry.fail(f"target {target} is not among its ground truths")
        targets = (target, *(truth for truth in truths if truth != target))
    return Query(
        id=entry.image_id("id"),
        reference=entry.image_id("reference_img_id"),
        modification=entry.text("relative_caption"),
        modifications=(entry.text("relative_caption"),),
        targets=targets,
        groups=entry.texts("semantic_aspects") if "semantic_aspects" in entry else (),
    )
