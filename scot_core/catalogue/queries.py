"""The catalogue benchmark: composed queries of seven kinds in three splits, over a gallery with exact ground truth.

A query asks for a change of a reference. Every gallery image that shows what was asked, with everything else as in the
reference, is a target. A query brings six images into the gallery: two drawings of its target, and a distractor of each
class in `DISTRACTORS`; they are its subset (Rs@k). The rest of the gallery is drawn from the whole catalogue.

There are two draws: results are told of the one, `test`; settings are chosen on the other, `development`, a third of
its size.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from scot_core.catalogue import wordings
from scot_core.catalogue.language import ABSENT
from scot_core.catalogue.wordings import NEGATION, SWAP
from scot_core.catalogue.world import ATTRIBUTES, SPLITS, Product, sample, split_of, values
from scot_core.errors import DataError

KINDS: Final = ("change", "removal", NEGATION, SWAP, "relative", "two", "three")
UNCHANGED, HALF, ONE_OFF, TEXT_ALONE = "unchanged", "half", "one off", "text alone"
DISTRACTORS: Final = (UNCHANGED, HALF, ONE_OFF, TEXT_ALONE)
"""The reference as it was; a part of the edit (of a single one another value than the one asked for, where there is a
third); the edit and one attribute more changed; the edit on another product."""
SUBSET_SIZE: Final = 2 + len(DISTRACTORS)
TEST, DEVELOPMENT = "test", "development"
DRAWS: Final = (TEST, DEVELOPMENT)
_SEEDS: Final = {TEST: 77, DEVELOPMENT: 1077}

# A distractor differs in one of these: another type or detail would be seen at once.
_DISTRACTING: Final = ("colour", "pattern", "badge", "size", "background")
_NAMED: Final = ("type", "colour", "pattern", "badge", "background")  # what a swap or a negation can name
_COUNTS: Final = {"two": 2, "three": 3}
_MAX_DRAWS: Final = 20_000


@dataclass(frozen=True, slots=True)
class DrawnQuery:
    """A reference image and what to change.

    Attributes:
        query_id: `query-000012`.
        split: `seen`, `combination` or `type`: the split of the target.
        kind: of the edit, one of `KINDS`.
        reference_id: `reference-000012`, the reference image; every query has its own.
        reference: the product of the reference image.
        modifications: the modification texts by wording, see `wordings.asked`.
        target: a product as asked for.
        changed: attributes that it asks for.
        free: attributes the query leaves open (the detail, when the new type has not the old one).
        subset: six gallery indices, ascending: two targets and a distractor of each class.
    """

    query_id: str
    split: str
    kind: str
    reference_id: str
    reference: Product
    modifications: Mapping[str, tuple[str, ...]]
    target: Product
    changed: frozenset[str]
    free: frozenset[str]
    subset: tuple[int, ...]

    def wrong_in(self, product: Product) -> list[str]:
        """Attributes, in their order, in which a product is not as asked for."""
        fixed = [attribute for attribute in ATTRIBUTES if attribute not in self.free]
        return [attribute for attribute in fixed if getattr(product, attribute) != getattr(self.target, attribute)]


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """One gallery image: `gallery-000012`, and its product."""

    image_id: str
    product: Product


_Key = tuple[str, ...]


def _key(product: Product, free: frozenset[str]) -> _Key:
    return tuple(getattr(product, attribute) for attribute in ATTRIBUTES if attribute not in free)


def error_of(query: DrawnQuery, product: Product) -> str:
    """What is wrong with an image that is no target: a class of `DISTRACTORS`, or `other`."""
    wrong = set(query.wrong_in(product))
    kept_wrong = wrong - query.changed
    if "type" in kept_wrong:
        kept_wrong -= {"detail"}  # another type has other details
    if product == query.reference:
        return UNCHANGED
    if not kept_wrong:
        return HALF
    if wrong & query.changed:
        return "other"
    return ONE_OFF if len(kept_wrong) == 1 else TEXT_ALONE


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


def make(queries_per_split: int = 300, gallery_size: int = 6000, draw: str = TEST) -> CatalogueQueries:
    """Draw the benchmark; the same arguments give the same queries and gallery.

    Args:
        queries_per_split: number of queries in each of the three splits of the test.
        gallery_size: number of its gallery images, at least six per query.
        draw: `test` or `development`; the latter has a third of the queries and of the gallery, and ids of its own.

    Raises:
        DataError: no queries, or a gallery too small for them.
    """
    needed = len(SPLITS) * queries_per_split * SUBSET_SIZE
    if queries_per_split < 1 or gallery_size < needed:
        raise DataError(
            f"{queries_per_split} queries per split need a gallery of at least {max(needed, SUBSET_SIZE)} images, not "
            f"{gallery_size}: ask for at least one query, and six gallery images for each"
        )
    before = "" if draw == TEST else f"{draw}-"
    queries_per_split, gallery_size = sizes(queries_per_split, gallery_size, draw)
    rng = random.Random(_SEEDS[draw])
    drafts = [_draft(split, KINDS[i % len(KINDS)], rng) for split in SPLITS for i in range(queries_per_split)]
    products = [product for draft in drafts for product in draft.brings]
    products += [sample(rng) for _ in range(gallery_size - len(products))]
    # Ties are broken by gallery index, so the order must not tell targets from distractors.
    order = list(range(gallery_size))
    rng.shuffle(order)
    gallery = tuple(GalleryItem(f"{before}gallery-{i:06d}", products[j]) for i, j in enumerate(order))
    index_of = {j: i for i, j in enumerate(order)}
    queries = [
        DrawnQuery(
            query_id=f"{before}query-{number:06d}",
            split=draft.split,
            kind=draft.kind,
            reference_id=f"{before}reference-{number:06d}",
            reference=draft.reference,
            modifications=wordings.asked(draft.kind, draft.changes, draft.reference.attributes(), rng),
            target=draft.target,
            changed=frozenset(draft.changes),
            free=draft.free,
            subset=tuple(sorted(index_of[number * SUBSET_SIZE + i] for i in range(SUBSET_SIZE))),
        )
        for number, draft in enumerate(drafts)
    ]
    return CatalogueQueries(tuple(queries), gallery)


def sizes(queries_per_split: int, gallery_size: int, draw: str) -> tuple[int, int]:
    """Of a draw, queries in each split and images in the gallery, where the test has so many."""
    if draw == TEST:
        return queries_per_split, gallery_size
    queries = max(1, queries_per_split // 3)
    return queries, max(gallery_size // 3, len(SPLITS) * queries * SUBSET_SIZE)


def image_count(queries_per_split: int, gallery_size: int) -> int:
    """References and gallery images of both draws, where the test has so many."""
    both = [sizes(queries_per_split, gallery_size, draw) for draw in DRAWS]
    return sum(len(SPLITS) * queries + gallery for queries, gallery in both)


@dataclass(frozen=True)
class _Draft:
    """A query before the gallery is shuffled."""

    split: str
    kind: str
    reference: Product
    changes: Mapping[str, str]
    target: Product
    free: frozenset[str]
    brings: tuple[Product, ...]


def _draft(split: str, kind: str, rng: random.Random) -> _Draft:
    for _ in range(_MAX_DRAWS):
        # Held-out combinations are reached from any product of the types that were seen.
        origin = rng.choice(("seen", "combination")) if split == "combination" else split
        reference = sample(rng, origin)
        changes = _changes(kind, reference, rng)
        if changes is None:
            continue
        target, free = _after(reference, changes, rng)
        if split_of(target) == split:
            brings = (target, target, reference, *_distractors(reference, changes, target, rng))
            return _Draft(split, kind, reference, changes, target, free, brings)
    raise DataError(f"no query of kind {kind} with a target of split {split} in {_MAX_DRAWS} draws")


def _is_absent(attribute: str, value: str) -> bool:
    return value in ABSENT.get(attribute, ())


def _changes(kind: str, product: Product, rng: random.Random) -> dict[str, str] | None:
    """Attributes to change and their new values; None where this kind has nothing to change of this product."""
    if kind == "relative":
        return {"size": "large" if product.size == "small" else "small"}
    if kind == "removal":
        gone = {
            a: v for a in ("pattern", "badge", "detail") for v in values(a, product.type)
            if _is_absent(a, v) and getattr(product, a) != v
        }  # fmt: skip
        chosen = rng.choice(sorted(gone)) if gone else None
        return None if chosen is None else {chosen: gone[chosen]}
    names = _NAMED if kind in (NEGATION, SWAP) else tuple(a for a in ATTRIBUTES if a != "size" or kind in _COUNTS)
    chosen_names = rng.sample(names, _COUNTS.get(kind, 1))
    if {"type", "detail"} <= set(chosen_names):
        return None
    changes = {}
    for attribute in chosen_names:
        old = getattr(product, attribute)
        if kind in (NEGATION, SWAP) and _is_absent(attribute, old):
            return None  # there is nothing to name
        barred = {
            old,
            *(v for v in values(attribute, product.type) if _is_absent(attribute, v) and kind not in _COUNTS),
        }
        changes[attribute] = rng.choice([v for v in values(attribute, product.type) if v not in barred])
    return changes


def _after(reference: Product, changes: Mapping[str, str], rng: random.Random) -> tuple[Product, frozenset[str]]:
    """A product as asked for, and the attributes that are left open."""
    product_type = changes.get("type", reference.type)
    if reference.detail in values("detail", product_type):
        return reference.replace(**changes), frozenset()
    return reference.replace(**changes, detail=rng.choice(values("detail", product_type))), frozenset({"detail"})


def _distractors(
    reference: Product, changes: Mapping[str, str], target: Product, rng: random.Random
) -> tuple[Product, Product, Product]:  # fmt: skip
    """A half, a one-off and one of the text alone."""
    if len(changes) > 1:
        first = rng.choice(sorted(changes))
        half, _ = _after(reference, {first: changes[first]}, rng)
    else:
        (attribute,) = changes
        others = [v for v in values(attribute, reference.type) if v != changes[attribute]]
        wrong = [v for v in others if v != getattr(reference, attribute)] or others
        half, _ = _after(reference, {attribute: rng.choice(wrong)}, rng)
    kept = [attribute for attribute in _DISTRACTING if attribute not in changes]
    one_off = _with_other(target, rng.sample(kept, 1), rng)
    text_alone = _with_other(target, rng.sample(kept, 2), rng)
    return half, one_off, text_alone


def _with_other(product: Product, attributes: list[str], rng: random.Random) -> Product:
    changed = {a: rng.choice([v for v in values(a, product.type) if v != getattr(product, a)]) for a in attributes}
    return product.replace(**changed)
