"""One method on one benchmark: a row of `scores` for each query, run and metric, and what a query costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from scot_core.config import MethodsConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.methods import Compose, Method
from scot_core.metrics import Floats
from scot_core.stages.benchmark.measure import submissions_of
from scot_core.stages.benchmark.measure_catalogue import WEIGHT_SAMPLE
from scot_core.stages.methods.exams import Exam, Opened
from scot_core.stages.methods.ground import LakeKnown
from scot_core.stages.step import Step, Tick

MILLISECONDS = "ms"
"""The metric that is no percentage: what a query takes, from text and known reference to the nearest images; processor
time where there is no GPU, so that other work on the machine does not count."""
ALL = "all"
_TIMED_S = 5.0  # no further query is timed after this
_FOUND = 10  # images that a timed query asks for
_COLUMNS = ("split", "stratum", "query_id", "run", "metric", "value")
Row = tuple[str, str, str, str, str, float]


class MeasureMethod(Step):
    """Measures what `Benchmark` defines, on the same queries for every method; files for evaluation servers instead
    where the targets are hidden.
    """

    stage, unit = "methods", "runs"

    def __init__(
        self, lake: Lake, config: MethodsConfig, exam: Exam, method: Method, learned: Sequence[Dataset],
        known: LakeKnown,
    ) -> None:  # fmt: skip
        """`learned`: the datasets that the method needs."""
        super().__init__(lake)
        self.config, self._exam, self._method = config, exam, method
        self._learned, self._known = learned, known
        self.name = f"{method.name} on {exam.name}"

    @cached_property
    def outputs(self) -> Mapping[str, Identity]:
        inputs = list({dataset.name: dataset for dataset in (*self._learned, *self._exam.inputs)}.values())
        config: dict[str, Any] = {**self._exam.config, "method": self._method.name}
        if any(need.table == "triplets" for need in self._method.needs):
            config["weight_sample"] = WEIGHT_SAMPLE
        if self._method.draws:
            config |= {"seeds": list(self._known.seeds), "oti": asdict(self._known.oti)}
        prints = [*(dataset.fingerprint for dataset in inputs), *self._exam.prints]
        seal = fingerprint("methods", MethodsConfig.STAGE_VERSION, config, prints)
        label = f"{self._exam.name}-{self._method.name}"
        return {"scores": Identity("scores", self._exam.source, label, seal, config, [one.reference for one in inputs])}

    def shards(self) -> Sequence[int]:
        return [len(self._known.seeds) if self._method.draws else self._trained]

    @property
    def _trained(self) -> int:
        return max([1, *(len(dataset.config.get("seeds", ())) for dataset in self._learned[:1])])

    def work(self, shard: int, tick: Tick) -> None:
        ready, opened = self._method.ready(self._known), self._exam.opened
        rows: list[Row] = []
        vectors = {}
        for run, compose in ready.runs.items():
            vectors[run] = compose(opened.queries)
            if not self._exam.hidden:
                rows += score_rows(opened, run, opened.benchmark.per_query(vectors[run], opened.gallery))
            tick(1)
        files = submissions_of(opened.benchmark, opened.gallery, ready.shown, vectors) if self._exam.hidden else {}
        run, compose = next(iter(ready.runs.items()))
        rows += [(ALL, "", name, run, MILLISECONDS, ms) for name, ms in self._timed(opened, compose).items()]
        columns = score_columns(self._exam, ready.shown, self._known.encoder.spec.name, rows)
        self.drafts["scores"].write_part(shard, columns, files)

    def rows_in(self) -> None:
        """Queries, runs and metrics: as many as there are."""

    def _timed(self, opened: Opened, compose: Compose) -> dict[str, float]:
        """Milliseconds of some queries, spread over the benchmark, each asked alone."""
        import torch

        from scot_core.retrieval import top_k

        count = len(opened.benchmark.queries)
        places = np.unique(np.linspace(0, count - 1, min(count, self.config.timed)).astype(int)).tolist()
        top_k(compose(opened.alone(places[0], self._known)), opened.gallery, _FOUND)  # warm
        found: dict[str, float] = {}
        clock = time.perf_counter if torch.cuda.is_available() else time.process_time
        end = time.perf_counter() + _TIMED_S
        for place in places:
            started = clock()
            top_k(compose(opened.alone(place, self._known)), opened.gallery, _FOUND)
            found[opened.benchmark.queries[place].id] = 1000 * (clock() - started)
            if time.perf_counter() > end:
                break
        return found


def score_columns(exam: Exam, method: str, encoder: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Table `scores`, of rows of one method."""
    fixed = {"source": exam.source, "benchmark": exam.name, "method": method, "encoder": encoder}
    columns: dict[str, Any] = {name: [value] * len(rows) for name, value in fixed.items()}
    return columns | {name: [row[place] for row in rows] for place, name in enumerate(_COLUMNS)}


def score_rows(opened: Opened, run: str, values: Mapping[str, Floats]) -> list[Row]:
    """Values of each unit of the benchmark, (U,) by metric, once in each of its splits."""
    benchmark, rows = opened.benchmark, []
    units = benchmark.units
    for split, chosen in benchmark.splits.items():
        strata = benchmark.strata(split)
        for metric, column in values.items():
            rows += [
                (split, stratum, units[place], run, metric, float(column[place]))
                for place, stratum in zip(chosen.tolist(), strata, strict=True)
            ]
    return rows
