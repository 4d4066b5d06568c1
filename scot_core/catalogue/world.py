"""Products of the drawn catalogue: attributes, their values, and the three splits.

10 types x 10 colours x 6 patterns x 3 details per type x 4 badges x 2 sizes x 5 backgrounds = 72,000
products. Two types are held out altogether (split `type`), and among the others some (type, colour) and
(type, pattern) pairs (split `combination`), so that generalisation to new compositions can be measured.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import Final

from scot_core.errors import DataError

ATTRIBUTES: Final = ("type", "colour", "pattern", "detail", "badge", "size", "background")
SPLITS: Final = ("seen", "combination", "type")

DETAILS: Final[dict[str, tuple[str, ...]]] = {
    "t-shirt": ("sleeveless", "short sleeves", "long sleeves"),
    "dress": ("sleeveless", "short sleeves", "long sleeves"),
    "tote bag": ("short handles", "long handles", "a single strap"),
    "backpack": ("a front pocket", "side pockets", "two buckles"),
    "mug": ("a round handle", "a square handle", "no handle"),
    "vase": ("a narrow neck", "a wide neck", "two handles"),
    "sneaker": ("a low top", "a high top", "a platform sole"),
    "beanie": ("a pompom", "a folded cuff", "ear flaps"),
    "lamp": ("a cone shade", "a round shade", "a box shade"),
    "cushion": ("round corners", "square corners", "fringed edges"),
}
TYPES: Final = tuple(DETAILS)
COLOURS: Final = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
)  # fmt: skip
PATTERNS: Final = ("plain", "striped", "polka dot", "checked", "zigzag", "floral")
BADGES: Final = ("none", "star", "heart", "moon")
SIZES: Final = ("small", "large")
BACKGROUNDS: Final = ("white", "wood", "brick", "grass", "tiles")

HELD_TYPES: Final = frozenset({"dress", "vase"})
SEEN_TYPES: Final = tuple(t for t in TYPES if t not in HELD_TYPES)
# Diagonals: every seen type loses two colours and one pattern, and no colour or pattern is lost altogether.
HELD_COLOURS: Final = frozenset(
    (t, COLOURS[(i + shift) % len(COLOURS)]) for i, t in enumerate(SEEN_TYPES) for shift in (0, 4)
)
HELD_PATTERNS: Final = frozenset((t, PATTERNS[1 + i % 5]) for i, t in enumerate(SEEN_TYPES))

# A badge is the most visible attribute: somewhat more than a quarter of the products go without.
_BADGE_RATE: Final = 0.75
_DOMAINS: Final[dict[str, tuple[str, ...]]] = {
    "type": TYPES,
    "colour": COLOURS,
    "pattern": PATTERNS,
    "badge": BADGES,
    "size": SIZES,
    "background": BACKGROUNDS,
}


def values(attribute: str, product_type: str) -> tuple[str, ...]:
    """The values an attribute can take; only `detail` depends on the product type.

    Raises:
        DataError: unknown attribute or product type.
    """
    if product_type not in DETAILS:
        raise DataError(f"unknown product type {product_type!r}; one of {', '.join(TYPES)}")
    if attribute == "detail":
        return DETAILS[product_type]
    if attribute not in _DOMAINS:
        raise DataError(f"unknown attribute {attribute!r}; one of {', '.join(ATTRIBUTES)}")
    return _DOMAINS[attribute]


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the catalogue on one background.

    Raises:
        DataError: a value outside its attribute's domain.
    """

    type: str
    colour: str
    pattern: str
    detail: str
    badge: str
    size: str
    background: str

    def __post_init__(self) -> None:
        for attribute in ATTRIBUTES:
            value, domain = getattr(self, attribute), values(attribute, self.type)
            if value not in domain:
                raise DataError(f"a {self.type} cannot have {attribute} {value!r}; one of {', '.join(domain)}")

    def replace(self, **changes: str) -> Product:
        """A copy with some attributes changed; a new type needs a detail of that type."""
        return dataclasses.replace(self, **changes)

    def attributes(self) -> dict[str, str]:
        """Attribute name to value, in the order of `ATTRIBUTES`."""
        return {attribute: getattr(self, attribute) for attribute in ATTRIBUTES}


def is_held(product_type: str | None, colour: str | None, pattern: str | None) -> bool:
    """Whether a (type, colour) or (type, pattern) pair is held out; None is an unknown value."""
    return (product_type, colour) in HELD_COLOURS or (product_type, pattern) in HELD_PATTERNS


def split_of(product: Product) -> str:
    """`type` (a held-out type), `combination` (a held-out pair) or `seen`."""
    if product.type in HELD_TYPES:
        return "type"
    return "combination" if is_held(product.type, product.colour, product.pattern) else "seen"


def sample(rng: random.Random, split: str | None = None) -> Product:
    """Draw a product, from one split or (None) from the whole catalogue.

    Raises:
        DataError: unknown split.
    """
    if split is not None and split not in SPLITS:
        raise DataError(f"unknown split {split!r}; one of {', '.join(SPLITS)}, or None for all")
    while True:
        product_type = rng.choice(TYPES)
        product = Product(
            type=product_type,
            colour=rng.choice(COLOURS),
            pattern=rng.choice(PATTERNS),
            detail=rng.choice(DETAILS[product_type]),
            badge=rng.choice(BADGES) if rng.random() < _BADGE_RATE else "none",
            size=rng.choice(SIZES),
            background=rng.choice(BACKGROUNDS),
        )
        if split is None or split_of(product) == split:
            return product
