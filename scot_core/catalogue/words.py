"""Words for the catalogue's values that no caption of the lake, and no modification text of it, uses.

The encoder meets them in captions of its pretraining, as a published encoder has met most words; nobody who writes
triplets knows them. Queries of the benchmark ask in them (`scot_core.catalogue.wordings`).
"""

from __future__ import annotations

from typing import Final

NEW_WORDS: Final[dict[str, dict[str, str]]] = {
    "type": {
        "t-shirt": "jersey",
        "dress": "frock",
        "tote bag": "carrier",
        "backpack": "schoolbag",
        "mug": "beaker",
        "vase": "urn",
        "sneaker": "shoe",
        "beanie": "bonnet",
        "lamp": "lantern",
        "cushion": "bolster",
    },
    "colour": {
        "red": "crimson",
        "orange": "tangerine",
        "yellow": "golden",
        "green": "emerald",
        "blue": "navy",
        "purple": "violet",
        "pink": "rose",
        "brown": "chocolate",
        "black": "ebony",
        "white": "ivory",
    },
    "pattern": {
        "plain": "unpatterned",
        "striped": "lined",
        "polka dot": "spotted",
        "checked": "tartan",
        "zigzag": "herringbone",
        "floral": "blossomed",
    },
    "detail": {
        "sleeveless": "bare arms",
        "short sleeves": "half sleeves",
        "long sleeves": "full length sleeves",
        "short handles": "stubby handles",
        "long handles": "extended handles",
        "a single strap": "one sling",
        "a front pocket": "a pouch in front",
        "side pockets": "pouches on both sides",
        "two buckles": "a pair of clasps",
        "a round handle": "a curved handle",
        "a square handle": "a boxy handle",
        "no handle": "nothing to hold it by",
        "a narrow neck": "a slim throat",
        "a wide neck": "a broad throat",
        "two handles": "a pair of grips",
        "a low top": "a low cut",
        "a high top": "a high cut",
        "a platform sole": "a thick sole",
        "a pompom": "a bobble",
        "a folded cuff": "a turned up brim",
        "ear flaps": "ear covers",
        "a cone shade": "a pointed shade",
        "a round shade": "a globe shade",
        "a box shade": "a cubic shade",
        "round corners": "curved corners",
        "square corners": "sharp corners",
        "fringed edges": "tasselled edges",
    },
    "badge": {"none": "no logo", "star": "a star logo", "heart": "a heart logo", "moon": "a moon logo"},
    "size": {"small": "tiny", "large": "huge"},
    "background": {
        "white": "before a pale backdrop",
        "wood": "on a timber desk",
        "brick": "before some masonry",
        "grass": "in a meadow",
        "tiles": "on ceramic flooring",
    },
}
