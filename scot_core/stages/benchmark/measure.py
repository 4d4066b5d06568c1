"""What every benchmark's measuring has in common: methods in, rows of `benchmarks` out (§4.3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scot_core.benchmarks import Benchmark
from scot_core.benchmarks.baselines import BASELINES
from scot_core.combiner import Combiner
from scot_core.lake import Lake, Usage
from scot_core.stages.step import Step, Tick

Vectors = NDArray[np.float32]
COLUMNS = (
    "source", "benchmark", "split", "method", "metric", "value", "low", "high", "queries", "seeds", "encoder",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make query vectors; several runs of it (seeds) are averaged query by query."""

    name: str
    runs: Sequence[Vectors]


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured, with which encoder, and how intervals are drawn."""

    name: str
    encoder: str
    resamples: int
    seed: int


class Measure(Step):
    """Rows of `benchmarks`: every method, split and metric with its interval; and files for evaluation servers."""

    stage, unit = "benchmark", "methods"
    own_runs: int = 1  # methods beside the baselines

    def __init__(self, lake: Lake, config: Measured) -> None:
        super().__init__(lake)
        self._measured = config

    @abstractmethod
    def methods(self) -> Iterator[tuple[Benchmark, Vectors, Method]]:
        """Each method with the benchmark and the gallery's vectors, (G, D), that it is measured on."""

    def shards(self) -> Sequence[int]:
        return [len(BASELINES) + self.own_runs]

    def work(self, shard: int, tick: Tick) -> None:
        rows: list[dict[str, Any]] = []
        for benchmark, gallery, method in self.methods():
            rows += self._rows(benchmark, gallery, method)
            tick(1)
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        self.draft(self.outputs[0]).write_part(shard, columns)

    def finish(self) -> None:
        draft = self.draft(self.outputs[0])
        draft.write_files(draft.work_folder() / "files")
        draft.commit(1, rows_in=draft.read_part(0).num_rows, usage=Usage(seconds=self.seconds))

    def _rows(self, benchmark: Benchmark, gallery: Vectors, method: Method) -> list[dict[str, Any]]:
        if not any(query.targets for query in benchmark.queries):
            return []
        measured = [benchmark.per_query(vectors, gallery) for vectors in method.runs]
        values = {metric: np.mean([run[metric] for run in measured], axis=0) for metric in measured[0]}
        named = {
            "source": self.outputs[0].source,
            "benchmark": self._measured.name,
            "method": method.name,
            "seeds": len(method.runs),
            "encoder": self._measured.encoder,
        }
        summary = benchmark.summarise(values, resamples=self._measured.resamples, seed=self._measured.seed)
        return [{**named, **asdict(row)} for row in summary]


def composed(combiner: Combiner, images: Vectors, texts: Vectors) -> Vectors:
    """V_c = f_c(V, T_m) of each pair, (N, D)."""
    with torch.inference_mode():
        vectors: Vectors = combiner(torch.from_numpy(images), torch.from_numpy(texts)).numpy()
    return vectors
