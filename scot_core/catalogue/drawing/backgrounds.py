"""The five backgrounds, each with its own jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from PIL import Image, ImageDraw, ImageFilter

from scot_core.catalogue.drawing.colours import WHITE, mix, near


def background(kind: str, side: int, rng: random.Random) -> Image.Image:
    """A square RGB image of one background, `side` pixels wide."""
    return _PAINTERS[kind](side, rng)


def _studio(side: int, rng: random.Random) -> Image.Image:
    wall = rng.randint(240, 252)
    floor = rng.randint(220, 232)
    horizon = rng.uniform(0.7, 0.8)
    # The soft edge between wall and floor needs few pixels: blur one narrow column, then stretch it.
    column = Image.new("L", (1, side), wall)
    column.paste(floor, (0, int(side * horizon), 1, side))
    column = column.filter(ImageFilter.GaussianBlur((0, side * 0.03)))
    return Image.merge("RGB", [column.resize((side, side), Image.Resampling.NEAREST)] * 3)


def _wood(side: int, rng: random.Random) -> Image.Image:
    base = near((196, 150, 100), rng)
    image = Image.new("RGB", (side, side), base)
    draw = ImageDraw.Draw(image)
    boards = rng.choice((4, 5, 6))
    height = side / boards
    offset = rng.uniform(0, height)
    grain, gap = mix(base, (90, 55, 25), 0.4), mix(base, (60, 35, 15), 0.7)
    for i in range(-1, boards + 1):
        y = offset + i * height
        draw.rectangle((0, y, side, y + height), fill=mix(base, (90, 55, 25), rng.uniform(0, 0.3)))
        draw.line((0, y, side, y), fill=gap, width=max(1, side // 90))
        for _ in range(3):
            line_y, x = y + rng.uniform(0.1, 0.9) * height, rng.uniform(0, 0.6) * side
            end = x + rng.uniform(0.2, 0.5) * side
            draw.line((x, line_y, end, line_y), fill=grain, width=max(1, side // 140))
    return image


def _brick(side: int, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", (side, side), near((205, 195, 185), rng))
    draw = ImageDraw.Draw(image)
    height = side / rng.choice((8, 9, 10))
    width = height * 2.3
    gap = max(1, side // 75)
    offset = rng.uniform(0, height)
    y, row = -offset, 0
    while y < side:
        x = -offset - (width / 2 if row % 2 else 0)
        while x < side:
            brick = mix((168, 92, 74), (120, 60, 50), rng.uniform(0, 0.6))
            draw.rectangle((x + gap, y + gap, x + width - gap, y + height - gap), fill=brick)
            x += width
        y += height
        row += 1
    return image


def _grass(side: int, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", (side, side), near((196, 224, 240), rng))
    draw = ImageDraw.Draw(image)
    horizon = side * rng.uniform(0.22, 0.34)
    base = near((124, 178, 82), rng)
    draw.rectangle((0, horizon, side, side), fill=base)
    blades = (mix(base, (60, 120, 40), 0.6), mix(base, (180, 215, 120), 0.6))
    for _ in range(90):
        x, y = rng.uniform(0, side), rng.uniform(horizon, side)
        length = side * rng.uniform(0.02, 0.05)
        tip = (x + rng.uniform(-0.3, 0.3) * length, y - length)
        draw.line((x, y, *tip), fill=rng.choice(blades), width=max(1, side // 110))
    return image


def _tiles(side: int, rng: random.Random) -> Image.Image:
    base = near((150, 196, 204), rng)
    image = Image.new("RGB", (side, side), mix(base, WHITE, 0.65))
    draw = ImageDraw.Draw(image)
    count = rng.choice((6, 7))
    step = side / count
    offset = rng.uniform(0, step)
    gap = max(1, side // 80)
    for i in range(-1, count + 1):
        for j in range(-1, count + 1):
            x, y = offset + i * step, offset + j * step
            tile = mix(base, WHITE, rng.uniform(0, 0.25))
            draw.rectangle((x + gap, y + gap, x + step - gap, y + step - gap), fill=tile)
    return image


_PAINTERS: Final[dict[str, Callable[[int, random.Random], Image.Image]]] = {
    "white": _studio,
    "wood": _wood,
    "brick": _brick,
    "grass": _grass,
    "tiles": _tiles,
}
