"""The badge: a pale disc with a star, a heart or a moon."""

from __future__ import annotations

import math
from typing import Final

from scot_core.catalogue.drawing.colours import RGB
from scot_core.catalogue.drawing.geometry import Point, arc

DISC_COLOUR: Final[RGB] = (252, 250, 244)
DISC_OUTLINE: Final[RGB] = (90, 84, 80)
COLOURS: Final[dict[str, RGB]] = {"star": (226, 164, 20), "heart": (206, 30, 60), "moon": (40, 60, 120)}
_DISC_RADIUS: Final = 0.36
_RADIUS: Final = 0.27


def disc(centre: Point) -> list[Point]:
    """Outline of the disc around a point, in product coordinates."""
    return arc(*centre, _DISC_RADIUS, _DISC_RADIUS)


def figure(kind: str, centre: Point) -> list[Point]:
    """Outline of the star, heart or moon around a point, in product coordinates."""
    x, y = centre
    if kind == "moon":
        outer = arc(x, y, _RADIUS * 0.95, _RADIUS * 0.95, 50, 310)
        return outer + arc(x + _RADIUS * 0.42, y, _RADIUS * 0.72, _RADIUS * 0.72, 290, 70)
    unit = _star() if kind == "star" else _heart()
    return [(x + _RADIUS * u, y + _RADIUS * v) for u, v in unit]


def _star() -> list[Point]:
    radii = (1.0, 0.42) * 5
    return [(r * math.sin(math.pi * i / 5), -r * math.cos(math.pi * i / 5)) for i, r in enumerate(radii)]


def _heart() -> list[Point]:
    angles = [2 * math.pi * i / 26 for i in range(26)]
    return [
        (
            0.062 * 16 * math.sin(a) ** 3,
            -0.062 * (13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)),
        )
        for a in angles
    ]
