"""Outlines in product coordinates: the product fills about [-1, 1] x [-1, 1], y grows downwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Point = tuple[float, float]
Outline = Sequence[Point]


class Layer(NamedTuple):
    """A filled outline; the role decides its colour (`body` carries the pattern)."""

    outline: Outline
    role: str


@dataclass(frozen=True)
class Shape:
    """Parts in the order they are painted, and where the badge sits."""

    parts: tuple[Layer, ...]
    badge: Point


def arc(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360, steps: int = 28) -> list[Point]:
    """Points on an ellipse around (x, y), from one angle to another in degrees, clockwise as seen."""
    angles = (math.radians(start + (end - start) * i / steps) for i in range(steps + 1))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def mirrored(outline: Iterable[Point]) -> list[Point]:
    """The outline on the other side of the vertical axis, in reverse order."""
    return [(-x, y) for x, y in outline][::-1]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """The four corners."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


@dataclass(frozen=True)
class Placement:
    """Where and how a product stands on the canvas: product coordinates to pixels."""

    x: float
    y: float
    scale: float
    angle: float  # degrees, clockwise as seen
    mirrored: bool

    def pixels(self, outline: Outline) -> list[Point]:
        """The outline in pixels of the canvas."""
        cos, sin = (self.scale * f(math.radians(self.angle)) for f in (math.cos, math.sin))
        flip = -1 if self.mirrored else 1
        return [(self.x + flip * x * cos - y * sin, self.y + flip * x * sin + y * cos) for x, y in outline]
