"""What every benchmark's measuring has in common: methods in, rows of `benchmarks` out (§4.3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scot_core.benchmarks import Benchmark
from scot_core.benchmarks.baselines import ALONE, BASELINES, composed_only
from scot_core.benchmarks.submission import to_bytes
from scot_core.lake import Lake
from scot_core.metrics import Floats
from scot_core.stages.step import Step, Tick

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

COLUMNS = (
    "source", "benchmark", "split", "method", "metric", "value", "low", "high", "queries", "seeds", "encoder",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make query vectors; several runs of it (seeds), by name, are averaged query by query."""

    name: str
    runs: Mapping[str, Vectors]


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured, with which encoder, and how intervals are drawn; `hidden`: a test server keeps the targets."""

    name: str
    encoder: str
    resamples: int
    seed: int
    hidden: bool = False


class Measure(Step):
    """Rows of `benchmarks`: every method, split and metric with its interval; and files for evaluation servers."""

    stage, unit = "benchmark", "methods"
    own_runs: int = 1  # methods beside the baselines
    has_gap: bool = False  # whether it tells recall on what neither modality answers alone

    def __init__(self, lake: Lake, config: Measured) -> None:
        super().__init__(lake)
        self._measured = config

    @abstractmethod
    def methods(self) -> Iterator[tuple[Benchmark, Vectors, Method]]:
        """Each method with the benchmark and the gallery's vectors, (G, D), that it is measured on."""

    def shards(self) -> Sequence[int]:
        return [len(BASELINES) + self.own_runs]

    def work(self, shard: int, tick: Tick) -> None:
        measured: list[tuple[Benchmark, Method, dict[str, Floats]]] = []
        submissions: dict[str, bytes] = {}
        for benchmark, gallery, method in self.methods():
            if self._measured.hidden:
                submissions |= submissions_of(benchmark, gallery, method.name, method.runs)
            elif any(query.targets for query in benchmark.queries):
                runs = [benchmark.per_query(vectors, gallery) for vectors in method.runs.values()]
                values = {metric: np.mean([run[metric] for run in runs], axis=0) for metric in runs[0]}
                measured.append((benchmark, method, values))
            tick(1)
        alone = [values for _, method, values in measured if method.name in ALONE]
        with ThreadPoolExecutor() as pool:  # numpy draws resamples without the interpreter's lock
            rows = [
                row
                for of_one in pool.map(lambda one: self._rows(one[0], one[1], one[2], alone), measured)
                for row in of_one
            ]
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        self.drafts["benchmarks"].write_part(shard, columns, submissions)

    def rows_in(self) -> None:
        """Methods, splits and metrics: as many as there are."""

    def _rows(
        self, benchmark: Benchmark, method: Method, values: dict[str, Floats], alone: Sequence[Mapping[str, Floats]]
    ) -> list[dict[str, Any]]:
        named = {
            "source": self.outputs["benchmarks"].source,
            "benchmark": self._measured.name,
            "method": method.name,
            "seeds": len(method.runs),
            "encoder": self._measured.encoder,
        }
        values = values | (composed_only(values, alone) if self.has_gap else {})
        summary = benchmark.summarise(values, resamples=self._measured.resamples, seed=self._measured.seed)
        return [{**named, **asdict(row)} for row in summary]


def submissions_of(
    benchmark: Benchmark, gallery: Vectors, method: str, runs: Mapping[str, Vectors]
) -> dict[str, bytes]:  # fmt: skip
    """What an evaluation server takes, as `<method>/<run>/<file>`; baselines have one run without a name."""
    return {
        "/".join(filter(None, (method, run, name))): to_bytes(name, content)
        for run, vectors in runs.items()
        for name, content in benchmark.submission(vectors, gallery).items()
    }
