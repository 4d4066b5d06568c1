"""Composed retrieval on the captions that mined triplets were kept away from: SCOT beside the baselines of §4.3."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scot_core.benchmarks import Benchmark
from scot_core.benchmarks.mined import NAME, VERSION, build
from scot_core.config import BenchmarkConfig
from scot_core.encoders.fitted_names import fitted_by
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.lineage import parents
from scot_core.stages.benchmark.asked import as_read, query_vectors
from scot_core.stages.benchmark.measure import Measure, Measured, Method
from scot_core.stages.benchmark.measure_catalogue import WEIGHT_SAMPLE, methods_of
from scot_core.stages.fit.recalled import label_of
from scot_core.stages.generate.mined import held_out
from scot_core.stages.step import identities

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors


class MeasureMined(Measure):
    """Held-out captions that differ by one edit ask for each other's images, among all images of the collection."""

    name = "measure on held-out captions"
    own_runs = 2

    def __init__(
        self, lake: Lake, config: BenchmarkConfig, combiners: Dataset, triplets: Dataset, images: Dataset,
        texts: Dataset,
    ) -> None:  # fmt: skip
        """Raises ConfigError for triplets from which no captions were held out."""
        super().__init__(lake, Measured(NAME, label_of(lake, images), config.resamples, config.seed))
        if "held_out" not in triplets.config:
            raise ConfigError(
                f"benchmark mined asks for captions that training never saw, and {triplets.name} has seen all of them: "
                "mine the triplets (generate.writer=mined), or leave mined out of benchmark.names"
            )
        _require_unseen(lake, images, triplets)
        self.config, self._combiners, self._triplets = config, combiners, triplets
        self._images, self._texts = images, texts

    @property
    def outputs(self) -> Mapping[str, Identity]:
        used = {"name": NAME, "queries": self.config.queries, "resamples": self.config.resamples}
        return identities(
            "benchmarks", source=self._combiners.source, label=f"benchmark-mined-{self._combiners.config['loss']}",
            sealed_as="benchmark", version=VERSION,
            config={
                **used, "seed": self.config.seed, "weight_sample": WEIGHT_SAMPLE, "combiner": self._combiners.key
            },
            inputs=[self._combiners, self._triplets, self._images, self._texts],
        )  # fmt: skip

    def methods(self) -> Iterator[tuple[Benchmark, Vectors, Method]]:
        benchmark = mined_benchmark(self.lake, self.config.queries, self._triplets, self._images)
        images, texts, gallery = query_vectors(benchmark, self._images)
        asked = as_read(self._combiners.config, benchmark, self._images, texts)
        trained_on = (self._triplets, self._images, self._texts)
        for method in methods_of(self._combiners, trained_on, images, texts, asked):
            yield benchmark, gallery, method


def mined_benchmark(lake: Lake, queries: int, triplets: Dataset, images: Dataset) -> Benchmark:
    """The benchmark of the captions that `triplets` were kept away from, over the images of `images`."""
    captions, config = parents(lake, images)[0], triplets.config
    rows = captions.read(["image_id", "caption"])
    pairs = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    with tempfile.TemporaryDirectory() as work:
        held = held_out(captions, config["held_out"], config["seed"])
        return build(pairs, held, limit=queries, seed=config["seed"], work=Path(work)).benchmark


def _require_unseen(lake: Lake, images: Dataset, triplets: Dataset) -> None:
    """Raises ConfigError where the encoder was fitted to captions that the benchmark asks for."""
    fitted = fitted_by(lake, str(images.config["encoder"]))
    if fitted is None or parents(lake, fitted)[0].name != parents(lake, images)[0].name:
        return
    kept = fitted.config.get("held_out"), fitted.config.get("held_out_seed")
    if kept != (triplets.config["held_out"], triplets.config["seed"]):
        raise ConfigError(
            f"{fitted.name} was fitted to captions that benchmark mined asks for ({triplets.name} holds out others): "
            "fit it again with these settings (embed.encoder=fitted)"
        )
