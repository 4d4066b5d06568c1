"""The queries of a benchmark as vectors: what they ask about, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scot_core.benchmarks import Benchmark
from scot_core.encoders.spec import embed_requests
from scot_core.lake import Dataset
from scot_core.stages.embed.vectors import encoder_of, vectors_by_id

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors


def query_vectors(benchmark: Benchmark, embeddings: Dataset) -> tuple[Vectors, Vectors, Vectors]:
    """V and T_m of every query, and the gallery's vectors: (Q, D), (Q, D) and (G, D) float32."""
    row, vectors = vectors_by_id([embeddings])
    images = vectors[[row[query.reference] for query in benchmark.queries]]
    return images, _texts(benchmark, embeddings), vectors[[row[image_id] for image_id in benchmark.gallery]]


def as_read(config: Mapping[str, Any], benchmark: Benchmark, embeddings: Dataset, texts: Vectors) -> Vectors:
    """The vectors of the queries' texts as Combiners of a configuration read them: `texts`, or those of known words."""
    return _texts(benchmark, embeddings, known_words=True) if config.get("known_words") else texts


def _texts(benchmark: Benchmark, embeddings: Dataset, *, known_words: bool = False) -> Vectors:
    place = {text: place for place, text in enumerate(dict.fromkeys(query.modification for query in benchmark.queries))}
    vectors = embed_requests(encoder_of(embeddings), list(place), known_words=known_words)
    return vectors[[place[query.modification] for query in benchmark.queries]]
