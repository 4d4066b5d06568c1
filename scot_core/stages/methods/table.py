"""Methods side by side: values with intervals, paired differences to one of them, and what each cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Lake
from scot_core.lake.generations import generation_of
from scot_core.lake.names import Reference
from scot_core.metrics import Floats, bootstrap_interval, mean_over, paired_interval
from scot_core.stages.methods.measure import MILLISECONDS

SHARED = ("captions", "galleries", "embeddings", "scores")  # what every method has, whatever it learns


@dataclass(frozen=True, slots=True)
class Cell:
    """A value in percent with its 95 % interval, and its paired difference to the baseline with its own."""

    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f}-{self.high:.1f})"

    @property
    def shown_difference(self) -> str:
        """The difference with its sign and interval."""
        return f"{self.difference:+.1f} ({self.difference_low:+.1f} to {self.difference_high:+.1f})"

    @property
    def decided(self) -> bool:
        """Whether the interval of the difference leaves zero out."""
        return self.difference_low > 0 or self.difference_high < 0


@dataclass(frozen=True, slots=True)
class Standing:
    """One method: what it reached by split and metric, with how many runs, and what that took."""

    method: str
    shown: str
    runs: int
    cells: Mapping[str, Mapping[str, Cell]]
    milliseconds: float
    """Of a query asked alone, the median."""
    training_s: float
    """Seconds of work on what the method was trained into, all seeds together."""
    data_s: float
    """Seconds of work on what that was made from, captions and embeddings left out: all methods share these."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A method that is not in the table, why, and the command that makes what it needs."""

    method: str
    why: str
    made_by: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """All methods on one benchmark."""

    benchmark: str
    encoder: str
    against: str
    queries: Mapping[str, int]
    """By split."""
    standings: Sequence[Standing]
    missing: Sequence[Missing]

    @property
    def metrics(self) -> list[str]:
        return list(next(iter(self.standings[0].cells.values())))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Scores:
    """Of a method: values (S, Q) and strata (Q,) by split and metric; queries in the order of the benchmark."""

    values: Mapping[tuple[str, str], Floats]
    strata: Mapping[str, list[str]]
    shown: str
    encoder: str
    milliseconds: float


def compare(
    lake: Lake, measured: Mapping[str, Dataset], against: str, missing: Sequence[Missing] = (), *,
    metrics: Collection[str] | None = None, resamples: int = 2000, seed: int = 0,
) -> Comparison:  # fmt: skip
    """The comparison of datasets of `scores`, by method, of one benchmark; of all metrics, or of some.

    `against` is a method by its name, or as tables show it. Raises ConfigError where that one was not measured.
    """
    scores = {method: _read(dataset) for method, dataset in measured.items()}
    baseline = next((one for one, its in scores.items() if against in (one, its.shown)), None)
    if baseline is None:
        raise ConfigError(f"{against!r} was not measured; compare against one of {', '.join(scores) or 'none at all'}")
    theirs, known = scores[baseline], {dataset.reference: dataset for dataset in lake.datasets()}
    cells: dict[str, dict[str, dict[str, Cell]]] = {method: defaultdict(dict) for method in scores}
    for (split, metric), other in theirs.values.items():
        if metrics is not None and metric not in metrics:
            continue
        groups = theirs.strata[split]
        for method, ours in scores.items():
            values = ours.values[split, metric]
            mean = values.mean(axis=0)
            interval = bootstrap_interval(mean, groups=groups, resamples=resamples, seed=seed)
            difference = (
                (0.0, 0.0, 0.0)
                if method == baseline
                else paired_interval(values, other, groups=groups, resamples=resamples, seed=seed)
            )
            cells[method][split][metric] = Cell(mean_over(mean, groups), *interval, *difference)
    standings = []
    for method, ours in scores.items():
        runs = len(next(iter(ours.values.values())))
        costs = _costs(measured[method], known)
        standings.append(Standing(method, ours.shown, runs, dict(cells[method]), ours.milliseconds, *costs))
    queries = {split: len(strata) for split, strata in theirs.strata.items()}
    name = str(next(iter(measured.values())).config["benchmark"])
    return Comparison(name, theirs.encoder, theirs.shown, queries, standings, list(missing))


def _read(dataset: Dataset) -> _Scores:
    columns = ("split", "stratum", "query_id", "run", "metric", "value", "method", "encoder")
    rows = dataset.read(columns).to_pydict()
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    strata: dict[str, dict[str, str]] = defaultdict(dict)
    milliseconds = []
    named = (rows[name] for name in columns[:6])
    for split, stratum, query, run, metric, value in zip(*named, strict=True):
        if metric == MILLISECONDS:
            milliseconds.append(value)
            continue
        found[split, metric][run].append(value)
        strata[split][query] = stratum
    values = {place: np.array(list(runs.values())) for place, runs in found.items()}
    plain = {split: list(of_query.values()) for split, of_query in strata.items()}
    return _Scores(values, plain, rows["method"][0], rows["encoder"][0], float(np.median(milliseconds or [np.nan])))


def _costs(scores: Dataset, known: Mapping[Reference, Dataset]) -> tuple[float, float]:
    """Seconds of work on what a method learned, and on what that was made from."""
    learned = [known[reference] for reference in scores.inputs if reference in known]
    trained = [one for one in learned if one.table not in SHARED and one.table != "triplets"]
    behind = [member for one in learned if one.table != "embeddings" for member in generation_of(one, known).members]
    own = {one.fingerprint for one in trained}  # with the rejects of the same step
    return _seconds(trained), _seconds(one for one in behind if one.table not in SHARED and one.fingerprint not in own)


def _seconds(datasets: Iterable[Dataset]) -> float:
    """Datasets of one step share their work, which is counted once."""
    return sum(seconds for _, seconds in {(one.fingerprint, one.usage.seconds) for one in datasets})
