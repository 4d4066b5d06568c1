"""What methods are measured on: a benchmark with its vectors, which is opened where there is something to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from scot_core.benchmarks import Benchmark
from scot_core.benchmarks.mined import VERSION
from scot_core.config import BenchmarkConfig, PublishedConfig
from scot_core.lake import Dataset
from scot_core.methods import Queries
from scot_core.stages.benchmark.measure_catalogue import catalogue_benchmark
from scot_core.stages.benchmark.measure_mined import mined_benchmark
from scot_core.stages.benchmark.measure_published import image_vectors, text_vectors
from scot_core.stages.embed.benchmarks import Published
from scot_core.stages.embed.vectors import vectors_by_id
from scot_core.stages.methods.ground import Ground, LakeKnown

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors


@dataclass(frozen=True)
class Opened:
    """A benchmark, the vectors of its gallery, (G, D), and its queries."""

    benchmark: Benchmark
    gallery: Vectors
    queries: Queries

    def alone(self, place: int, known: LakeKnown) -> Queries:
        """One query, whose text is read when it is asked for."""
        text = self.benchmark.queries[place].modification
        return Queries(
            self.queries.ids[place : place + 1], self.queries.images[place : place + 1],
            self.queries.modifications[place : place + 1], lambda: known.embed_texts([text]),
        )  # fmt: skip


@dataclass(frozen=True)
class Exam:
    """A benchmark to measure on: its name, what else names it (configuration, inputs, digests), and how it opens."""

    name: str
    source: str
    config: Mapping[str, Any]
    inputs: Sequence[Dataset]
    prints: Sequence[str]
    load: Callable[[], Opened]
    hidden: bool = False

    @cached_property
    def opened(self) -> Opened:
        return self.load()


def exams(
    ground: Ground, known: LakeKnown, development: bool, queries: int = BenchmarkConfig().queries
) -> list[Exam]:  # fmt: skip
    """Those of a lake's own: a draw of the catalogue's, and of mined triplets the captions that were held out."""
    found = []
    gallery = ground.gallery
    if gallery is not None:
        name = "catalogue-development" if development else "catalogue"

        def catalogue() -> Opened:
            return _opened(catalogue_benchmark(ground.lake, gallery, name), gallery, known)

        found.append(Exam(name, gallery.source, {"benchmark": name}, [gallery], (), catalogue))
    triplets = ground.learned_from[0] if ground.combiners is not None else None
    if triplets is not None and "held_out" in triplets.config:

        def mined() -> Opened:
            return _opened(mined_benchmark(ground.lake, queries, triplets, ground.images), ground.images, known)

        config = {"benchmark": "mined", "queries": queries}
        found.append(Exam("mined", triplets.source, config, [triplets, ground.images], (f"mined-{VERSION}",), mined))
    return found


def published_exam(config: PublishedConfig, published: Published, images: Dataset, texts: Dataset) -> Exam:
    """A published benchmark, or queries of one's own."""

    def load() -> Opened:
        benchmark, references, gallery = image_vectors(published, images)
        asked = benchmark.queries
        ids, modifications = [query.reference for query in asked], [query.modifications for query in asked]
        return Opened(
            benchmark, gallery, Queries(ids, references, modifications, lambda: text_vectors(published, texts))
        )

    identity = {"benchmark": config.name, "allow_missing": config.allow_missing}
    return Exam(config.name, config.name, identity, [images, texts], [published.text], load, published.hidden)


def _opened(benchmark: Benchmark, embeddings: Dataset, known: LakeKnown) -> Opened:
    row, vectors = vectors_by_id([embeddings])
    asked = benchmark.queries
    ids, texts = [query.reference for query in asked], [query.modification for query in asked]
    queries = Queries(
        ids, vectors[[row[name] for name in ids]], [query.modifications for query in asked],
        lambda: known.embed_texts(texts),
    )  # fmt: skip
    return Opened(benchmark, vectors[[row[name] for name in benchmark.gallery]], queries)
