"""CIRR on small files of the published form: protocol, metrics and the files of the evaluation server."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scot_core import benchmarks
from scot_core.benchmarks.cirr import CIRR
from scot_core.benchmarks.submission import to_bytes
from scot_core.errors import DataError

IMAGES = [f"dev-{i}" for i in range(60)]
MEMBERS = [f"dev-{i}" for i in (0, 10, 20, 30, 40, 50)]


def entry(pair: int, reference: str, target: str | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "pairid": pair,
        "reference": reference,
        "caption": f"change {pair}",
        "img_set": {"id": 1, "members": MEMBERS, "reference_rank": 0},
    }
    if target:
        content |= {"target_hard": target, "target_soft": {target: 1.0, "dev-1": -1.0}}
    return content


def write(root: Path, split: str, captions: list[dict[str, Any]], nested: str = "") -> None:
    for name, content in (
        (f"captions/cap.rc2.{split}.json", captions),
        (f"image_splits/split.rc2.{split}.json", {image: f"./dev/{image}.png" for image in IMAGES}),
    ):
        path = root / nested / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "val", [entry(12060, "dev-0", "dev-10"), entry(12062, "dev-50", "dev-40")])
    write(tmp_path, "test1", [entry(7, "dev-0", None), entry(8, "dev-50", None), entry(9, "dev-30", None)])
    return tmp_path


def descending() -> np.ndarray:
    """Unit vectors whose cosine with (1, 0) falls along the gallery."""
    x = np.linspace(0.9, 0.1, len(IMAGES))
    return np.stack([x, np.sqrt(1 - x**2)], axis=1)


QUERY = np.array([[1.0, 0.0]])


def test_annotation_is_read_as_published(root: Path) -> None:
    cirr = benchmarks.load("cirr", root)
    first = cirr.queries[0]
    assert (first.id, first.reference, first.modification, first.targets) == (
        "12060",
        "dev-0",
        "change 12060",
        ("dev-10",),
    )
    assert first.subset == tuple(MEMBERS[1:])
    assert cirr.gallery == tuple(IMAGES)
    assert cirr.image_files["dev-3"] == "dev/dev-3.png"


def test_the_repositorys_own_folder_is_found(tmp_path: Path) -> None:
    write(tmp_path, "val", [entry(1, "dev-0", "dev-10")], nested="cirr")
    assert len(benchmarks.load("cirr", tmp_path).queries) == 1
    assert benchmarks.missing_files("cirr", tmp_path) == []


def test_the_reference_is_taken_out_of_gallery_and_subset(root: Path) -> None:
    """Query 0: dev-0 is the reference, so dev-10 is at rank 9, and first in its subset.
    Query 1: dev-50 is below its target, which is at rank 40, and fifth in its subset (after 0, 10, 20, 30)."""
    cirr = benchmarks.load("cirr", root)
    assert cirr.score(np.repeat(QUERY, 2, axis=0), descending()) == {
        "R@1": 0.0,
        "R@5": 0.0,
        "R@10": 50.0,
        "R@50": 100.0,
        "Rs@1": 50.0,
        "Rs@2": 50.0,
        "Rs@3": 50.0,
    }
    values = cirr.per_query(np.repeat(-QUERY, 2, axis=0), descending())
    # From the other end: dev-40 has dev-59 .. dev-41 before it, less its reference dev-50: rank 18.
    assert values["R@50"].tolist() == [100, 100]
    assert values["R@10"].tolist() == [0, 0]
    assert values["Rs@1"].tolist() == [0, 100]


def test_ties_go_to_the_image_that_comes_first(root: Path) -> None:
    values = benchmarks.load("cirr", root).per_query(np.repeat(QUERY, 2, axis=0), np.ones((60, 2)))
    assert values["R@10"].tolist() == [100, 0]  # dev-10 at rank 9 without its reference, dev-40 at 40
    assert values["Rs@1"].tolist() == [100, 0]
    assert values["Rs@3"].tolist() == [100, 0]


def test_a_gallery_without_target_or_subset_gives_misses(root: Path) -> None:
    cirr = benchmarks.load("cirr", root, gallery=["dev-1", "dev-40", "dev-2"])
    values = cirr.per_query(np.ones((2, 2)), np.ones((3, 2)))
    assert values["R@50"].tolist() == [0, 100]
    assert values["Rs@1"].tolist() == [0, 100]


def test_a_target_outside_its_image_set_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "val", [entry(1, "dev-0", "dev-11")])
    with pytest.raises(DataError, match=r"entry 0: target 'dev-11' is not a member"):
        benchmarks.load("cirr", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target_hard": "dev-0"}, "entry 0: target and reference are both 'dev-0'"),
        ({"caption": " "}, "entry 0: 'caption' is empty"),
        ({"reference": "dev-999"}, "reference 'dev-999' of query 1 is not in the published gallery"),
        ({"img_set": {"members": [*MEMBERS, "dev-998"]}}, "member 'dev-998' of query 1 is not in the published"),
    ],
)
def test_an_entry_that_cannot_be_asked_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    write(tmp_path, "val", [{**entry(1, "dev-0", "dev-10"), **change}])
    with pytest.raises(DataError, match=words):
        benchmarks.load("cirr", tmp_path)


def test_a_hidden_query_may_say_nothing_as_one_of_the_published_does(tmp_path: Path) -> None:
    write(tmp_path, "test1", [{**entry(1, "dev-0", None), "caption": ""}])
    assert benchmarks.load("cirr", tmp_path, split="test1").queries[0].modification == ""


def test_twice_the_same_pair_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "val", [entry(1, "dev-0", "dev-10"), entry(1, "dev-0", "dev-20")])
    with pytest.raises(DataError, match="query id '1'"):
        benchmarks.load("cirr", tmp_path)


def test_submission_files_are_those_of_the_server(root: Path) -> None:
    cirr = benchmarks.load("cirr", root, split="test1")
    files = cirr.submission(np.repeat(QUERY, 3, axis=0), descending())
    assert list(files) == ["test1_pred_ranks_recall.json", "test1_pred_ranks_recall_subset.json"]
    recall, subset = files.values()
    assert (recall["version"], recall["metric"]) == ("rc2", "recall")
    assert (subset["version"], subset["metric"]) == ("rc2", "recall_subset")
    assert list(recall)[2:] == list(subset)[2:] == ["7", "8", "9"]
    assert recall["7"] == IMAGES[1:51]
    assert recall["8"] == IMAGES[:50]
    assert recall["9"] == IMAGES[:30] + IMAGES[31:51]
    assert subset == subset | {
        "7": ["dev-10", "dev-20", "dev-30"],
        "8": ["dev-0", "dev-10", "dev-20"],
        "9": ["dev-0", "dev-10", "dev-20"],
    }


def test_submission_files_survive_a_round_trip(root: Path) -> None:
    cirr = benchmarks.load("cirr", root, split="test1")
    assert isinstance(cirr, CIRR)
    files = cirr.submission(np.repeat(QUERY, 3, axis=0), descending())
    again = {name: json.loads(to_bytes(name, content)) for name, content in files.items()}
    assert again == files
    cirr.check_submission(again)


RECALL, SUBSET = "test1_pred_ranks_recall.json", "test1_pred_ranks_recall_subset.json"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.pop(SUBSET), "lacks test1_pred_ranks_recall_subset"),
        (lambda f: f[RECALL].pop("version"), "'version' must be 'rc2'"),
        (lambda f: f[SUBSET].update(metric="recall"), "'metric' must be 'recall_subset'"),
        (lambda f: f[RECALL].pop("8"), "query 8 is missing"),
        (lambda f: f[RECALL].update({"10": IMAGES[:50]}), "'10' is no query"),
        (lambda f: f[RECALL]["7"].pop(), "query 7 must list 50 images, not 49"),
        (lambda f: f[RECALL].update({"7": "dev-1"}), "not str"),
        (lambda f: f[RECALL]["7"].__setitem__(0, "dev-2"), "more than once"),
        (lambda f: f[RECALL]["7"].__setitem__(0, "dev-99"), "'dev-99'"),
        (lambda f: f[RECALL]["7"].__setitem__(0, "dev-0"), "its own reference image 'dev-0'"),
        (lambda f: f[SUBSET]["7"].__setitem__(0, "dev-11"), "'dev-11'"),
        (lambda f: f[SUBSET]["7"].__setitem__(0, "dev-0"), "'dev-0'"),
    ],
)
def test_wrong_submission_files_are_found(root: Path, change: Any, words: str) -> None:
    cirr = benchmarks.load("cirr", root, split="test1")
    assert isinstance(cirr, CIRR)
    files = copy.deepcopy(cirr.submission(np.repeat(QUERY, 3, axis=0), descending()))
    change(files)
    with pytest.raises(DataError, match=words):
        cirr.check_submission(files)


def test_files_too_large_for_the_server_are_refused() -> None:
    with pytest.raises(DataError, match="5,000,000"):
        to_bytes("big.json", {"1": ["x" * 5_000_000]})
