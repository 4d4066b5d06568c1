"""Rendering of a product: background, shadow, parts, badge, light."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw, ImageFilter

from scot_core.catalogue.drawing import badge
from scot_core.catalogue.drawing.backgrounds import background
from scot_core.catalogue.drawing.colours import PALETTE, RGB, near, shades
from scot_core.catalogue.drawing.geometry import Outline, Placement, Shape
from scot_core.catalogue.drawing.patterns import texture
from scot_core.catalogue.drawing.shapes import shape_of
from scot_core.catalogue.world import Product
from scot_core.errors import DataError

_SUPERSAMPLING: Final = 2
_SMALLEST: Final = 16


def draw_png(product: Product, size: int, seed: int) -> bytes:
    """The PNG file of one drawn product. It stands here, where little is imported, for processes that only draw."""
    buffer = io.BytesIO()
    render(product, size, seed).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def render(p: Product, size: int = 64, seed: int = 0) -> Image.Image:
    """Draw a product.

    Place, angle, tint, light and the details of the background vary with the seed. The same product, size
    and seed give the same pixels.

    Args:
        p: what to draw.
        size: width and height in pixels, at least 16.
        seed: of the variation.

    Returns:
        An RGB image of size x size.

    Raises:
        DataError: `size` below 16.
    """
    if size < _SMALLEST:
        raise DataError(f"a product cannot be drawn {size} pixels wide; at least {_SMALLEST}")
    rng = random.Random(seed)
    side = size * _SUPERSAMPLING
    canvas = background(p.background, side, rng)
    base = near(PALETTE[p.colour], rng, spread=8, gain=(0.93, 1.05))
    placement = _place(p, side, rng)
    shape = shape_of(p.type, p.detail)
    outlines = [placement.pixels(part.outline) for part in shape.parts]
    _cast_shadow(canvas, outlines)
    pitch = side * 0.115 * (1.0 if p.size == "large" else 0.72)
    pattern = _turned(p.pattern, base, pitch, placement, rng)
    _paint_parts(canvas, shape, outlines, placement, pattern, shades(base))
    if p.badge != "none":
        _paint_badge(canvas, p.badge, shape, placement)
    _light(canvas, rng)
    return canvas.reduce(_SUPERSAMPLING)


def _place(p: Product, side: int, rng: random.Random) -> Placement:
    scale = (rng.uniform(0.44, 0.50) if p.size == "small" else rng.uniform(0.74, 0.82)) * side / 2
    room = min(side / 2 - scale * 0.98, 0.16 * side) * 0.8
    return Placement(
        x=side / 2 + rng.uniform(-1, 1) * room,
        y=side / 2 + rng.uniform(-0.3, 1) * room,
        scale=scale,
        angle=rng.uniform(-8, 8),
        mirrored=rng.random() < 0.3,
    )


def _cast_shadow(canvas: Image.Image, outlines: Sequence[Outline]) -> None:
    side = canvas.width
    # A blurred mask loses nothing at half the resolution.
    mask = Image.new("L", (side // 2, side // 2), 0)
    draw = ImageDraw.Draw(mask)
    for outline in outlines:
        draw.polygon([(x / 2 + side * 0.01, y / 2 + side * 0.0175) for x, y in outline], fill=105)
    mask = mask.filter(ImageFilter.GaussianBlur(side * 0.009))
    canvas.paste((30, 28, 30), mask=mask.resize(canvas.size, Image.Resampling.BILINEAR))


def _turned(kind: str, base: RGB, pitch: float, placement: Placement, rng: random.Random) -> Image.Image:
    """The texture, turned with the product and large enough to cover it."""
    side = int(placement.scale * 2.5)
    return texture(kind, base, side, pitch, rng).rotate(-placement.angle, fillcolor=base)


def _paint_parts(
    canvas: Image.Image,
    shape: Shape,
    outlines: Sequence[Outline],
    placement: Placement,
    pattern: Image.Image,
    colours: dict[str, RGB],
) -> None:
    draw = ImageDraw.Draw(canvas)
    left, top = (round(centre - pattern.width / 2) for centre in (placement.x, placement.y))
    for part, outline in zip(shape.parts, outlines, strict=True):
        if part.role == "body":
            mask = Image.new("L", pattern.size, 0)
            ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in outline], fill=255)
            canvas.paste(pattern, (left, top), mask)
        else:
            draw.polygon(outline, fill=colours[part.role])
        _contour(draw, outline, colours["outline"])


def _paint_badge(canvas: Image.Image, kind: str, shape: Shape, placement: Placement) -> None:
    draw = ImageDraw.Draw(canvas)
    disc = placement.pixels(badge.disc(shape.badge))
    draw.polygon(disc, fill=badge.DISC_COLOUR)
    _contour(draw, disc, badge.DISC_OUTLINE)
    draw.polygon(placement.pixels(badge.figure(kind, shape.badge)), fill=badge.COLOURS[kind])


def _contour(draw: ImageDraw.ImageDraw, outline: Outline, colour: RGB) -> None:
    width = max(1, draw.im.size[0] // 90)
    draw.line([*outline, outline[0]], fill=colour, width=width)


@lru_cache(maxsize=32)
def _gradient(side: int, angle: int) -> Image.Image:
    gradient = Image.linear_gradient("L").rotate(angle).resize((side, side))
    return gradient.point([int(level * 0.16) for level in range(256)])


def _light(canvas: Image.Image, rng: random.Random) -> None:
    gradient = _gradient(canvas.width, rng.choice((0, 90, 180, 270)))
    canvas.paste((0, 0, 0) if rng.random() < 0.6 else (255, 250, 235), mask=gradient)
