"""The catalogue benchmark: composed queries in three splits over a gallery with exact ground truth.

A query asks for a change of a reference. Every gallery image that shows what was asked, with everything
else as in the reference, is a target. A query brings five images into the gallery: two drawings of its
target, another drawing of its reference, and two distractors that differ from the target in one attribute
nobody asked to change. With the gallery's nearest other product they are the query's subset (Rs@k). The
rest of the gallery is drawn from the whole catalogue.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from scot_core.catalogue.grammar import Edit, edit
from scot_core.catalogue.world import ATTRIBUTES, SPLITS, Product, sample, split_of, values
from scot_core.errors import DataError

SUBSET_SIZE: Final = 6
_OWN: Final = SUBSET_SIZE - 1  # gallery images that a query brings
# A distractor differs in one of these: another type or detail would be seen at once.
_DISTRACTING: Final = ("colour", "pattern", "badge", "size", "background")


@dataclass(frozen=True, slots=True)
class DrawnQuery:
    """A reference image and what to change.

    Attributes:
        query_id: `query-000012`.
        split: `seen`, `combination` or `type`: the split of the target.
        reference_id: `reference-000012`, the reference image; every query has its own.
        reference: the product of the reference image.
        reference_seed: the seed it is drawn with.
        modification: the modification text.
        target: a product as asked for.
        free: attributes the query leaves open.
        subset: six gallery indices, ascending: two targets, distractors, another drawing of the reference.
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

    queries: tuple[DrawnQuery, ...]
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
        gallery_size: number of gallery images, at least five per query.
        seed: of all draws.

    Raises:
        DataError: no queries, or a gallery too small for them.
    """
    needed = len(SPLITS) * queries_per_split * _OWN
    if queries_per_split < 1 or gallery_size < needed:
        raise DataError(
            f"{queries_per_split} queries per split need a gallery of at least {max(needed, _OWN)} images, not "
            f"{gallery_size}: ask for at least one query, and five gallery images for each"
        )
    rng = random.Random(seed)
    drafts = [_draft(split, rng) for split in SPLITS for _ in range(queries_per_split)]
    products = [product for draft in drafts for product in draft.products]
    products += [sample(rng) for _ in range(gallery_size - len(products))]
    # Ties are broken by gallery index, so the order must not tell targets from distractors.
    order = list(range(gallery_size))
    rng.shuffle(order)
    gallery = tuple(GalleryItem(f"gallery-{i:06d}", products[j], rng.getrandbits(48)) for i, j in enumerate(order))
    index_of = {j: i for i, j in enumerate(order)}
    nearest = _Nearest([item.product for item in gallery])
    queries = []
    for number, draft in enumerate(drafts):
        own = [index_of[number * _OWN + i] for i in range(_OWN)]
        queries.append(
            DrawnQuery(
                query_id=f"query-{number:06d}",
                split=draft.split,
                reference_id=f"reference-{number:06d}",
                reference=draft.reference,
                reference_seed=rng.getrandbits(48),
                modification=draft.asked.modification,
                target=draft.asked.product,
                free=draft.asked.free,
                subset=tuple(sorted([*own, nearest.other(own[0], draft.asked.free, own)])),
            )
        )
    return CatalogueQueries(tuple(queries), gallery)


@dataclass(frozen=True)
class _Draft:
    """A query before the gallery is shuffled, and the `_OWN` products it brings."""

    split: str
    reference: Product
    asked: Edit
    products: tuple[Product, ...]


def _draft(split: str, rng: random.Random) -> _Draft:
    # Held-out combinations are reached from any product of the types that were seen.
    origin = rng.choice(("seen", "combination")) if split == "combination" else split
    reference = sample(rng, origin)
    asked = edit(reference, rng, allowed=lambda product: split_of(product) == split)
    first, second = rng.sample([a for a in _DISTRACTING if a not in asked.changed], 2)
    target = asked.product
    distractors = (_one_off(target, first, rng), _one_off(target, second, rng))
    return _Draft(split, reference, asked, (target, target, reference, *distractors))


def _one_off(product: Product, attribute: str, rng: random.Random) -> Product:
    others = [v for v in values(attribute, product.type) if v != getattr(product, attribute)]
    return product.replace(**{attribute: rng.choice(others)})


class _Nearest:
    """Finds, for a query, the gallery's most similar product that is neither its own nor a target."""

    def __init__(self, products: Sequence[Product]) -> None:
        table = np.array([_key(product, frozenset()) for product in products])
        self._codes = np.unique(table, return_inverse=True)[1].reshape(table.shape)

    def other(self, target: int, free: frozenset[str], own: Sequence[int]) -> int:
        """The index of the product that shares most attributes with a target, the first of several."""
        fixed = [i for i, attribute in enumerate(ATTRIBUTES) if attribute not in free]
        shared = (self._codes == self._codes[target])[:, fixed].sum(axis=1)
        shared[shared == len(fixed)] = -1  # a target
        shared[list(own)] = -1
        return int(shared.argmax())
