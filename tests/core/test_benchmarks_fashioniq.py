"""FashionIQ on small files of the published form, against values worked out by hand."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scot_core import benchmarks
from scot_core.benchmarks.fashioniq import CATEGORIES, join_captions
from scot_core.errors import DataError

GALLERIES = {
    "dress": [f"D{i}" for i in range(14)],
    "shirt": [f"S{i}" for i in range(60)],
    "toptee": ["T0", "D3", "T1", "T2"],  # one image in two categories, as in the published files
}
QUERIES = {
    "dress": [("D0", "D1"), ("D2", "D3")],
    "shirt": [("S0", "S1"), ("S2", "S3"), ("S4", "S5"), ("S6", "S7")],
    "toptee": [("T0", "D3")],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for category in CATEGORIES:
        annotation: list[dict[str, Any]] = [
            {"target": target, "candidate": reference, "captions": ["Is longer.", " has, sleeves? "]}
            for reference, target in QUERIES[category]
        ]
        write(tmp_path / "captions" / f"cap.{category}.val.json", annotation)
        write(
            tmp_path / "captions" / f"cap.{category}.test.json",
            [{k: v for k, v in annotation[0].items() if k != "target"}],
        )
        for split in ("val", "test"):
            write(tmp_path / "image_splits" / f"split.{category}.{split}.json", GALLERIES[category])
    return tmp_path


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def line(values: list[float]) -> np.ndarray:
    """Unit vectors whose cosine with (1, 0) is as given."""
    x = np.array(values)
    return np.stack([x, np.sqrt(1 - x**2)], axis=1)


def test_a_gallery_that_lacks_what_confuses_gives_higher_numbers(root: Path) -> None:
    shirt = benchmarks.load("fashioniq", root, category="shirt")
    queries = np.tile([[1.0, 0.0]], (len(shirt.queries), 1))
    gallery = line([1 - place / 100 if place else 0.3 for place in range(60, 0, -1)])  # the last come first
    before = shirt.score(queries, gallery)
    lost = [image for image in shirt.gallery if int(image[1:]) > 8]
    after = shirt.without(lost).score(queries, gallery[:9])
    assert before["R@10"] == 0.0 and after["R@10"] == 100.0


def test_a_category_has_its_own_gallery_in_file_order(root: Path) -> None:
    dress = benchmarks.load("fashioniq", root, category="dress")
    assert dress.gallery == tuple(GALLERIES["dress"])
    assert [q.reference for q in dress.queries] == ["D0", "D2"]
    assert [q.targets for q in dress.queries] == [("D1",), ("D3",)]
    assert dress.queries[0].modifications == ("Is longer.", " has, sleeves? ")
    assert dress.queries[0].modification == "Is longer and has, sleeves"
    assert dress.image_files["D3"] == "images/D3.jpg"
    assert list(dress.splits) == ["all"]


def test_captions_are_joined_as_the_fields_code_does() -> None:
    assert join_captions(["is black.", "no sleeves, "]) == "is black and no sleeves"
    assert join_captions(["is black", "."]) == "is black and "


def test_the_reference_stays_in_and_ties_go_to_the_first(root: Path) -> None:
    """Query 0: the reference D0 scores best, D1 is second. Query 1: D3 ties with D0 to D9 and is fourth."""
    dress = benchmarks.load("fashioniq", root, category="dress")
    gallery = line([1.0, 0.9, *[0.5] * 12])
    assert dress.score(np.array([[1.0, 0.0]] * 2), gallery) == {"R@10": 100.0, "R@50": 100.0}
    below = line([0.1, 0.05, *[0.5] * 11, 0.5])
    # D1 is last of 14; D3 is the second among twelve equals.
    assert dress.score(np.array([[1.0, 0.0]] * 2), below) == {"R@10": 50.0, "R@50": 100.0}


def test_the_average_is_the_plain_mean_over_categories(root: Path) -> None:
    """Hits per category: dress 2 of 2, shirt 1 of 4, toptee 1 of 1; the mean over queries would be 4 of 7."""
    whole = benchmarks.load("fashioniq", root)
    assert whole.gallery == tuple(dict.fromkeys(itertools.chain(*GALLERIES.values())))
    assert {name: len(indices) for name, indices in whole.splits.items()} == {
        "dress": 2,
        "shirt": 4,
        "toptee": 1,
        "all": 7,
    }
    # S1 is the best shirt; S3, S5 and S7 come after 52 others.
    scores = {"S1": 0.9, "S3": 0.0, "S5": 0.0, "S7": 0.0}
    gallery = line([scores.get(image, 0.5) for image in whole.gallery])
    queries = np.array([[1.0, 0.0]] * 7)
    assert whole.score(queries, gallery) == pytest.approx({"R@10": 75.0, "R@50": 75.0})
    rows = {(row.split, row.metric): row for row in whole.evaluate(queries, gallery)}
    assert [rows[split, "R@10"].value for split in ("dress", "shirt", "toptee")] == [100, 25, 100]
    average = rows["all", "R@10"]
    assert average.queries == 7
    # only the shirts vary, with a third of the weight
    assert 200 / 3 <= average.low <= 75 <= average.high <= 100
    for category in CATEGORIES:
        alone = benchmarks.load("fashioniq", root, category=category)
        own = gallery[[whole.index[image] for image in alone.gallery]]
        assert alone.score(queries[: len(alone.queries)], own)["R@10"] == rows[category, "R@10"].value


def test_queries_are_ranked_among_their_own_category_alone(root: Path) -> None:
    whole = benchmarks.load("fashioniq", root)
    better = [1.0 if image.startswith("S") else 0.5 for image in whole.gallery]
    values = whole.per_query(np.array([[1.0, 0.0]] * 7), line(better))
    assert values["R@10"][[0, 1, 6]].tolist() == [100, 100, 100]


def test_a_gallery_of_ones_own_may_lack_targets(root: Path) -> None:
    dress = benchmarks.load("fashioniq", root, category="dress", gallery=["D3", "D9"])
    assert dress.score(np.ones((2, 2)), np.ones((2, 2))) == {"R@10": 50.0, "R@50": 50.0}
    with pytest.raises(DataError, match="more than once"):
        benchmarks.load("fashioniq", root, category="dress", gallery=["D3", "D3"])


def test_the_test_split_has_no_targets(root: Path) -> None:
    assert all(query.targets == () for query in benchmarks.load("fashioniq", root, split="test").queries)


def test_a_target_outside_its_published_gallery_is_refused(root: Path) -> None:
    write(root / "image_splits" / "split.dress.val.json", ["D0", "D2", "D3"])
    with pytest.raises(DataError, match="'D1' of query dress-0"):
        benchmarks.load("fashioniq", root)
