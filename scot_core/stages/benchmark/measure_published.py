"""Rows of a published benchmark, or the files that its evaluation server takes (§4.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from scot_core.benchmarks import Benchmark, own
from scot_core.benchmarks.baselines import BASELINES, weighted
from scot_core.config import PublishedConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.lineage import parents
from scot_core.lake.schema import pair_id, text_id
from scot_core.methods.combiners import composed
from scot_core.stages.benchmark.asked import as_read
from scot_core.stages.benchmark.chosen import Chosen
from scot_core.stages.benchmark.measure import Measure, Measured, Method
from scot_core.stages.benchmark.measure_catalogue import WEIGHT_SAMPLE, text_weight
from scot_core.stages.embed.benchmarks import Published
from scot_core.stages.embed.vectors import vectors_by_id
from scot_core.stages.fit.recalled import label_of
from scot_core.stages.step import Tick

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors


class MeasurePublished(Measure):
    """Baselines and Combiner on one published benchmark, or the files that its evaluation server takes.

    Queries of one's own bring their bad rows, as rejects, and the sum whose weight suits the Combiner's training data.
    """

    def __init__(
        self, lake: Lake, config: PublishedConfig, published: Published, images: Dataset, texts: Dataset,
        chosen: Chosen | None,
    ) -> None:  # fmt: skip
        super().__init__(
            lake, Measured(config.name, label_of(lake, images), config.resamples, config.seed, published.hidden)
        )
        self.config, self.published, self._chosen = config, published, chosen
        self._images, self._texts = images, texts
        self.name = f"measure {config.name}"
        self._is_own = config.name == own.NAME
        self.own_runs = 0 if chosen is None else 1 + (self._is_own and chosen.dataset is not None)

    @property
    def outputs(self) -> Mapping[str, Identity]:
        vectors = [self._images, self._texts]
        inputs = [*vectors, *([self._chosen.dataset] if self._chosen and self._chosen.dataset else [])]
        config = {**self.config.identity(), "combiner": self._chosen.origin if self._chosen else None}
        if self._is_own:
            config["weight_sample"] = WEIGHT_SAMPLE
        prints = [
            *(d.fingerprint for d in vectors),
            self.published.text,
            *([self._chosen.fingerprint] if self._chosen else []),
        ]
        identity = fingerprint("benchmark", PublishedConfig.STAGE_VERSION, config, prints)
        method = self._chosen.method if self._chosen else "baselines"
        stage = f"benchmark-{self._images.config['encoder']}-{method}"
        references = [d.reference for d in inputs]
        tables = ("rejects", "benchmarks") if self._is_own else ("benchmarks",)
        return {table: Identity(table, self.config.name, stage, identity, config, references) for table in tables}

    def work(self, shard: int, tick: Tick) -> None:
        if self._is_own:
            self.drafts["rejects"].write_part(shard, self._bad_rows())
        super().work(shard, tick)

    def _bad_rows(self) -> dict[str, Any]:
        bad = self.published.bad
        return {
            "pair_id": [pair_id(own.NAME, row.where, row.raw) for row in bad],
            "source": [own.NAME] * len(bad),
            "stage": ["benchmark"] * len(bad),
            "reason": [row.reason for row in bad],
            "raw": [f"{row.where}: {row.raw}" for row in bad],
            "tries": [1] * len(bad),
        }

    def methods(self) -> Iterator[tuple[Benchmark, Vectors, Method]]:
        benchmark, images, gallery = image_vectors(self.published, self._images)
        texts = text_vectors(self.published, self._texts)
        for method, runs in self._composed(images, texts).items():
            yield benchmark, gallery, Method(method, runs)

    def _composed(self, images: Vectors, texts: Vectors) -> dict[str, dict[str, Vectors]]:
        """Query vectors of every method, by run."""
        methods = {name: {"": compose(images, texts)} for name, compose in BASELINES.items()}
        if self._is_own and self._chosen is not None and self._chosen.dataset is not None:
            weight = text_weight(*trained_on(self.lake, self._chosen.dataset))
            methods[f"image+text, weight {weight:.2f}"] = {"": weighted(images, texts, weight)}
        if self._chosen is not None:
            if self._is_own and self._chosen.dataset is not None:  # people's own words
                texts = as_read(self._chosen.dataset.config, self.published.whole, self._images, texts)
            runs = self._chosen.load().items()
            methods[self._chosen.method] = {run: composed(combiner, images, texts) for run, combiner in runs}
        return methods


def image_vectors(published: Published, embeddings: Dataset) -> tuple[Benchmark, Vectors, Vectors]:
    """The benchmark without lost images, and the vectors of its references, (Q, D), and of its gallery, (G, D)."""
    row, vectors = vectors_by_id([embeddings])
    whole = published.whole
    lost = [image for image in whole.image_ids if image not in row]
    benchmark = whole.without(lost) if lost else whole
    images = np.zeros((len(whole.queries), vectors.shape[1]), np.float32)  # zero where the reference is lost
    asked = [place for place, query in enumerate(whole.queries) if query.reference in row]
    images[asked] = vectors[[row[whole.queries[place].reference] for place in asked]]
    return benchmark, images, vectors[[row[image] for image in benchmark.gallery]]


def text_vectors(published: Published, embeddings: Dataset) -> Vectors:
    """The vector of each query's text, (Q, D)."""
    row, vectors = vectors_by_id([embeddings])
    found: Vectors = vectors[[row[text_id(query.modification)] for query in published.whole.queries]]
    return found


def trained_on(lake: Lake, combiners: Dataset) -> tuple[Dataset, Dataset, Dataset]:
    """Triplets, and embeddings of images and of texts, that a dataset of Combiners was trained on."""
    triplets, images, texts = parents(lake, combiners)[:3]
    return triplets, images, texts
