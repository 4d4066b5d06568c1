"""The language model before and after its tuning, and the loss curves of everything that was trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scot_core.lake import Dataset

Curve = list[tuple[int, float]]
QUALITIES = {
    "share_parsed": "replies that parse",
    "share_kept": "replies that the filters keep",
    "share_right": "replies whose edit is real, applied, and changes nothing else",
    "share_right_of_kept": "the same, of the kept ones",
}


@dataclass(frozen=True, slots=True)
class ReplyQuality:
    """One share in percent, before and after."""

    name: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """One adapter: what it was made of and what it changed."""

    config: dict[str, Any]
    qualities: tuple[ReplyQuality, ...]
    loss: Curve
    seconds: float


def tuning(adapters: Dataset) -> Tuning:
    """Read a dataset of `adapters`."""
    rows = adapters.read(["phase", "step", "metric", "value"]).to_pylist()
    value = {(row["phase"], row["metric"]): float(row["value"]) for row in rows if row["phase"] != "train"}
    qualities = [
        ReplyQuality(name, value["before", metric], value["after", metric])
        for metric, name in QUALITIES.items()
        if ("before", metric) in value and ("after", metric) in value
    ]
    loss = [
        (int(row["step"]), float(row["value"])) for row in rows if (row["phase"], row["metric"]) == ("train", "loss")
    ]
    return Tuning(dict(adapters.config), tuple(qualities), loss, adapters.usage.seconds)


def training_curves(combiners: Dataset) -> dict[str, Curve]:
    """The loss of each seed of a dataset of `combiners`."""
    curves: dict[str, Curve] = {}
    for row in combiners.read(["seed", "step", "metric", "value"]).to_pylist():
        if row["metric"] == "loss":
            curves.setdefault(f"seed {row['seed']}", []).append((int(row["step"]), float(row["value"])))
    return curves
