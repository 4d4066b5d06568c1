"""Composed queries with what SCOT finds for them, as in Figure 4 of the paper."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from PIL import Image

from scot_core.benchmarks.catalogue import from_queries
from scot_core.catalogue.queries import TEST, CatalogueQueries, DrawnQuery
from scot_core.catalogue.stored import QUERY_COLUMNS, drawn_queries
from scot_core.catalogue.wordings import KNOWN
from scot_core.catalogue.world import Product
from scot_core.combiner import Combiner
from scot_core.lake import Dataset
from scot_core.methods.combiners import composed
from scot_core.report.choice import shuffled
from scot_core.report.images import images_of
from scot_core.report.lineage import Lineage
from scot_core.retrieval import top_k
from scot_core.stages.benchmark.asked import as_read, query_vectors
from scot_core.stages.train import combiners_in
from scot_core.vectors import Vectors

SHOWN = 5  # images of each query
DEPTH = 100  # how far down the first right image is looked for


@dataclass(frozen=True, slots=True)
class Hit:
    """One image that was found; `note` says what is wrong with a wrong one."""

    image: Image.Image
    right: bool
    note: str


@dataclass(frozen=True, slots=True)
class Example:
    """A query, its best images, and how much the Combiner let the text weigh (Figure 4's last column)."""

    split: str
    reference: Image.Image
    modification: str
    modality_weight: float
    hits: tuple[Hit, ...]
    first_right: int | None
    """1-based rank of the best right image; None where it lies beyond `DEPTH`."""
    targets: int


@dataclass(frozen=True, slots=True)
class Gallery:
    """Examples, answered by the Combiner of `seed`. `added_failure`: the last place went to a query that failed."""

    examples: tuple[Example, ...]
    seed: int
    added_failure: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A Combiner, and what it is asked: V and T_m of each query in its first text, (Q, D), and the gallery's (G, D)."""

    drawn: CatalogueQueries
    combiner: Combiner
    seed: int
    images: Vectors
    texts: Vectors
    gallery: Vectors


@dataclass(frozen=True, slots=True)
class _Answers:
    """The whole benchmark, answered: gallery indices (Q, DEPTH) best first, and modality weights (Q,)."""

    drawn: CatalogueQueries
    found: list[list[int]]
    weights: list[float]
    seed: int

    def first_right(self, place: int) -> int | None:
        targets = set(self.drawn.targets(place))
        return next((rank for rank, index in enumerate(self.found[place], 1) if index in targets), None)


def gallery(lineage: Lineage, count: int) -> Gallery:
    """`count` queries of the benchmark: the splits in turn, queries of a split in the order of a digest of their ids.

    Where all of them have a right image at rank 1, the next one that has not takes the last place.
    Raises LakeError where the Combiner or the gallery's images are no longer in the lake.
    """
    embeddings = lineage.given("embeddings", stage="embed-gallery")
    pictures = lineage.inputs(embeddings)[0]
    answers = _answer(asked_of(lineage.given("combiners"), embeddings, pictures))
    first = [answers.first_right(place) for place in range(len(answers.drawn.queries))]
    chosen, added = choose(answers.drawn.queries, first, count)
    queries, items = answers.drawn.queries, answers.drawn.gallery
    wanted = {items[index].image_id for place in chosen for index in answers.found[place][:SHOWN]}
    image = images_of(pictures, wanted | {queries[place].reference_id for place in chosen})
    examples = []
    for place in chosen:
        query, targets = queries[place], answers.drawn.targets(place)
        best = answers.found[place][:SHOWN]
        hits = [Hit(image[items[i].image_id], i in targets, note(query, items[i].product, i in targets)) for i in best]
        reference, weight = image[query.reference_id], answers.weights[place]
        examples.append(
            Example(
                query.split, reference, query.modifications[KNOWN][0], weight, tuple(hits), first[place], len(targets)
            )
        )
    return Gallery(tuple(examples), answers.seed, added)


def choose(queries: Sequence[DrawnQuery], first_right: Sequence[int | None], count: int) -> tuple[list[int], bool]:
    """Places of the queries to show, split after split, and whether a failure was put in; see `gallery`."""
    of_split: dict[str, list[int]] = {query.split: [] for query in queries}
    for place in shuffled(range(len(queries)), lambda place: queries[place].query_id):
        of_split[queries[place].split].append(place)
    in_turn = [place for turn in zip_longest(*of_split.values()) for place in turn if place is not None]
    chosen, rest = in_turn[:count], in_turn[count:]
    failure = next((place for place in rest if first_right[place] != 1), None)
    add = failure is not None and all(first_right[place] == 1 for place in chosen)
    if failure is not None and add:
        chosen[-1] = failure
    splits = list(of_split)
    return sorted(chosen, key=lambda place: splits.index(queries[place].split)), add


def note(query: DrawnQuery, product: Product, right: bool) -> str:
    """What a person should see in an image that was found: that it is right, or which attributes are not."""
    if right:
        return "right"
    if product == query.reference:
        return "reference unchanged"
    wrong = query.wrong_in(product)
    if "type" in wrong and "detail" in wrong:
        wrong.remove("detail")  # another type has other details
    return "wrong " + ", ".join(wrong)


def asked_of(combiners: Dataset, embeddings: Dataset, pictures: Dataset) -> Asked:
    """The test's queries, as the first of some Combiners reads them."""
    drawn = drawn_queries(pictures.read(QUERY_COLUMNS).to_pylist(), TEST)
    benchmark = from_queries(drawn)
    images, texts, vectors = query_vectors(benchmark, embeddings)
    texts = as_read(combiners.config, benchmark, embeddings, texts)
    images, texts = images[benchmark.first_texts], texts[benchmark.first_texts]
    with tempfile.TemporaryDirectory() as folder:
        seed, combiner = next(iter(combiners_in(combiners, Path(folder)).items()))
    return Asked(drawn, combiner, seed, images, texts, vectors)


def own_weights(asked: Asked) -> list[float]:
    """How much the Combiner lets the text of each query weigh."""
    with torch.inference_mode():
        weights = asked.combiner.modality_weight(torch.from_numpy(asked.images), torch.from_numpy(asked.texts))
    return [float(weight) for weight in weights]


def _answer(asked: Asked) -> _Answers:
    vectors = composed(asked.combiner, asked.images, asked.texts)
    found = top_k(vectors, asked.gallery, min(DEPTH, len(asked.gallery)))[1]
    return _Answers(asked.drawn, found.tolist(), own_weights(asked), asked.seed)
