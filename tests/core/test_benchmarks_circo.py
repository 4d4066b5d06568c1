"""CIRCO on small files of the published form: protocol, metrics by hand and the file of the evaluation server."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scot_core import benchmarks
from scot_core.benchmarks.circo import CIRCO
from scot_core.benchmarks.submission import to_bytes
from scot_core.errors import DataError

IDS = [1000 + i for i in range(80)]
VAL = [
    {
        "reference_img_id": 1000,
        "target_img_id": 1002,
        "gt_img_ids": [1002, 1000, 1007],
        "relative_caption": "has two dogs",
        "shared_concept": "a dog",
        "semantic_aspects": ["cardinality", "addition"],
        "id": 0,
    },
    {
        "reference_img_id": 1001,
        "target_img_id": 1030,
        "gt_img_ids": [1030, *range(1040, 1053)],
        "relative_caption": "is seen from above",
        "shared_concept": "a car",
        "semantic_aspects": ["viewpoint", "addition"],
        "id": 1,
    },
]
HIDDEN = ("target_img_id", "gt_img_ids", "semantic_aspects")
TEST = [{key: value for key, value in entry.items() if key not in HIDDEN} for entry in VAL]


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "annotations" / "val.json", VAL)
    write(tmp_path / "annotations" / "test.json", TEST)
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "height": 1, "width": 1} for i in IDS]
    write(tmp_path / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json", {"images": images})
    return tmp_path


def descending() -> np.ndarray:
    x = np.linspace(0.9, 0.1, len(IDS))
    return np.stack([x, np.sqrt(1 - x**2)], axis=1)


QUERIES = np.array([[1.0, 0.0]] * 2)


def test_annotation_and_gallery_are_read_as_published(root: Path) -> None:
    circo = benchmarks.load("circo", root)
    first = circo.queries[0]
    assert circo.gallery == tuple(map(str, IDS))
    assert (first.id, first.reference, first.targets) == ("0", "1000", ("1002", "1000", "1007"))
    assert first.modification == "has two dogs"
    assert circo.image_files["1005"] == "COCO2017_unlabeled/unlabeled2017/000000001005.jpg"


def test_average_precision_and_recall_by_hand(root: Path) -> None:
    """The gallery is ranked 1000, 1001, ...; query 0 has ground truths at positions 1, 3, 8 (1-based), its target
    at 3; query 1 has 14 at 31 and 41 to 53, its target at 31. The reference 1000 stays in: it is a ground truth."""
    scores = benchmarks.load("circo", root).score(QUERIES, descending())
    second = sum(hit / position for hit, position in enumerate([31, *range(41, 51)], start=1)) / 14
    expected = {
        "mAP@5": 100 * ((1 + 2 / 3) / 3) / 2,
        "mAP@10": 100 * ((1 + 2 / 3 + 3 / 8) / 3) / 2,
        "mAP@25": 100 * ((1 + 2 / 3 + 3 / 8) / 3) / 2,
        "mAP@50": 100 * ((1 + 2 / 3 + 3 / 8) / 3 + second) / 2,
        "R@5": 50.0,
        "R@10": 50.0,
        "R@25": 50.0,
        "R@50": 100.0,
        "mAP@10/cardinality": 100 * (1 + 2 / 3 + 3 / 8) / 3,
        "mAP@10/addition": 100 * ((1 + 2 / 3 + 3 / 8) / 3) / 2,
        "mAP@10/viewpoint": 0.0,
    }
    assert scores == pytest.approx(expected)


def test_aspects_are_measured_over_the_queries_that_show_them(root: Path) -> None:
    circo = benchmarks.load("circo", root)
    values = circo.per_query(QUERIES, descending())
    assert np.isnan(values["mAP@10/cardinality"]).tolist() == [False, True]
    rows = {row.metric: row for row in circo.evaluate(QUERIES, descending())}
    assert (rows["mAP@10/cardinality"].queries, rows["mAP@10/addition"].queries) == (1, 2)


def test_precision_divides_by_k_where_there_are_more_ground_truths(root: Path) -> None:
    """Query 1 asked from its own side: 1052 .. 1040 first. Fourteen ground truths, all of the first ten hit."""
    gallery = descending()
    gallery[40:53] = [1.0, 0.0]
    values = benchmarks.load("circo", root).per_query(QUERIES, gallery)
    assert values["mAP@10"][1] == pytest.approx(100)
    assert values["mAP@5"][1] == pytest.approx(100)


def test_ground_truths_outside_a_gallery_of_ones_own_stay_below_the_line(root: Path) -> None:
    circo = benchmarks.load("circo", root, gallery=[1002, 1005])
    assert circo.gallery == ("1002", "1005")
    values = circo.per_query(QUERIES, np.eye(2))
    assert values["mAP@5"].tolist() == pytest.approx([100 / 3, 0])
    assert values["R@5"].tolist() == [100, 0]


def test_a_gallery_of_ones_own_needs_no_coco_file(tmp_path: Path) -> None:
    write(tmp_path / "annotations" / "val.json", VAL)
    assert len(benchmarks.load("circo", tmp_path, gallery=IDS).gallery) == 80
    with pytest.raises(DataError, match=r"image_info_unlabeled2017.json is not under"):
        benchmarks.load("circo", tmp_path)
    with pytest.raises(DataError, match="'dog'"):
        benchmarks.load("circo", tmp_path, gallery=["dog"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gt_img_ids": [1000, 1007]}, "target 1002 is not among"),
        ({"gt_img_ids": [1002, 1007, 1007]}, "more than once"),
        ({"gt_img_ids": [1002, 5]}, "target '5' of query 0"),
        ({"relative_caption": None}, "'relative_caption' must be str, not NoneType"),
        ({"id": 1}, "query id '1'"),
    ],
)
def test_damaged_annotations_are_refused(root: Path, change: dict[str, Any], words: str) -> None:
    write(root / "annotations" / "val.json", [VAL[0] | change, VAL[1]])
    with pytest.raises(DataError, match=words):
        benchmarks.load("circo", root)


def test_the_submission_is_that_of_the_server_and_survives_a_round_trip(root: Path) -> None:
    circo = benchmarks.load("circo", root, split="test")
    assert isinstance(circo, CIRCO)
    files = circo.submission(QUERIES, descending())
    assert files == {"submission_test.json": {"0": IDS[:50], "1": IDS[:50]}}
    name, content = next(iter(files.items()))
    circo.check_submission({name: json.loads(to_bytes(name, content))})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("1"), "query 1 is missing"),
        (lambda c: c["0"].append(1079), "must list 50 images, not 51"),
        (lambda c: c["0"].__setitem__(0, 1001), "more than once"),
        (lambda c: c["0"].__setitem__(0, 5), "lists 5"),
        (lambda c: c["0"].__setitem__(0, "1000"), "'1000'"),
    ],
)
def test_wrong_submission_files_are_found(root: Path, change: Any, words: str) -> None:
    circo = benchmarks.load("circo", root, split="test")
    assert isinstance(circo, CIRCO)
    files = copy.deepcopy(circo.submission(QUERIES, descending()))
    change(files["submission_test.json"])
    with pytest.raises(DataError, match=words):
        circo.check_submission(files)
    with pytest.raises(DataError, match=r"lacks submission_test.json"):
        circo.check_submission({})
