"""The catalogue benchmark: its vectors come from the attributes themselves, so every metric is known."""

from __future__ import annotations

import numpy as np
import pytest

from scot_core.benchmarks.catalogue import Catalogue, from_queries
from scot_core.catalogue.queries import CatalogueQueries, make
from scot_core.catalogue.world import ATTRIBUTES, TYPES, Product, values


@pytest.fixture(scope="module")
def drawn() -> CatalogueQueries:
    return make(queries_per_split=10, gallery_size=300, seed=3)


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


def test_a_perfect_composition_scores_full_marks(drawn: CatalogueQueries, catalogue: Catalogue) -> None:
    gallery = np.stack([attributes(item.product) for item in drawn.gallery])
    queries = np.stack([attributes(query.target, query.free) for query in drawn.queries])
    assert set(catalogue.score(queries, gallery).values()) == {100.0}


def test_the_reference_alone_does_not(drawn: CatalogueQueries, catalogue: Catalogue) -> None:
    gallery = np.stack([attributes(item.product) for item in drawn.gallery])
    references = np.stack([attributes(query.reference) for query in drawn.queries])
    scores = catalogue.score(references, gallery)
    assert set(scores) == {"R@1", "R@5", "R@10", "Rs@1", "mAP@5", "mAP@10"}
    assert scores["R@1"] == scores["Rs@1"] == 0


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
    scores = {metric: column[number] for metric, column in catalogue.per_query(queries, gallery).items()}
    precision = 100 * (1 / 2 + 2 / 4) / 2
    assert scores == pytest.approx(
        {"R@1": 0, "R@5": 100, "R@10": 100, "Rs@1": 0, "mAP@5": precision, "mAP@10": precision}
    )


def test_splits_and_their_rows(catalogue: Catalogue) -> None:
    assert {name: len(rows) for name, rows in catalogue.splits.items()} == {
        "seen": 10,
        "combination": 10,
        "type": 10,
        "all": 30,
    }
    rng = np.random.default_rng(0)
    rows = catalogue.evaluate(rng.random((30, 8)), rng.random((300, 8)))
    assert {(row.split, row.queries) for row in rows} == {("seen", 10), ("combination", 10), ("type", 10), ("all", 30)}
    assert all(row.low <= row.value <= row.high for row in rows)


def test_one_split_alone(drawn: CatalogueQueries, catalogue: Catalogue) -> None:
    held_out = from_queries(drawn, split="type")
    assert [q.id for q in held_out.queries] == [catalogue.queries[i].id for i in catalogue.splits["type"]]
    assert list(held_out.splits) == ["type", "all"]


def test_targets_and_references_are_as_drawn(drawn: CatalogueQueries, catalogue: Catalogue) -> None:
    for i, query in enumerate(catalogue.queries):
        assert [catalogue.index[image] for image in query.targets] == list(drawn.targets(i))
        assert query.reference == drawn.queries[i].reference_id
        assert query.reference not in catalogue.index
    assert len(catalogue.image_ids) == 300 + len({query.reference_id for query in drawn.queries})
