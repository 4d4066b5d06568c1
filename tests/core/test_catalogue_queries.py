"""The catalogue benchmark: exact targets, subsets, splits, kinds, wordings, small sizes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from scot_core.catalogue.grammar import read_modification, teach
from scot_core.catalogue.language import ABSENT, WORDS, caption, mentioned
from scot_core.catalogue.queries import (
    DISTRACTORS,
    DRAWS,
    KINDS,
    ONE_OFF,
    SUBSET_SIZE,
    TEXT_ALONE,
    UNCHANGED,
    CatalogueQueries,
    error_of,
    image_count,
    make,
)
from scot_core.catalogue.stored import drawn_queries, gallery_rows
from scot_core.catalogue.wordings import KNOWN, NEW, TRAINED
from scot_core.catalogue.words import NEW_WORDS
from scot_core.catalogue.world import ATTRIBUTES, SPLITS, Product, sample, split_of, values
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


def test_same_arguments_same_benchmark(benchmark: CatalogueQueries) -> None:
    assert make() == benchmark


def test_the_development_draw_is_another_one(benchmark: CatalogueQueries) -> None:
    development = make(draw="development")
    assert (len(development.queries), len(development.gallery)) == (300, 2000)
    ids = {item.image_id for item in development.gallery} | {q.reference_id for q in development.queries}
    assert all(name.startswith("development-") for name in ids)
    asked = {(q.reference, q.target) for q in benchmark.queries}
    assert len({(q.reference, q.target) for q in development.queries} & asked) < 5  # by chance


def test_targets_against_a_plain_scan(benchmark: CatalogueQueries) -> None:
    for index in range(0, 900, 60):
        query = benchmark.queries[index]
        expected = [
            i for i, item in enumerate(benchmark.gallery) if differing(item.product, query.target) <= query.free
        ]
        assert list(benchmark.targets(index)) == expected


def test_every_query_brings_two_targets_and_a_distractor_of_each_class(benchmark: CatalogueQueries) -> None:
    for index, query in enumerate(benchmark.queries):
        targets = set(benchmark.targets(index))
        assert len(set(query.subset)) == SUBSET_SIZE and list(query.subset) == sorted(query.subset)
        assert len(targets.intersection(query.subset)) == 2
        classes = Counter(error_of(query, benchmark.gallery[i].product) for i in query.subset if i not in targets)
        third = len({*values(next(iter(query.changed)), query.reference.type)}) > 2 or len(query.changed) > 1
        assert classes == Counter(DISTRACTORS if third else (UNCHANGED, UNCHANGED, ONE_OFF, TEXT_ALONE))


def test_every_query_changes_what_its_kind_says(benchmark: CatalogueQueries) -> None:
    for query in benchmark.queries:
        assert len(query.changed) == {"two": 2, "three": 3}.get(query.kind, 1)
        changed = differing(query.reference, query.target)
        assert query.changed <= changed <= query.changed | query.free
        assert split_of(query.target) == query.split
        removed = {a for a in query.changed if getattr(query.target, a) in ABSENT.get(a, ())}
        assert (query.kind == "removal") == bool(removed) or query.kind in ("two", "three")
        assert (query.kind == "relative") == (query.changed == {"size"})


def test_kinds_are_even_in_every_split(benchmark: CatalogueQueries) -> None:
    counts = Counter((query.split, query.kind) for query in benchmark.queries)
    assert len(counts) == len(SPLITS) * len(KINDS) and max(counts.values()) - min(counts.values()) <= 1


def test_no_text_of_the_test_is_one_that_training_can_hold(benchmark: CatalogueQueries) -> None:
    """The teacher's grammar, of which the small Falcon and the encoder's pretraining know no other."""
    rng = random.Random(0)
    trained = {teach(caption(sample(rng), mentioned(rng), rng.getrandbits(30)), rng)[0] for _ in range(20_000)}
    for wording in (KNOWN, NEW):
        asked = {text for query in benchmark.queries for text in query.modifications[wording]}
        assert not asked & trained
        assert all(len(set(query.modifications[wording])) == 5 for query in benchmark.queries)
    own = {text for query in benchmark.queries for text in query.modifications[TRAINED] if query.kind != "three"}
    assert len(own & trained) > len(own) / 2  # the comparison is in training's words


def test_the_trained_text_asks_for_the_change(benchmark: CatalogueQueries) -> None:
    for query in benchmark.queries:
        asked = read_modification(query.modifications[TRAINED][0])
        assert asked == {a: getattr(query.target, a) for a in query.changed}


def test_new_words_are_in_no_caption_and_no_modification_text() -> None:
    known = {word for values in WORDS.values() for synonyms in values.values() for s in synonyms for word in s.split()}
    for attribute, of_value in NEW_WORDS.items():
        assert of_value.keys() == WORDS[attribute].keys()
        for said in of_value.values():
            assert not set(said.split()) <= known, said


def test_references_belong_to_their_split(benchmark: CatalogueQueries) -> None:
    origin = {split: {split_of(q.reference) for q in benchmark.queries if q.split == split} for split in SPLITS}
    assert origin == {"seen": {"seen"}, "combination": {"seen", "combination"}, "type": {"type"}}


def test_gallery_order_tells_nothing(benchmark: CatalogueQueries) -> None:
    positions = [i for index in range(900) for i in benchmark.targets(index)]
    assert 2800 < sum(positions) / len(positions) < 3200


def test_what_is_stored_is_what_was_drawn() -> None:
    drawn = {draw: make(8, 200, draw) for draw in DRAWS}
    rows = [
        {"image_id": name, **columns} for draw, made in drawn.items() for name, _, columns in gallery_rows(draw, made)
    ]
    assert {draw: drawn_queries(rows, draw) for draw in DRAWS} == drawn
    assert len(rows) == image_count(8, 200)


@pytest.mark.parametrize(("per_split", "gallery"), [(40, 720), (1, 18), (3, 54)])
def test_small_sizes(per_split: int, gallery: int) -> None:
    small = make(per_split, gallery)
    assert len(small.queries) == 3 * per_split
    assert len(small.gallery) == gallery
    assert all(set(small.targets(i)) & set(q.subset) for i, q in enumerate(small.queries))
    assert make(per_split, gallery, "development").queries


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="40 queries per split need a gallery of at least 720 images, not 719"):
        make(40, 719)
    with pytest.raises(DataError):
        make(0, 100)
