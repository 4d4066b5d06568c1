"""The reported tables are consistent, or say where they are not."""

from __future__ import annotations

import pytest

from scot_core import paper
from scot_core.benchmarks import fashioniq


def rounding(values: list[float]) -> float:
    """How far a printed average may be from the mean of printed values: both are rounded."""
    return 0.101 if all(round(v, 1) == v for v in values) else 0.0101


@pytest.mark.parametrize("row", paper.TABLE_1 + paper.TABLE_3, ids=lambda row: f"{row.backbone} {row.method}")
def test_a_row_averages_to_its_average_or_has_a_remark(row: paper.Reported) -> None:
    for metric in ("R@10", "R@50"):
        parts = [row.values[f"{metric}/{category}"] for category in fashioniq.CATEGORIES]
        gap = abs(sum(parts) / 3 - row.values[metric])
        assert gap <= rounding([*parts, row.values[metric]]) or row.remark


def test_remarks_stand_only_where_something_is_wrong() -> None:
    remarked = {(row.backbone, row.method) for row in paper.TABLE_1 if row.remark}
    assert remarked == {
        ("Multi", "DCNet"),
        ("CLIP L/14", "CLIP4CIR"),
        ("CLIP B/32", "Image-Only"),
        ("CLIP B/32", "SEARLE"),
        ("CLIP L/14", "Text-Only"),
        ("CLIP L/14", "SCOT"),
        ("BLIP", "Image+Text"),
        ("BLIP-2", "SCOT"),
    }


def test_what_the_text_calls_r_at_20_is_the_table_s_r_at_50() -> None:
    rows = {(row.backbone, row.method): row.values for row in paper.TABLE_1}
    gain = rows["BLIP-2", "SCOT"]["R@50"] - rows["CLIP L/14", "SEARLE-XL"]["R@50"]
    assert gain == pytest.approx(13.8, abs=0.01)


def test_one_image_only_row_alone_has_dresses_above_shirts() -> None:
    rows = [row for row in paper.TABLE_1 if row.method == "Image-Only"]
    above = [row for row in rows if row.values["R@10/dress"] > row.values["R@10/shirt"]]
    assert [(row.backbone, "swapped" in row.remark) for row in above] == [("CLIP B/32", True)] and len(rows) == 4


@pytest.mark.parametrize("row", paper.TABLE_2, ids=lambda row: f"{row.backbone} {row.method}")
def test_recall_grows_with_k(row: paper.Reported) -> None:
    for prefix in ("R@", "Rs@"):
        recalls = [value for metric, value in row.values.items() if metric.startswith(prefix)]
        assert recalls == sorted(recalls)
        assert all(0 < value < 100 for value in recalls)


def test_every_row_has_its_source_and_is_listed_once() -> None:
    assert (len(paper.TABLE_1), len(paper.TABLE_2), len(paper.TABLE_3)) == (28, 27, 2)
    for table in (paper.TABLE_1, paper.TABLE_2, paper.TABLE_3):
        assert len({(row.setting, row.backbone, row.method) for row in table}) == len(table)
        assert all(row.source.startswith("Table ") for row in table)


@pytest.mark.parametrize(
    ("name", "benchmark", "split"),
    [
        ("cirr", "cirr", "val"),
        ("cirr-test1", "cirr", "test1"),
        ("circo-test", "circo", "test"),
        ("fashioniq", "fashioniq", "val"),
    ],
)
def test_a_name_is_a_benchmark_and_its_split(name: str, benchmark: str, split: str) -> None:
    variant = paper.Variant.parse(name)
    assert (variant.benchmark, variant.split, str(variant)) == (benchmark, split, name)
    assert paper.Variant.parse(f"{benchmark}-{split}") == variant
    assert paper.main_metric(name) == paper.MAIN_METRICS[benchmark]
