"""The shape of every product type and detail."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from scot_core.catalogue.drawing import bags, garments, household
from scot_core.catalogue.drawing.geometry import Shape

_FAMILIES: Final[dict[str, Callable[[str], Shape]]] = {
    "t-shirt": garments.t_shirt,
    "dress": garments.dress,
    "beanie": garments.beanie,
    "sneaker": garments.sneaker,
    "tote bag": bags.tote_bag,
    "backpack": bags.backpack,
    "mug": household.mug,
    "vase": household.vase,
    "lamp": household.lamp,
    "cushion": household.cushion,
}


@cache
def shape_of(product_type: str, detail: str) -> Shape:
    """The parts of a product, in product coordinates."""
    return _FAMILIES[product_type](detail)
