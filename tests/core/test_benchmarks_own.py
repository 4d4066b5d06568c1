"""Queries of one's own: a table over a folder of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scot_core.benchmarks import own
from scot_core.benchmarks.images import find_images
from scot_core.errors import ConfigError, DataError


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("a.jpg", "b.PNG", "shoes/c.webp", "shoes/d.jpeg", ".hidden/e.jpg", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"image")
    return folder


ROWS: list[dict[str, Any]] = [
    {"reference": "a.jpg", "text": " in  red", "target": "b.PNG|shoes/c.webp"},
    {"reference": "./a.jpg", "text": "in red", "target": "shoes/d.jpeg"},
    {"reference": "shoes/c.webp", "text": "without laces", "target": "a.jpg"},
]


def write(folder: Path, kind: str, rows: list[dict[str, Any]]) -> str:
    path = folder / f"queries.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        header = list(dict.fromkeys(column for row in rows for column in row))
        lines = [",".join(header), *(",".join(str(row.get(column, "")) for column in header) for row in rows)]
        path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_rows_of_one_reference_and_text_are_one_query(kind: str, gallery: Path, tmp_path: Path) -> None:
    loaded = own.load(write(tmp_path, kind, ROWS), gallery)
    benchmark = loaded.benchmark
    assert benchmark.gallery == ("a.jpg", "b.PNG", "shoes/c.webp", "shoes/d.jpeg")
    first, second = benchmark.queries
    assert (first.reference, first.modification) == ("a.jpg", "in red")
    assert first.targets == ("b.PNG", "shoes/c.webp", "shoes/d.jpeg")
    assert second.targets == ("a.jpg",)
    assert (loaded.rows, loaded.bad) == (3, ())


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_targets_and_subset_may_be_lists(kind: str, gallery: Path, tmp_path: Path) -> None:
    row = {"reference": "a.jpg", "text": "x", "target": ["b.PNG", "shoes/c.webp"], "subset": ["b.PNG", "shoes/d.jpeg"]}
    (query,) = own.load(write(tmp_path, kind, [row]), gallery).benchmark.queries
    assert (query.targets, query.subset) == (("b.PNG", "shoes/c.webp"), ("b.PNG", "shoes/d.jpeg"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reference": "nothing.jpg"}, "reference_missing"),
        ({"reference": ""}, "reference_missing"),
        ({"text": " "}, "empty_text"),
        ({"target": ""}, "no_target"),
        ({"target": "b.PNG|nothing.jpg"}, "target_missing"),
        ({"target": ".hidden/e.jpg"}, "target_missing"),
        ({"target": "b.PNG|a.jpg"}, "target_is_reference"),
        ({"subset": "nothing.jpg"}, "subset_missing"),
        ({"subset": "shoes/d.jpeg"}, "subset_without_target"),
        ({"target": "shoes/c.webp"}, "duplicate_query"),
        ({"target": 7}, "malformed_row"),
        ({"reference": None}, "malformed_row"),
    ],
)
def test_bad_rows_are_counted_with_a_reason(change: dict[str, Any], reason: str, gallery: Path, tmp_path: Path) -> None:
    loaded = own.load(write(tmp_path, "jsonl", [*ROWS, ROWS[0] | change]), gallery)
    assert [bad.reason for bad in loaded.bad] == [reason]
    assert loaded.bad[0].where == "queries.jsonl line 4"
    assert loaded.rows == 4 and len(loaded.benchmark.queries) == 2


def test_a_line_that_cannot_be_read_is_a_bad_row(gallery: Path, tmp_path: Path) -> None:
    table = write(tmp_path, "jsonl", ROWS)
    Path(table).write_text(Path(table).read_text() + "\n{broken")
    assert [bad.reason for bad in own.load(table, gallery).bad] == ["malformed_row"]


def test_a_reference_may_lie_beside_the_table(gallery: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"image")
    table = write(tmp_path, "csv", [{"reference": "mine.jpg", "text": "in red", "target": "a.jpg"}])
    benchmark = own.load(table, gallery).benchmark
    assert benchmark.image_ids == (*benchmark.gallery, "mine.jpg")
    files = find_images(benchmark, gallery)
    assert files.missing == () and files.paths["mine.jpg"] == tmp_path / "mine.jpg"


def test_a_table_without_a_query_says_why(gallery: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"target_missing.*queries.csv line 2"):
        own.load(write(tmp_path, "csv", [{"reference": "a.jpg", "text": "x", "target": "z.jpg"}]), gallery)
    with pytest.raises(DataError, match="no column target"):
        own.load(write(tmp_path, "parquet", [{"reference": "a.jpg", "text": "x"}]), gallery)
    with pytest.raises(ConfigError, match="jsonl"):
        own.load(str(tmp_path / "queries.xlsx"), gallery)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        own.load(write(tmp_path, "csv", ROWS), tmp_path / "empty")


def test_scores_by_hand(gallery: Path, tmp_path: Path) -> None:
    rows = [*ROWS, {"reference": "b.PNG", "text": "black", "target": "shoes/d.jpeg", "subset": "shoes/d.jpeg|a.jpg"}]
    benchmark = own.load(write(tmp_path, "jsonl", rows), gallery).benchmark
    vectors = np.eye(4)
    # each looks like its reference, which does not count; then d, then the rest by place
    asked = np.array([[3, 0, 0, 1], [0, 0, 3, 1], [1, 3, 0, 2]], float)
    values = benchmark.per_query(asked, vectors)
    assert values["R@1"].tolist() == [100, 0, 100]
    assert values["R@5"].tolist() == [100, 100, 100]
    assert np.isnan(values["Rs@1"]).tolist() == [True, True, False] and values["Rs@1"][2] == 100
    assert benchmark.score(asked, vectors)["Rs@1"] == 100


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_column_of_kinds_gives_splits(kind: str, gallery: Path, tmp_path: Path) -> None:
    rows = [{**row, "kind": said} for row, said in zip(ROWS, ("colour", "colour", " shape "), strict=True)]
    loaded = own.load(write(tmp_path, kind, rows), gallery)
    assert {split: at.tolist() for split, at in loaded.benchmark.splits.items()} == {
        "colour": [0], "shape": [1], "all": [0, 1],
    }  # fmt: skip
    assert list(own.load(write(tmp_path, kind, ROWS), gallery).benchmark.splits) == ["all"]
