"""The catalogue benchmark: exact targets, subsets, splits, small sizes."""

from __future__ import annotations

import pytest

from scot_core.catalogue.grammar import read_modification
from scot_core.catalogue.queries import SUBSET_SIZE, CatalogueQueries, make
from scot_core.catalogue.world import ATTRIBUTES, SPLITS, Product, split_of
from scot_core.errors import DataError


@pytest.fixture(scope="module")
def benchmark() -> CatalogueQueries:
    return make()


def differing(one: Product, other: Product) -> set[str]:
    return {a for a in ATTRIBUTES if getattr(one, a) != getattr(other, a)}


def test_sizes_and_ids(benchmark: CatalogueQueries) -> None:
    assert [q.split for q in benchmark.queries] == [split for split in SPLITS for _ in range(300)]
    assert [item.image_id for item in benchmark.gallery] == [f"gallery-{i:06d}" for i in range(6000)]
    assert [q.query_id for q in benchmark.queries] == [f"query-{i:06d}" for i in range(900)]
    assert benchmark.queries[12].reference_id == "reference-000012"
    seeds = {item.seed for item in benchmark.gallery} | {q.reference_seed for q in benchmark.queries}
    assert len(seeds) == 6000 + 900


def test_same_arguments_same_benchmark(benchmark: CatalogueQueries) -> None:
    assert make() == benchmark
    assert make(seed=78) != benchmark


def test_targets_against_a_plain_scan(benchmark: CatalogueQueries) -> None:
    for index in range(0, 900, 60):
        query = benchmark.queries[index]
        expected = [
            i for i, item in enumerate(benchmark.gallery) if differing(item.product, query.target) <= query.free
        ]
        assert list(benchmark.targets(index)) == expected


def test_every_query(benchmark: CatalogueQueries) -> None:
    for index, query in enumerate(benchmark.queries):
        targets = set(benchmark.targets(index))
        subset = [benchmark.gallery[i].product for i in query.subset]
        assert len(set(query.subset)) == SUBSET_SIZE
        assert list(query.subset) == sorted(query.subset)
        # Two targets, the reference, two products next to the target, and one more.
        assert len(targets.intersection(query.subset)) == 2
        assert subset.count(query.target) == 2
        assert query.reference in subset
        assert sum(len(differing(p, query.target)) == 1 for p in subset if p != query.reference) >= 2
        # The text asks for exactly what separates reference and target.
        asked = read_modification(query.modification)
        assert asked == {a: getattr(query.target, a) for a in asked}
        changed = differing(query.reference, query.target)
        assert set(asked) <= changed <= set(asked) | query.free
        assert split_of(query.target) == query.split


def test_references_belong_to_their_split(benchmark: CatalogueQueries) -> None:
    origin = {split: {split_of(q.reference) for q in benchmark.queries if q.split == split} for split in SPLITS}
    assert origin == {"seen": {"seen"}, "combination": {"seen", "combination"}, "type": {"type"}}


def test_gallery_order_tells_nothing(benchmark: CatalogueQueries) -> None:
    positions = [i for index in range(900) for i in benchmark.targets(index)]
    assert 2800 < sum(positions) / len(positions) < 3200


@pytest.mark.parametrize(("per_split", "gallery"), [(40, 600), (1, 15), (3, 48)])
def test_small_sizes(per_split: int, gallery: int) -> None:
    small = make(per_split, gallery)
    assert len(small.queries) == 3 * per_split
    assert len(small.gallery) == gallery
    assert all(set(small.targets(i)) & set(q.subset) for i, q in enumerate(small.queries))


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="40 queries per split need a gallery of at least 600 images, not 599"):
        make(40, 599)
    with pytest.raises(DataError):
        make(0, 100)
