"""Measured rows beside the paper's, and what each gains over text-only."""

from __future__ import annotations

from typing import Any

import pytest

from scot_core.benchmarks.reported import MEASURED, Line, beside


def row(method: str, value: float, **other: Any) -> dict[str, Any]:
    fixed = {"benchmark": "fashioniq", "encoder": "blip2", "split": "all", "metric": "R@10"}
    return {**fixed, "method": method, "value": value, **other}


def by_name(lines: list[Line]) -> dict[tuple[str, str], Line]:
    return {(line.encoder, line.method): line for line in lines}


def test_reported_rows_of_the_same_backbone_follow_the_measured_ones() -> None:
    lines = beside([row("text-only", 24.0), row("scot", 38.5), row("scot", 33.0, split="dress")])
    assert [line.measured for line in lines] == [True, True, False, False, False, False]
    found = by_name(lines)
    assert found["blip2", "scot"].values == {"R@10": 38.5, "R@10/dress": 33.0}
    assert found["blip2", "scot"].gains == {"R@10": 14.5}
    assert found["blip2", "scot"].source == MEASURED
    reported = found["BLIP-2", "SCOT"]
    assert reported.values["R@10/dress"] == 32.78
    assert reported.source == "arXiv 2501.08347, Table 1, FashionIQ val"
    assert "11.78" in reported.remark


def test_gains_are_figure_5() -> None:
    found = by_name(beside([row("text-only", 1.0, encoder="clip-b32")]))
    assert found["CLIP B/32", "Image-Only"].gains["R@10"] == pytest.approx(5.88 - 18.41)
    blip = by_name(beside([row("text-only", 1.0, encoder="blip")]))
    # §4.4: with BLIP, SCOT's gain is two to three times that of TransAgg
    assert 2 < blip["BLIP", "SCOT"].gains["R@10"] / blip["BLIP", "TransAgg"].gains["R@10"] < 3
    cirr = by_name(beside([row("text-only", 1.0, benchmark="cirr-test1", metric="Rs@1", encoder="clip-l14")]))
    assert "Rs@1" not in cirr["CLIP L/14", "Pic2Word"].gains


def test_rows_of_another_split_say_so() -> None:
    for name, source in (("cirr", "Table 2, CIRR test1, not val"), ("cirr-test1", "Table 2, CIRR test1")):
        lines = beside([row("text-only", 1.0, benchmark=name, metric="R@1")])
        assert {line.source for line in lines if not line.measured} == {f"arXiv 2501.08347, {source}"}


def test_an_encoder_that_the_paper_does_not_know_stands_beside_its_own_method_on_each() -> None:
    lines = [line for line in beside([row("image-only", 3.0, encoder="catalogue")]) if not line.measured]
    assert [(line.encoder, line.method) for line in lines] == [
        (encoder, method)
        for encoder in ("CLIP B/32", "CLIP L/14", "BLIP", "BLIP-2")
        for method in ("Text-Only", "SCOT")
    ]


def test_nothing_is_reported_on_circo_or_the_catalogue() -> None:
    assert beside([row("scot", 3.0, benchmark="circo", metric="mAP@5")]) == []
    assert beside([row("scot", 3.0, benchmark="catalogue", metric="R@1")]) == []
    assert beside([]) == []
