"""The benchmark's rows as tables, and the result in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scot_core.paper import main_metric

ALL = "all"
SPLITS = {
    "seen": "combinations as in training",
    "combination": "held-out combinations of type with colour or pattern",
    "type": "held-out types of product",
    ALL: "every query",
}
ERRORS = ("error: ", "own distractor", "R@1 spread")
BREAKDOWNS = {
    "kind": "by what the edit does",
    "wording": "the same queries in other words",
    "folder": "by the folder of the reference image",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in percent with its 95 % interval."""

    value: float
    low: float
    high: float
    best: bool

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f}-{self.high:.1f})"


@dataclass(frozen=True)
class Results:
    """Rows of one dataset of `benchmarks`; `own` is the method that was trained, if any, every other one a baseline."""

    rows: Sequence[Mapping[str, Any]]
    own: str | None

    @property
    def main(self) -> str:
        """The metric that stands for the others."""
        return main_metric(str(self.rows[0]["benchmark"]))

    @cached_property
    def splits(self) -> list[str]:
        """Those that stand for themselves; others are in `breakdowns`."""
        return main_splits(row["split"] for row in self.rows)

    @cached_property
    def breakdowns(self) -> dict[str, list[str]]:
        """Splits named `kind: removal` and the like, by what stands before the colon."""
        return broken_down(row["split"] for row in self.rows)

    @cached_property
    def methods(self) -> list[str]:
        return _distinct(row["method"] for row in self.rows)

    @cached_property
    def other_metrics(self) -> list[str]:
        metrics = _distinct(row["metric"] for row in self.rows)
        return [metric for metric in metrics if metric != self.main and metric not in self.errors]

    @cached_property
    def errors(self) -> list[str]:
        """Metrics of which less is better: what is wrong with the first image."""
        return [metric for metric in _distinct(row["metric"] for row in self.rows) if metric.startswith(ERRORS)]

    @cached_property
    def queries(self) -> dict[str, int]:
        """Number of queries of each split."""
        return {row["split"]: int(row["queries"]) for row in self.rows if row["metric"] == self.main}

    @property
    def seeds(self) -> int:
        return max(int(row["seeds"]) for row in self.rows)

    @property
    def baselines(self) -> list[str]:
        return [method for method in self.methods if method != self.own]

    def cell(self, method: str | None, split: str, metric: str | None = None) -> Cell:
        """The main metric where none is named."""
        metric = metric or self.main
        row = self._by_place[str(method), split, metric]
        choose = min if metric in self.errors else max
        best = choose(self._by_place[m, split, metric]["value"] for m in self.methods)
        return Cell(row["value"], row["low"], row["high"], row["value"] == best)

    @property
    def table(self) -> list[tuple[str, list[Cell]]]:
        """The main metric: each method with its cells, one a split."""
        return [(method, [self.cell(method, split) for split in self.splits]) for method in self.methods]

    def best_baseline(self, split: str) -> str:
        """The baseline with the highest value, the first of equals."""
        return max(self.baselines, key=lambda method: self.cell(method, split).value)

    def gain(self, split: str) -> float:
        """Points between the trained method and the best baseline."""
        return self.cell(self.own, split).value - self.cell(self.best_baseline(split), split).value

    @property
    def weakest(self) -> str | None:
        """The split with the lowest value of the trained method; None where there is only one."""
        parts = [split for split in self.splits if split != ALL]
        return min(parts, key=lambda split: self.cell(self.own, split).value) if len(parts) > 1 else None

    @cached_property
    def _by_place(self) -> dict[tuple[str, str, str], Mapping[str, Any]]:
        return {(row["method"], row["split"], row["metric"]): row for row in self.rows}


def main_splits(splits: Iterable[str]) -> list[str]:
    """The splits, each once, without those of a breakdown."""
    return [split for split in _distinct(splits) if split.partition(": ")[0] not in BREAKDOWNS]


def broken_down(splits: Iterable[str]) -> dict[str, list[str]]:
    """Splits named `kind: removal` and the like, by what stands before the colon."""
    known = {split: split.partition(": ")[0] for split in _distinct(splits)}
    return {name: [split for split in known if known[split] == name] for name in BREAKDOWNS if name in known.values()}


def label(method: str | None) -> str:
    """A method's name as people write it."""
    return {"scot": "SCOT", "infonce": "InfoNCE"}.get(str(method), str(method))


def headline(results: Results) -> str:
    """The result in a sentence or two, from the rows alone."""
    own = results.cell(results.own, ALL)
    baseline = results.best_baseline(ALL)
    compared = f"the best baseline ({label(baseline)}, {percent(results.cell(baseline, ALL).value)})"
    gain = round(results.gain(ALL), 1)
    if gain == 0:
        difference = f"level with {compared}"
    else:
        difference = f"{abs(gain):.1f} points {'above' if gain > 0 else 'below'} {compared}"
    sentence = (
        f"{label(results.own)} finds a right image first for {percent(own.value)} of {results.queries[ALL]:,} queries "
        f"(95\u00a0% interval {own.low:.1f} to {own.high:.1f}), {difference}"
    )
    weakest = results.weakest
    if weakest is None:
        return f"{sentence}."
    return f"{sentence}; weakest on split {weakest} ({percent(results.cell(results.own, weakest).value)})."


def percent(value: float) -> str:
    return f"{value:.1f}\u00a0%"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
