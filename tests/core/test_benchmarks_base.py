"""What all benchmarks share: loading, vectors, rows with intervals, and baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scot_core import benchmarks, retrieval
from scot_core.benchmarks import baselines
from scot_core.benchmarks.base import Benchmark, Query, numpy_of
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.metrics import Floats


class FirstTarget(Benchmark):
    """The smallest benchmark there can be."""

    name = "toy"

    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        best = numpy_of(retrieval.top_k(queries, gallery, 1)[1])
        return {"R@1": (self.target_ranks(best) == 0).any(axis=1).astype(float)}


def toy() -> FirstTarget:
    texts = ("red", "blue", "new")
    queries = [Query(str(i), f"g{i}", text, (text,), targets=(f"g{i + 1}",)) for i, text in enumerate(texts)]
    return FirstTarget("val", queries, [f"g{i}" for i in range(4)])


def vectors(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, 5)).astype(np.float32)


def test_rows_carry_value_interval_and_number_of_queries() -> None:
    gallery = vectors(4)
    queries = np.stack([gallery[1], gallery[2], gallery[0]])
    (row,) = toy().evaluate(queries, gallery)
    assert (row.split, row.metric, row.queries) == ("all", "R@1", 3)
    assert row.value == pytest.approx(200 / 3)
    assert 0 <= row.low < row.value < row.high <= 100
    assert toy().score(queries, gallery) == {"R@1": row.value}
    assert toy().per_query(queries, gallery)["R@1"].tolist() == [100, 100, 0]


def test_lengths_of_vectors_do_not_matter_and_kinds_agree() -> None:
    gallery, queries = vectors(4), vectors(3, seed=1)
    expected = toy().score(queries, gallery)
    stretched = np.array([[0.1], [3], [50], [1000]], dtype=np.float32) * gallery
    assert toy().score(queries * 7, stretched) == expected
    assert toy().score(torch.from_numpy(queries), torch.from_numpy(stretched)) == expected
    assert toy().score(queries.astype(np.float64), stretched.astype(np.float64)) == expected
    stretched.flags.writeable = False
    assert toy().score(queries, stretched) == expected


def test_zero_vectors_rank_by_gallery_order() -> None:
    assert toy().per_query(np.zeros((3, 5)), vectors(4).astype(float))["R@1"].tolist() == [0, 0, 0]
    assert toy().per_query(vectors(3).astype(float), np.zeros((4, 5)))["R@1"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("queries", "gallery", "error", "words"),
    [
        (vectors(2), vectors(4), ShapeError, ["3 rows of query", "(2, 5)"]),
        (vectors(3), vectors(5), ShapeError, ["4 rows of gallery", "(5, 5)"]),
        (vectors(3)[:, :3], vectors(4), ShapeError, ["3", "5"]),
        (vectors(3)[0], vectors(4), ShapeError, ["(5,)"]),
        (vectors(3).astype(int), vectors(4), ShapeError, ["int64"]),
        (vectors(3) * np.array([[1], [np.nan], [1]], np.float32), vectors(4), DataError, ["query", "row 1"]),
        (vectors(3), vectors(4) * np.array([[1], [1], [1], [np.inf]], np.float32), DataError, ["gallery", "row 3"]),
    ],
)
def test_bad_vectors_are_refused(queries: Any, gallery: Any, error: type, words: list[str]) -> None:
    for q, g in ((queries, gallery), (torch.from_numpy(queries), torch.from_numpy(gallery))):
        with pytest.raises(error) as caught:
            toy().score(q, g)
        assert all(word in str(caught.value) for word in words)


def test_references_outside_the_gallery_are_among_the_images_to_embed() -> None:
    queries = [Query("a", "out", "x", ("x",)), Query("b", "g0", "x", ("x",)), Query("c", "out", "x", ("x",))]
    assert FirstTarget("val", queries, ["g0", "g1"]).image_ids == ("g0", "g1", "out")


def test_splits_without_targets_have_no_score() -> None:
    hidden = FirstTarget("test", [Query("a", "g0", "x", ("x",))], ["g0", "g1"])
    with pytest.raises(ConfigError, match="no public targets"):
        hidden.score(vectors(1), vectors(2))
    with pytest.raises(ConfigError, match="no evaluation server"):
        hidden.submission(vectors(1), vectors(2))


def test_duplicate_ids_and_emptiness_are_refused() -> None:
    query = Query("a", "g0", "x", ("x",))
    with pytest.raises(DataError, match="'g0' stands more than once in the gallery"):
        FirstTarget("val", [query], ["g0", "g1", "g0"])
    with pytest.raises(DataError, match="query id 'a'"):
        FirstTarget("val", [query, query], ["g0"])
    with pytest.raises(DataError, match="no queries"):
        FirstTarget("val", [], ["g0"])
    with pytest.raises(DataError, match="gallery is empty"):
        FirstTarget("val", [query], [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "coco"}, "fashioniq, cirr, circo, catalogue"),
        ({"name": "cirr", "root": "x", "split": "test"}, "val, test1, train"),
        ({"name": "cirr"}, "needs the folder"),
        ({"name": "fashioniq", "root": "x", "category": "shoes"}, "dress, shirt, toptee"),
        ({"name": "cirr", "root": "x", "category": "dress"}, "no categories"),
        ({"name": "circo", "root": "x", "category": "dress"}, "no categories"),
        ({"name": "catalogue", "split": "test1"}, "seen"),
    ],
)
def test_unknown_names_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        benchmarks.load(**arguments)


@pytest.mark.parametrize(("name", "count"), [("fashioniq", 6), ("cirr", 2), ("circo", 2)])
def test_missing_files_are_listed_and_said_when_loading(tmp_path: Path, name: str, count: int) -> None:
    missing = benchmarks.missing_files(name, tmp_path)
    assert len(missing) == count
    with pytest.raises(DataError, match=r"is missing; `scot doctor`"):
        benchmarks.load(name, tmp_path)
    for file in missing:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("[")
    assert benchmarks.missing_files(name, tmp_path) == []
    with pytest.raises(DataError, match="is not valid JSON"):
        benchmarks.load(name, tmp_path)
    with pytest.raises(ConfigError):
        benchmarks.missing_files(name, tmp_path, split="nowhere")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "must hold a list"),
        (["x"], "entry 0 is str"),
        ([{"candidate": "a", "captions": ["x", "y"]}, {"captions": []}], "entry 1 has no 'candidate'"),
        ([{"captions": ["x", 3], "candidate": "a"}], "list of texts"),
        ([{"captions": ["x", "y"], "candidate": True}], "'candidate' must be str or int, not bool"),
        ([{"captions": ["x", "y"], "candidate": "a", "target": "zz"}], "target 'zz' of query dress-0 is not in"),
        ([], "no queries"),
    ],
)
def test_damaged_annotations_name_file_and_entry(tmp_path: Path, content: Any, words: str) -> None:
    for folder, value in (("captions/cap", content), ("image_splits/split", ["a", "b"])):
        path = tmp_path / f"{folder}.dress.val.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=words):
        benchmarks.load("fashioniq", tmp_path, category="dress")


def test_baselines_are_normalised_sums_of_normalised_vectors() -> None:
    image = np.array([[3.0, 0.0], [0.0, 2.0]])
    text = np.array([[0.0, 5.0], [0.0, 1.0]])
    root = 0.5**0.5
    assert baselines.image_only(image, text).tolist() == [[1, 0], [0, 1]]
    assert baselines.text_only(image, text).tolist() == [[0, 1], [0, 1]]
    np.testing.assert_allclose(baselines.image_and_text(image, text), [[root, root], [0, 1]])
    three_to_one = np.array([[1, 3], [0, 4]]) / np.array([[10**0.5], [4]])
    np.testing.assert_allclose(baselines.weighted(image, text, 0.75), three_to_one)
    assert set(baselines.BASELINES) == {"image-only", "text-only", "image+text"}
    with pytest.raises(ConfigError, match=r"1.5"):
        baselines.weighted(image, text, 1.5)
    with pytest.raises(ShapeError, match=r"\(2, 2\).*\(1, 2\)"):
        baselines.weighted(image, text[:1], 0.5)


def test_the_weight_is_the_one_that_finds_the_image_nearest_to_the_modified_caption() -> None:
    rng = np.random.default_rng(0)
    image, text, other = (rng.standard_normal((200, 16)) for _ in range(3))
    image, text = (table / np.linalg.norm(table, axis=1, keepdims=True) for table in (image, text))
    target = 0.8 * text + 0.2 * image
    gallery = np.concatenate([target + 0.01 * other, image])
    assert baselines.choose_weight(image, text, target, gallery, grid=(0.0, 0.8)) == 0.8
    assert baselines.choose_weight(image, text, image, gallery) == 0.0
    assert baselines.choose_weight(image, image, image, gallery, grid=(0.4, 0.2)) == 0.4
    with pytest.raises(ConfigError):
        baselines.choose_weight(image, text, target, gallery, grid=())
