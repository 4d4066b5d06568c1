"""Measured rows beside the rows that the paper reports, each with what it gains over text-only (ΔR of Figure 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scot_core import paper

BACKBONES = {
    "clip-b32": "CLIP B/32",
    "clip-l14": "CLIP L/14",
    "blip": "BLIP",
    "blip2": "BLIP-2",
    "lavis-blip2": "BLIP-2",
}
"""Scot's encoders by the names that Tables 1 and 2 give them."""

MEASURED = "measured here"


@dataclass(frozen=True, slots=True)
class Line:
    """One method, measured or reported: metric -> percent, and points over text-only on the same encoder.

    Metrics are named as in `paper`: FashionIQ's categories as "R@10/dress", its averages as "R@10".
    """

    method: str
    encoder: str
    source: str
    values: Mapping[str, float]
    gains: Mapping[str, float]
    remark: str = ""
    measured: bool = False

    @property
    def is_text_only(self) -> bool:
        return self.method.lower() == paper.TEXT_ONLY.lower()


def beside(rows: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Lines of one benchmark: what was measured, then what the paper reports for zero-shot methods.

    Reported are the rows of the encoder's backbone, or, for an encoder that the paper does not know, the paper's own
    method and Text-Only on each. Empty where the paper reports nothing on this benchmark. `rows` are those of
    table `benchmarks`.
    """
    if not rows:
        return []
    name, encoder = str(rows[0]["benchmark"]), str(rows[0]["encoder"])
    variant = paper.Variant.parse(name)
    reported = paper.REPORTED.get(variant.benchmark)
    if reported is None:
        return []
    split = paper.REPORTED_SPLITS[variant.benchmark]
    other = "" if split == variant.split else f", not {variant.split}"
    return _measured(rows, encoder) + _reported(reported, BACKBONES.get(encoder), other)


def _measured(rows: Iterable[Mapping[str, Any]], encoder: str) -> list[Line]:
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        metric = row["metric"] if row["split"] == "all" else f"{row['metric']}/{row['split']}"
        values.setdefault(row["method"], {})[metric] = float(row["value"])
    base = values.get("text-only", {})
    return [
        Line(method, encoder, MEASURED, found, _gains(found, base), measured=True) for method, found in values.items()
    ]


def _reported(rows: Sequence[paper.Reported], backbone: str | None, other: str) -> list[Line]:
    zero_shot = [row for row in rows if row.setting == paper.ZERO_SHOT]
    base = {row.backbone: row.values for row in zero_shot if row.method == paper.TEXT_ONLY}
    shown = [
        row
        for row in zero_shot
        if row.backbone == backbone or (backbone is None and row.method in (paper.OURS, paper.TEXT_ONLY))
    ]
    return [
        Line(
            row.method,
            row.backbone,
            f"{paper.CITATION}, {row.source}{other}",
            row.values,
            _gains(row.values, base.get(row.backbone, {})),
            row.remark,
        )
        for row in shown
    ]


def _gains(values: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    return {metric: round(value - base[metric], 2) for metric, value in values.items() if metric in base}
