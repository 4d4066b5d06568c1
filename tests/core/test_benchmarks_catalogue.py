"""The catalogue benchmark: its vectors come from the attributes themselves, so every metric is known."""

from __future__ import annotations

import numpy as np
import pytest

from scot_core.benchmarks.baselines import composed_only
from scot_core.benchmarks.catalogue import Catalogue, from_queries
from scot_core.catalogue.queries import CatalogueQueries, make
from scot_core.catalogue.world import ATTRIBUTES, TYPES, Product, values


@pytest.fixture(scope="module")
def drawn() -> CatalogueQueries:
    return make(queries_per_split=10, gallery_size=300)


@pytest.fixture(scope="module")
def catalogue(drawn: CatalogueQueries) -> Catalogue:
    return from_queries(drawn)


def attributes(product: Product, free: frozenset[str] = frozenset()) -> np.ndarray:
    """A one-hot vector of all attribute values, zero where an attribute is free."""
    parts = []
    for name in ATTRIBUTES:
        domain = sorted({value for kind in TYPES for value in values(name, kind)})
        parts += [float(getattr(product, name) == value and name not in free) for value in domain]
    return np.array(parts)


def for_each_text(drawn: CatalogueQueries, catalogue: Catalogue, vectors: np.ndarray) -> np.ndarray:
    """Vectors of the drawn queries, one for each of their texts."""
    places = {query.reference_id: place for place, query in enumerate(drawn.queries)}
    return vectors[[places[query.reference] for query in catalogue.queries]]


@pytest.fixture(scope="module")
def gallery(drawn: CatalogueQueries) -> np.ndarray:
    return np.stack([attributes(item.product) for item in drawn.gallery])


def test_a_perfect_composition_scores_full_marks(
    drawn: CatalogueQueries, catalogue: Catalogue, gallery: np.ndarray
) -> None:
    queries = np.stack([attributes(query.target, query.free) for query in drawn.queries])
    scores = catalogue.score(for_each_text(drawn, catalogue, queries), gallery)
    wrong = {m: 0.0 for m in scores if m.startswith("error") or m in ("R@1 spread", "own distractor first")}
    assert scores == dict.fromkeys(scores, 100.0) | wrong


def test_the_reference_alone_is_the_error_of_a_reference_unchanged(
    drawn: CatalogueQueries, catalogue: Catalogue, gallery: np.ndarray
) -> None:
    references = np.stack([attributes(query.reference) for query in drawn.queries])
    scores = catalogue.score(for_each_text(drawn, catalogue, references), gallery)
    assert scores["R@1"] == scores["Rs@1"] == 0
    assert scores["error: unchanged"] == scores["own distractor first"] == 100


def test_every_wrong_image_is_in_one_class(catalogue: Catalogue, gallery: np.ndarray) -> None:
    drawn = np.random.default_rng(0).random((len(catalogue.queries), gallery.shape[1]))
    values = catalogue.per_query(drawn, gallery)
    classes = sum(column for metric, column in values.items() if metric.startswith("error"))
    assert np.allclose(classes + values["R@1"], 100)


def test_several_targets_by_hand(catalogue: Catalogue) -> None:
    """One query with a vector of its own: two targets at ranks 1 and 3, the subset led by a distractor."""
    number = next(i for i, q in enumerate(catalogue.queries) if len(q.targets) == 2)
    query = catalogue.queries[number]
    distractor = next(image for image in query.subset if image not in query.targets)
    other = next(image for image in catalogue.gallery if image not in query.subset)
    order = (distractor, query.targets[1], other, query.targets[0])
    gallery = np.zeros((len(catalogue.gallery), 4))
    for place, image in enumerate(order):
        gallery[catalogue.index[image], place] = 1
    queries = np.tile([0.9, 0.8, 0.7, 0.6], (len(catalogue.queries), 1))
    unit = catalogue.units.index(query.id.removesuffix(" 0"))
    scores = {metric: column[unit] for metric, column in catalogue.per_query(queries, gallery).items()}
    precision = 100 * (1 / 2 + 2 / 4) / 2
    known = {"R@1": 0, "R@5": 100, "R@10": 100, "Rs@1": 0, "mAP@5": precision, "mAP@10": precision}
    assert {metric: scores[metric] for metric in known} == pytest.approx(known)


def test_the_value_of_a_query_is_the_mean_over_its_five_texts(
    drawn: CatalogueQueries, catalogue: Catalogue, gallery: np.ndarray
) -> None:
    """Two of the five texts of one query are understood, of all others none."""
    vectors = for_each_text(drawn, catalogue, np.stack([attributes(query.reference) for query in drawn.queries]))
    asked = drawn.queries[4]
    for number in (1, 3):
        place = next(i for i, q in enumerate(catalogue.queries) if q.id == f"{asked.query_id} known words {number}")
        vectors[place] = attributes(asked.target, asked.free)
    values = catalogue.per_query(vectors, gallery)
    unit = catalogue.units.index(f"{asked.query_id} known words")
    assert [values[metric][unit] for metric in ("R@1", "R@1 worst", "R@1 spread")] == [40, 0, 100]
    assert values["R@1"].sum() == 40


def test_splits_and_their_rows(catalogue: Catalogue) -> None:
    sizes = {name: len(rows) for name, rows in catalogue.splits.items()}
    assert {name: sizes.pop(name) for name in ("seen", "combination", "type", "all")} == {
        "seen": 10, "combination": 10, "type": 10, "all": 30,
    }  # fmt: skip
    assert sizes == {
        "kind: change": 6, "kind: removal": 6, "kind: negation": 6, "kind: swap": 3, "kind: relative": 3,
        "kind: two": 3, "kind: three": 3, "wording: new words": 30, "wording: trained": 30,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    rows = catalogue.evaluate(rng.random((len(catalogue.queries), 8)), rng.random((300, 8)))
    assert {(row.split, row.queries) for row in rows} == {(name, len(at)) for name, at in catalogue.splits.items()}
    assert all(row.low <= row.value <= row.high for row in rows)


def test_one_split_alone(drawn: CatalogueQueries, catalogue: Catalogue) -> None:
    held_out = from_queries(drawn, split="type")
    assert {q.reference for q in held_out.queries} == {q.reference_id for q in drawn.queries if q.split == "type"}
    assert next(iter(held_out.splits)) == "type" and len(held_out.splits["all"]) == 10


def test_targets_and_references_are_as_drawn(drawn: CatalogueQueries, catalogue: Catalogue) -> None:
    places = {query.reference_id: place for place, query in enumerate(drawn.queries)}
    for query in catalogue.queries:
        place = places[query.reference]
        assert [catalogue.index[image] for image in query.targets] == list(drawn.targets(place))
        assert query.reference not in catalogue.index
    assert [catalogue.queries[i].modification for i in catalogue.first_texts] == [
        query.modifications["known words"][0] for query in drawn.queries
    ]
    assert len(catalogue.image_ids) == 300 + len({query.reference_id for query in drawn.queries})


def test_recall_where_neither_modality_answers() -> None:
    values = {"R@1": np.array([100.0, 50.0, 0.0, 100.0]), "R@5": np.ones(4)}
    image, text = ({"R@1": np.array(column)} for column in ([0.0, 0.0, 0.0, 100.0], [0.0, 20.0, 0.0, 0.0]))
    composed = composed_only(values, [image, text])
    assert composed.keys() == {"R@1 composed"}
    assert np.array_equal(composed["R@1 composed"], [100.0, np.nan, 0.0, np.nan], equal_nan=True)
    assert composed_only(values, []) == {}
