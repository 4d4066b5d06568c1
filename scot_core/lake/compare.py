"""Two generations side by side: settings, rows, reasons of rejects, quality of the tuned model, scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scot_core.errors import ConfigError
from scot_core.lake import Dataset
from scot_core.lake.generations import Generation
from scot_core.paper import main_metric

ALONE = ("adapters", "combiners", "benchmarks")  # tables of which a generation has one dataset, whatever its stage says
ALL = "all"  # the split of every query


@dataclass(frozen=True, slots=True)
class Score:
    """In percent, with its 95 % bootstrap interval over queries."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """By name, what it is in the one and in the other; None where one has no such thing."""

    settings: Mapping[str, tuple[Any, Any]]
    """Only those that differ."""
    rows: Mapping[str, tuple[int | None, int | None]]
    rejects: Mapping[str, tuple[int | None, int | None]]
    quality: Mapping[str, tuple[float | None, float | None]]
    scores: Mapping[str, tuple[Score | None, Score | None]]


def compare(one: Generation, other: Generation) -> Difference:
    """Every name of either, in the order of the stages. Raises LakeError where a part is not what was committed."""
    settings = _pairs(_settings(one), _settings(other))
    return Difference(
        settings={name: pair for name, pair in settings.items() if pair[0] != pair[1]},
        rows=_pairs(_rows(one), _rows(other)),
        rejects=_pairs(rejects_of(one), rejects_of(other)),
        quality=_pairs(quality_of(one), quality_of(other)),
        scores=_pairs(_scores(one), _scores(other)),
    )


def falls(promoted: Generation, candidate: Generation) -> dict[str, float]:
    """By how many points the main metric of the trained method fell, for each benchmark (over all queries, or for each
    split where there is no such figure); negative where it rose.

    Raises ConfigError where the two were not measured on the same benchmark, of as many queries.
    """
    before, after = main_scores(promoted.of("benchmarks")), main_scores(candidate.of("benchmarks"))
    if not before or before.keys() != after.keys():
        raise ConfigError(
            f"{candidate.id} ({', '.join(after) or 'not measured'}) cannot be compared with the promoted "
            f"{promoted.id} ({', '.join(before) or 'not measured'}): measure both on the same benchmark"
        )
    return {name: before[name] - after[name] for name in before}


def main_scores(measured: Iterable[Dataset]) -> dict[str, float]:
    """The main metric of the trained method of some benchmarks, over all queries or for each split; none where the
    targets are hidden.
    """
    scores: dict[str, float] = {}
    for dataset in measured:
        rows = dataset.read().to_pylist()
        own = [row for row in rows if row["method"] == rows[-1]["method"]]
        main = [row for row in own if row["metric"] == main_metric(row["benchmark"])]
        whole = [row for row in main if row["split"] == ALL] or main
        scores |= {f"{r['benchmark']} {r['split']} {r['metric']}, {r['queries']} queries": r["value"] for r in whole}
    return scores


def _pairs(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (one.get(name), other.get(name)) for name in dict.fromkeys([*one, *other])}


def _name(dataset: Dataset) -> str:
    return dataset.table if dataset.table in ALONE else f"{dataset.table} {dataset.stage}"


def _settings(generation: Generation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for dataset in generation.members:
        if dataset.table not in ("rejects", "galleries"):  # those of the dataset beside it
            found |= {f"{_name(dataset)}: {path}": value for path, value in _leaves(dataset.config)}
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _rows(generation: Generation) -> dict[str, int]:
    return {_name(dataset): dataset.rows for dataset in generation.members}


def rejects_of(generation: Generation) -> dict[str, int]:
    """Rows by stage and reason."""
    counts: Counter[str] = Counter()
    for dataset in generation.of("rejects"):
        for part in dataset.read_parts(["stage", "reason"]):
            pairs = zip(part["stage"].to_pylist(), part["reason"].to_pylist(), strict=True)
            counts.update(f"{stage}: {reason}" for stage, reason in pairs)
    return dict(sorted(counts.items()))


def quality_of(generation: Generation) -> dict[str, float]:
    """What was measured of the tuned model, in percent."""
    rows = (row for dataset in generation.of("adapters") for row in dataset.read().to_pylist())
    return {f"{row['metric']} {row['phase']} tuning": row["value"] for row in rows if row["phase"] != "train"}


def _scores(generation: Generation) -> dict[str, Score]:
    rows = (row for dataset in generation.of("benchmarks") for row in dataset.read().to_pylist())
    return {
        f"{row['benchmark']} {row['split']} {row['method']} {row['metric']}": Score(
            row["value"], row["low"], row["high"]
        )
        for row in rows
    }
