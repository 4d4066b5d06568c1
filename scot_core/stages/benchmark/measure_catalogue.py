"""Composed retrieval on the catalogue: SCOT beside the baselines of §4.3."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scot_core.benchmarks import Benchmark
from scot_core.benchmarks.baselines import BASELINES, KNOWN_WORDS_SUM, choose_weight, weighted
from scot_core.benchmarks.catalogue import Catalogue, from_queries
from scot_core.catalogue.queries import DEVELOPMENT, TEST
from scot_core.catalogue.stored import QUERY_COLUMNS, drawn_queries
from scot_core.config import BenchmarkConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.lineage import parents
from scot_core.methods.combiners import composed
from scot_core.methods.spec import Examples
from scot_core.stages.benchmark.asked import as_read, query_vectors
from scot_core.stages.benchmark.measure import Measure, Measured, Method
from scot_core.stages.embed.vectors import vectors_by_id
from scot_core.stages.step import identities
from scot_core.stages.train import combiners_in, training_set

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

WEIGHT_SAMPLE = 2000  # triplets that the weight of image+text is chosen on


class MeasureCatalogue(Measure):
    """The catalogue's own benchmark, with the weight of image+text chosen on training data."""

    name = "measure composed retrieval"
    own_runs, has_gap = 2, True

    def __init__(
        self, lake: Lake, config: BenchmarkConfig, name: str, combiners: Dataset, triplets: Dataset,
        images: Dataset, texts: Dataset, gallery: Dataset,
    ) -> None:  # fmt: skip
        super().__init__(lake, Measured(name, str(gallery.config["encoder"]), config.resamples, config.seed))
        self.config, self._combiners, self._triplets = config, combiners, triplets
        self._images, self._texts, self._gallery = images, texts, gallery
        self._loss = str(combiners.config["loss"])

    @property
    def outputs(self) -> Mapping[str, Identity]:
        used = {"benchmark": self._measured.name, "resamples": self.config.resamples, "seed": self.config.seed}
        return identities(
            "benchmarks", source=self._combiners.source, label=f"benchmark-{self._measured.name}-{self._loss}",
            sealed_as="benchmark", version=BenchmarkConfig.STAGE_VERSION,
            config={**used, "weight_sample": WEIGHT_SAMPLE},
            inputs=[self._combiners, self._triplets, self._images, self._texts, self._gallery],
        )  # fmt: skip

    def methods(self) -> Iterator[tuple[Benchmark, Vectors, Method]]:
        benchmark = catalogue_benchmark(self.lake, self._gallery, self._measured.name)
        images, texts, gallery = query_vectors(benchmark, self._gallery)
        trained_on = (self._triplets, self._images, self._texts)
        asked = as_read(self._combiners.config, benchmark, self._gallery, texts)
        for method in methods_of(self._combiners, trained_on, images, texts, asked):
            yield benchmark, gallery, method


def methods_of(
    combiners: Dataset, trained_on: tuple[Dataset, Dataset, Dataset], images: Vectors, texts: Vectors, asked: Vectors
) -> list[Method]:
    """The baselines, their sum with the weight that suits training data, and the Combiners, on (Q, D) and (Q, D).

    `trained_on`: triplets, and the embeddings of images and of texts; `asked`: the texts as the Combiners read them.
    """
    weight = text_weight(*trained_on)
    baselines = [Method(name, {"": compose(images, texts)}) for name, compose in BASELINES.items()]
    read = {"image+text": texts} | ({} if asked is texts else {KNOWN_WORDS_SUM: asked})
    tuned = [Method(f"{name}, weight {weight:.2f}", {"": weighted(images, of, weight)}) for name, of in read.items()]
    with tempfile.TemporaryDirectory() as folder:
        loaded = combiners_in(combiners, Path(folder))
    runs = {f"seed-{seed}": composed(combiner, images, asked) for seed, combiner in loaded.items()}
    return [*baselines, *tuned, Method(str(combiners.config["loss"]), runs)]


def text_weight(triplets: Dataset, images: Dataset, texts: Dataset) -> float:
    """The text's weight, chosen on training triplets: no query of a benchmark is looked at."""
    some = examples(triplets, images, texts)
    return choose_weight(some.image, some.text, some.target, some.gallery)


def examples(triplets: Dataset, images: Dataset, texts: Dataset) -> Examples:
    """The first training triplets as vectors, and all training images."""
    with tempfile.TemporaryDirectory() as folder:
        data = training_set(triplets, images, texts, Path(folder), WEIGHT_SAMPLE)
        columns = (data.image, data.modification, data.modified_caption)
        image, text, target = (vectors[:WEIGHT_SAMPLE].numpy() for vectors in columns)
    return Examples(image, text, target, vectors_by_id([images])[1])


def catalogue_benchmark(lake: Lake, gallery: Dataset, name: str) -> Catalogue:
    """A draw of the benchmark, the test or `catalogue-development`, whose images a dataset of embeddings holds."""
    rows = parents(lake, gallery)[0].read(QUERY_COLUMNS)
    return from_queries(drawn_queries(rows.to_pylist(), DEVELOPMENT if name.endswith(DEVELOPMENT) else TEST))
