"""A few dozen captioned pictures, drawn here, whose captions are none of the catalogue's: one's own data, in small."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

from PIL import Image, ImageDraw

COUNTS = {"one": 1, "two": 2, "three": 3}
COLOURS = {"green": (40, 160, 70), "violet": (130, 60, 190), "orange": (240, 150, 30), "black": (20, 20, 20)}
SHAPES = ("triangle", "circle", "star", "cross")
SIDE = 48


def captioned(folder: Path) -> Path:
    """48 pictures in `pictures/`, and `photos.csv` with their captions; returns the table."""
    (folder / "pictures").mkdir(parents=True)
    rows = []
    for (word, count), (colour, rgb), shape in itertools.product(COUNTS.items(), COLOURS.items(), SHAPES):
        name = f"pictures/{word}-{colour}-{shape}.png"
        _picture(count, rgb, shape).save(folder / name)
        plural = "" if count == 1 else "es" if shape == "cross" else "s"
        rows.append((name, f"{word} {colour} {shape}{plural} above a grey line"))
    table = folder / "photos.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return table


def _picture(count: int, colour: tuple[int, int, int], shape: str) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    draw.line((4, 40, 44, 40), "grey", 2)
    for place in range(count):
        x, y, r = (place + 1) * SIDE // (count + 1), 20, 6
        if shape == "circle":
            draw.ellipse((x - r, y - r, x + r, y + r), colour)
        elif shape == "cross":
            draw.rectangle((x - r, y - 1, x + r, y + 1), colour)
            draw.rectangle((x - 1, y - r, x + 1, y + r), colour)
        else:
            draw.regular_polygon((x, y, r), 3, fill=colour)
            if shape == "star":
                draw.regular_polygon((x, y, r), 3, rotation=180, fill=colour)
    return image
