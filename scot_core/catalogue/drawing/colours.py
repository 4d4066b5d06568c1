"""Colours: the palette of the catalogue, mixing, and the shades a product's parts take."""

from __future__ import annotations

import random
from typing import Final

RGB = tuple[int, int, int]

PALETTE: Final[dict[str, RGB]] = {
    "red": (200, 38, 44),
    "orange": (240, 132, 32),
    "yellow": (245, 208, 60),
    "green": (52, 140, 70),
    "blue": (44, 92, 190),
    "purple": (122, 62, 160),
    "pink": (242, 150, 180),
    "brown": (122, 78, 48),
    "black": (38, 38, 44),
    "white": (240, 240, 236),
}
BLACK: Final[RGB] = (0, 0, 0)
WHITE: Final[RGB] = (255, 255, 255)


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """A colour between two, `share` of the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def luminance(colour: RGB) -> float:
    """Perceived brightness, 0 to 255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def near(colour: RGB, rng: random.Random, spread: float = 10, gain: tuple[float, float] = (1, 1)) -> RGB:
    """The colour under slightly other light: each channel by a random gain and offset."""
    red, green, blue = (
        max(0, min(255, int(channel * rng.uniform(*gain) + rng.uniform(-spread, spread)))) for channel in colour
    )
    return red, green, blue


def shades(base: RGB) -> dict[str, RGB]:
    """Role of a part to its colour, for a product of one base colour; `outline` for its contours."""
    dark = luminance(base) <= 60  # on a near-black product, what is usually darker must be lighter
    part = mix(base, WHITE, 0.18) if dark else mix(base, BLACK, 0.28)
    return {
        "part": part,
        "strap": part,
        "trim": mix(part, BLACK, 0.15),
        "inside": mix(base, (20, 15, 10), 0.72),
        "rim": mix(base, WHITE, 0.3),
        "pompom": mix(base, WHITE, 0.35),
        "metal": (150, 140, 128),
        "sole": (236, 232, 224),
        "lace": (250, 250, 248),
        "outline": mix(base, WHITE, 0.3) if dark else mix(base, BLACK, 0.5),
    }
