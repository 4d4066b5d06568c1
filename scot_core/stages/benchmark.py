"""Composed retrieval on the catalogue: SCOT beside the baselines of §4.3."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scot_core.benchmarks import Benchmark
from scot_core.benchmarks.baselines import BASELINES, choose_weight, weighted
from scot_core.benchmarks.catalogue import Catalogue, from_queries
from scot_core.catalogue.queries import make
from scot_core.combiner import Combiner
from scot_core.config import BenchmarkConfig
from scot_core.encoders import load
from scot_core.fingerprint import fingerprint
from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.stages.embed import vectors_by_id
from scot_core.stages.step import Step, Tick
from scot_core.stages.train import combiners_in, training_set

Vectors = NDArray[np.float32]
WEIGHT_SAMPLE = 2000  # triplets that the weight of image+text is chosen on


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make query vectors; several runs of it (seeds) are averaged query by query."""

    name: str
    runs: Sequence[Vectors]


class MeasureCatalogue(Step):
    """Rows of `benchmarks`: every method, split and metric with its interval."""

    stage, name, unit = "benchmark", "measure composed retrieval", "methods"

    def __init__(
        self, lake: Lake, config: BenchmarkConfig, combiners: Dataset, triplets: Dataset,
        images: Dataset, texts: Dataset, gallery: Dataset,
    ) -> None:  # fmt: skip
        super().__init__(lake)
        self.config, self._combiners, self._triplets = config, combiners, triplets
        self._images, self._texts, self._gallery = images, texts, gallery
        self._source = str(combiners.manifest["source"])
        self._loss = str(combiners.manifest["config"]["loss"])
        self._encoder = str(gallery.manifest["config"]["encoder"])

    @property
    def outputs(self) -> Sequence[Identity]:
        config = {**self.config.identity(), "weight_sample": WEIGHT_SAMPLE}
        inputs = [self._combiners, self._triplets, self._images, self._texts, self._gallery]
        identity = fingerprint("benchmark", BenchmarkConfig.STAGE_VERSION, config, [d.fingerprint for d in inputs])
        stage = f"benchmark-{self.config.benchmark}-{self._loss}"
        return [Identity("benchmarks", self._source, stage, identity, config, [d.name for d in inputs])]

    def shards(self) -> Sequence[int]:
        return [len(BASELINES) + 2]

    def work(self, shard: int, tick: Tick) -> None:
        benchmark = catalogue_benchmark(self.lake, self._gallery)
        images, texts, gallery = query_vectors(benchmark, self._gallery, self._encoder)
        rows: list[dict[str, Any]] = []
        for method in self._methods(images, texts):
            rows += self._measured(benchmark, method, gallery)
            tick(1)
        columns: Mapping[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
        self.draft(self.outputs[0]).write_part(shard, columns)

    def finish(self) -> None:
        draft = self.draft(self.outputs[0])
        draft.commit(1, rows_in=draft.read_part(0).num_rows, usage=Usage(seconds=self.seconds))

    def _methods(self, images: Vectors, texts: Vectors) -> Sequence[Method]:
        baselines = [Method(name, [compose(images, texts)]) for name, compose in BASELINES.items()]
        weight = self._weight()
        tuned = Method(f"image+text, weight {weight:.2f}", [weighted(images, texts, weight)])
        with tempfile.TemporaryDirectory() as folder:
            combiners = combiners_in(self._combiners, Path(folder))
        return [*baselines, tuned, Method(self._loss, [composed(c, images, texts) for c in combiners.values()])]

    def _weight(self) -> float:
        """The text's weight, chosen on training triplets: no query of the benchmark is looked at."""
        data = training_set(self._triplets, self._images, self._texts)
        triplets = (data.image, data.modification, data.modified_caption)
        image, text, target = (vectors[:WEIGHT_SAMPLE].numpy() for vectors in triplets)
        return choose_weight(image, text, target, vectors_by_id([self._images])[1])

    def _measured(self, benchmark: Benchmark, method: Method, gallery: Vectors) -> list[dict[str, Any]]:
        measured = [benchmark.per_query(vectors, gallery) for vectors in method.runs]
        values = {metric: np.mean([run[metric] for run in measured], axis=0) for metric in measured[0]}
        return [
            {
                "source": self._source,
                "benchmark": self.config.benchmark,
                "method": method.name,
                "seeds": len(method.runs),
                "encoder": self._encoder,
                **asdict(row),
            }
            for row in benchmark.summarise(values, resamples=self.config.resamples, seed=self.config.seed)
        ]


def catalogue_benchmark(lake: Lake, gallery: Dataset) -> Catalogue:
    """The benchmark whose images a dataset of embeddings holds, drawn anew from its captions' configuration."""
    table, key = str(gallery.manifest["inputs"][0]).split("/")
    config = lake.table(table).latest(key=key).manifest["config"]
    return from_queries(make(config["queries_per_split"], config["gallery"]))


def query_vectors(benchmark: Benchmark, embeddings: Dataset, encoder: str) -> tuple[Vectors, Vectors, Vectors]:
    """V and T_m of every query, and the gallery's vectors: (Q, D), (Q, D) and (G, D) float32."""
    row, vectors = vectors_by_id([embeddings])
    images = vectors[[row[query.reference] for query in benchmark.queries]]
    texts = load(encoder).embed_texts([query.modification for query in benchmark.queries])
    return images, texts, vectors[[row[image_id] for image_id in benchmark.gallery]]


def composed(combiner: Combiner, images: Vectors, texts: Vectors) -> Vectors:
    """V_c = f_c(V, T_m) of each pair, (N, D)."""
    with torch.inference_mode():
        vectors: Vectors = combiner(torch.from_numpy(images), torch.from_numpy(texts)).numpy()
    return vectors
