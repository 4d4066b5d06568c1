"""The six patterns, as textures in a product's base colour."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from PIL import Image, ImageDraw

from scot_core.catalogue.drawing.colours import RGB, WHITE, luminance, mix


class _Ink(NamedTuple):
    base: RGB
    second: RGB
    accent: RGB


def texture(kind: str, base: RGB, side: int, pitch: float, rng: random.Random) -> Image.Image:
    """A square RGB texture.

    Args:
        kind: the pattern.
        base: the product's colour; the pattern's second colour follows from it.
        side: width and height in pixels.
        pitch: distance of two stripes in pixels; the other patterns are multiples of it.
        rng: shifts the pattern.
    """
    light = luminance(base) > 140
    second = mix(base, (60, 50, 70), 0.55) if light else mix(base, WHITE, 0.72)
    ink = _Ink(base, second, accent=(200, 70, 90) if light else (250, 205, 70))
    image = Image.new("RGB", (side, side), base)
    offset = rng.uniform(0, pitch)
    if kind != "plain":
        _PAINTERS[kind](ImageDraw.Draw(image), side, pitch, offset, ink)
    return image


def _steps(side: int, pitch: float, offset: float) -> list[float]:
    return [offset + i * pitch for i in range(-2, int(side / pitch) + 2)]


def _staggered(side: int, pitch: float, row_pitch: float, offset: float) -> Iterator[tuple[float, float]]:
    for row in range(-1, int(side / row_pitch) + 2):
        shift = pitch / 2 if row % 2 else 0
        for column in range(-1, int(side / pitch) + 2):
            yield column * pitch + shift + offset, row * row_pitch + offset


def _dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: RGB) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _striped(draw: ImageDraw.ImageDraw, side: int, pitch: float, offset: float, ink: _Ink) -> None:
    for y in _steps(side, pitch, offset):
        draw.rectangle((0, y, side, y + pitch * 0.45), fill=ink.second)


def _polka_dot(draw: ImageDraw.ImageDraw, side: int, pitch: float, offset: float, ink: _Ink) -> None:
    for x, y in _staggered(side, pitch, pitch * 0.9, offset):
        _dot(draw, x, y, pitch * 0.27, ink.second)


def _checked(draw: ImageDraw.ImageDraw, side: int, pitch: float, offset: float, ink: _Ink) -> None:
    pitch *= 1.15
    half = mix(ink.base, ink.second, 0.5)
    steps = _steps(side, pitch, offset)
    for y in steps:
        draw.rectangle((0, y, side, y + pitch * 0.5), fill=half)
    for x in steps:
        draw.rectangle((x, 0, x + pitch * 0.5, side), fill=half)
        for y in steps:
            draw.rectangle((x, y, x + pitch * 0.5, y + pitch * 0.5), fill=ink.second)


def _zigzag(draw: ImageDraw.ImageDraw, side: int, pitch: float, offset: float, ink: _Ink) -> None:
    for y in _steps(side, pitch, offset):
        points = [(i * pitch * 0.5, y + (pitch * 0.55 if i % 2 else 0)) for i in range(int(side / pitch * 2) + 3)]
        draw.line(points, fill=ink.second, width=max(1, int(pitch * 0.3)), joint="curve")


def _floral(draw: ImageDraw.ImageDraw, side: int, pitch: float, offset: float, ink: _Ink) -> None:
    pitch *= 1.6
    radius = pitch * 0.17
    angles = [math.radians(72 * i - 90) for i in range(5)]
    petals = [(radius * 1.15 * math.cos(a), radius * 1.15 * math.sin(a)) for a in angles]
    for x, y in _staggered(side, pitch, pitch * 0.8, offset):
        for dx, dy in petals:
            _dot(draw, x + dx, y + dy, radius * 0.8, ink.second)
        _dot(draw, x, y, radius * 0.6, ink.accent)


_Painter = Callable[[ImageDraw.ImageDraw, int, float, float, _Ink], None]
_PAINTERS: Final[dict[str, _Painter]] = {
    "striped": _striped,
    "polka dot": _polka_dot,
    "checked": _checked,
    "zigzag": _zigzag,
    "floral": _floral,
}
