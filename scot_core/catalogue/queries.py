"""The catalogue benchmark: composed queries in three splits over a gallery with exact ground truth.

A query asks for a change of a reference. Every gallery image that shows what was asked, with everything
else as in the reference, is a target. A query brings four images into the gallery, two drawings of its
target and two distractors that differ from the target in one attribute nobody asked to change; each
reference, with two queries, brings another drawing of itself and a product one attribute away from it.
These six are the query's subset (Rs@k). The rest of the gallery is drawn from the whole catalogue.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Final

from scot_core.catalogue.grammar import Edit, edit
from scot_core.catalogue.world import ATTRIBUTES, SPLITS, Product, sample, split_of, values
from scot_core.errors import DataError

SUBSET_SIZE: Final = 6
_QUERIES_PER_REFERENCE: Final = 2
_OWN, _SHARED = 4, 2  # gallery images of a query alone, and of its reference
# A distractor differs in one of these: the type and its detail would be seen at once.
_DISTRACTING: Final = ("colour", "pattern", "badge", "size", "background")


@dataclass(frozen=True, slots=True)
class Query:
    """A reference image and what to change.

    Attributes:
        query_id: `query-000012`.
        split: `seen`, `combination` or `type`: the split of the target.
        reference_id: `reference-000006`; two queries share a reference.
        reference: the product of the reference image.
        reference_seed: the seed it is drawn with.
        modification: the modification text.
        target: a product as asked for.
        free: attributes the query leaves open.
        subset: six gallery indices, ascending: the targets made for this query, distractors, and another
            drawing of the reference.
    """

    query_id: str
    split: str
    reference_id: str
    reference: Product
    reference_seed: int
    modification: str
    target: Product
    free: frozenset[str]
    subset: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """One gallery image: `gallery-000012`, its product, and the seed it is drawn with."""

    image_id: str
    product: Product
    seed: int


_Key = tuple[str, ...]


def _key(product: Product, free: frozenset[str]) -> _Key:
    return tuple(getattr(product, attribute) for attribute in ATTRIBUTES if attribute not in free)


@dataclass(frozen=True)
class CatalogueQueries:
    """The queries, split after split, and the gallery they share."""

    queries: tuple[Query, ...]
    gallery: tuple[GalleryItem, ...]

    def targets(self, query_index: int) -> tuple[int, ...]:
        """Gallery indices, ascending, of all images that show what a query asks for."""
        query = self.queries[query_index]
        return self._by_key[query.free][_key(query.target, query.free)]

    @cached_property
    def _by_key(self) -> dict[frozenset[str], dict[_Key, tuple[int, ...]]]:
        indices: dict[frozenset[str], dict[_Key, tuple[int, ...]]] = {}
        for free in {query.free for query in self.queries}:
            of_key: defaultdict[_Key, list[int]] = defaultdict(list)
            for index, item in enumerate(self.gallery):
                of_key[_key(item.product, free)].append(index)
            indices[free] = {key: tuple(found) for key, found in of_key.items()}
        return indices


def make(queries_per_split: int = 300, gallery_size: int = 6000, seed: int = 77) -> CatalogueQueries:
    """Draw the benchmark; the same arguments give the same queries, gallery and seeds.

    Args:
        queries_per_split: number of queries in each of the three splits.
        gallery_size: number of gallery images.
        seed: of all draws.

    Raises:
        DataError: a number below 1, or a gallery too small for its queries (five images each, if even).
    """
    references = -(-queries_per_split // _QUERIES_PER_REFERENCE)
    needed = len(SPLITS) * (queries_per_split * _OWN + references * _SHARED)
    if queries_per_split < 1 or gallery_size < needed:
        raise DataError(
            f"{queries_per_split} queries per split need a gallery of at least {max(needed, 1)} images, not "
            f"{gallery_size}: ask for fewer queries or a larger gallery"
        )
    rng = random.Random(seed)
    drafts = [draft for split in SPLITS for draft in _drafts(split, queries_per_split, rng)]
    products = [product for draft in drafts for product in draft.products()]
    products += [sample(rng) for _ in range(gallery_size - len(products))]
    # Ties are broken by gallery index, so the order must not tell targets from distractors.
    order = list(range(gallery_size))
    rng.shuffle(order)
    gallery = [GalleryItem(f"gallery-{i:06d}", products[j], rng.getrandbits(48)) for i, j in enumerate(order)]
    index_of = {j: i for i, j in enumerate(order)}
    return CatalogueQueries(tuple(_queries(drafts, index_of, rng)), tuple(gallery))


@dataclass(frozen=True)
class _Draft:
    """A reference with its edits, and the products they bring into the gallery."""

    split: str
    reference: Product
    edits: tuple[Edit, ...]
    near_reference: Product
    distractors: tuple[tuple[Product, Product], ...]  # of each edit

    def products(self) -> Iterator[Product]:
        """`_SHARED` products of the reference, then `_OWN` of each edit."""
        yield from (self.reference, self.near_reference)
        for asked, others in zip(self.edits, self.distractors, strict=True):
            yield from (asked.product, asked.product, *others)


def _drafts(split: str, queries: int, rng: random.Random) -> Iterator[_Draft]:
    for start in range(0, queries, _QUERIES_PER_REFERENCE):
        reference = _reference(split, rng)
        edits = _edits(reference, split, min(_QUERIES_PER_REFERENCE, queries - start), rng)
        distractors = tuple(_near_target(asked, rng) for asked in edits)
        yield _Draft(split, reference, edits, _near_reference(reference, edits, rng), distractors)


def _reference(split: str, rng: random.Random) -> Product:
    if split != "combination":
        return sample(rng, split)
    # Held-out combinations are reached from any product of the types that were seen.
    return sample(rng, rng.choice(("seen", "combination")))


def _near_reference(reference: Product, edits: tuple[Edit, ...], rng: random.Random) -> Product:
    while True:
        product = _one_off(reference, rng.choice(_DISTRACTING), rng)
        if not any(_shows(product, asked) for asked in edits):
            return product


def _edits(reference: Product, split: str, number: int, rng: random.Random) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    while len(edits) < number:
        asked = edit(reference, rng, allowed=lambda product: split_of(product) == split)
        if not any(_shows(asked.product, other) or _shows(other.product, asked) for other in edits):
            edits.append(asked)
    return tuple(edits)


def _shows(product: Product, asked: Edit) -> bool:
    return _key(product, asked.free) == _key(asked.product, asked.free)


def _near_target(asked: Edit, rng: random.Random) -> tuple[Product, Product]:
    first, second = rng.sample([a for a in _DISTRACTING if a not in asked.changed], 2)
    return _one_off(asked.product, first, rng), _one_off(asked.product, second, rng)


def _one_off(product: Product, attribute: str, rng: random.Random) -> Product:
    others = [v for v in values(attribute, product.type) if v != getattr(product, attribute)]
    return product.replace(**{attribute: rng.choice(others)})


def _queries(drafts: list[_Draft], index_of: dict[int, int], rng: random.Random) -> Iterator[Query]:
    """Queries in the order of the drafts; `index_of` maps the order of the products to the gallery's."""
    position, number = 0, count()
    for reference_number, draft in enumerate(drafts):
        shared = range(position, position + _SHARED)
        position += _SHARED
        reference_seed = rng.getrandbits(48)
        for asked in draft.edits:
            own = range(position, position + _OWN)
            position += _OWN
            yield Query(
                query_id=f"query-{next(number):06d}",
                split=draft.split,
                reference_id=f"reference-{reference_number:06d}",
                reference=draft.reference,
                reference_seed=reference_seed,
                modification=asked.modification,
                target=asked.product,
                free=asked.free,
                subset=tuple(sorted(index_of[i] for i in (*shared, *own))),
            )
