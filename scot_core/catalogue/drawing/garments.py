"""Outlines of what is worn: t-shirt, dress, beanie, sneaker."""

from __future__ import annotations

import math

from scot_core.catalogue.drawing.geometry import Layer, Outline, Shape, arc, mirrored, rectangle


def _sleeves(detail: str, short: Outline, long: Outline) -> list[Layer]:
    if detail == "sleeveless":
        return []
    sleeve = short if detail == "short sleeves" else long
    return [Layer(sleeve, "part"), Layer(mirrored(sleeve), "part")]


def t_shirt(detail: str) -> Shape:
    """Crew neck, straight cut."""
    sleeves = _sleeves(
        detail,
        short=[(-0.42, -0.72), (-0.95, -0.32), (-0.72, -0.02), (-0.40, -0.28)],
        long=[(-0.42, -0.72), (-0.66, -0.5), (-0.98, 0.62), (-0.72, 0.70), (-0.40, -0.10)],
    )
    shoulder = 0.30 if detail == "sleeveless" else 0.46
    side = [(shoulder, -0.74), (0.46, -0.38), (0.48, 0.82)]
    neck = arc(0, -0.8, 0.2, 0.2, 180, 0, 10)
    collar = arc(0, -0.8, 0.22, 0.22, 180, 0, 10) + arc(0, -0.8, 0.17, 0.15, 0, 180, 10)
    body = [(-shoulder, -0.74), (-0.2, -0.8), *neck, *side, *mirrored(side[1:])]
    return Shape((*sleeves, Layer(body, "body"), Layer(collar, "trim")), badge=(0, -0.02))


def dress(detail: str) -> Shape:
    """V neck, belt, wide skirt with a wavy hem."""
    sleeves = _sleeves(
        detail,
        short=[(-0.28, -0.82), (-0.66, -0.52), (-0.5, -0.3), (-0.26, -0.5)],
        long=[(-0.28, -0.82), (-0.46, -0.68), (-0.86, 0.24), (-0.66, 0.32), (-0.26, -0.4)],
    )
    shoulder = 0.2 if detail == "sleeveless" else 0.3
    side = [(0.12, -0.9), (shoulder, -0.86), (0.3, -0.5), (0.24, -0.14), (0.78, 0.84)]
    hem = [(0.78 - 0.156 * i, 0.84 + 0.05 * math.sin(i * math.pi / 2)) for i in range(1, 10)]
    belt = [(-0.25, -0.18), (0.25, -0.18), (0.26, -0.06), (-0.26, -0.06)]
    body = [(0, -0.66), *side, *hem, *mirrored(side)]
    return Shape((*sleeves, Layer(body, "body"), Layer(belt, "trim")), badge=(0, 0.36))


def beanie(detail: str) -> Shape:
    """A dome with a band, a cuff, flaps or a pompom."""
    behind: list[Layer] = []
    front = [Layer(rectangle(-0.72, 0.34, 0.72, 0.46), "trim")]
    if detail == "ear flaps":
        flap = [(0.68, 0.3), (0.34, 0.3), (0.44, 0.78), (0.6, 0.8)]
        tie = [(0.5, 0.78), (0.54, 0.78), (0.56, 1.0), (0.5, 1.0)]
        right = [Layer(flap, "part"), Layer(tie, "strap")]
        behind = right + [Layer(mirrored(outline), role) for outline, role in right]
    elif detail == "a pompom":
        behind = [Layer(arc(0, -0.72, 0.24, 0.24), "pompom")]
    else:
        front = [
            Layer(rectangle(-0.78, 0.16, 0.78, 0.6), "part"),
            Layer(rectangle(-0.78, 0.16, 0.78, 0.2), "trim"),
        ]
    dome = [*arc(0, 0.3, 0.72, 0.92, 180, 360), (0.72, 0.4), (-0.72, 0.4)]
    return Shape((*behind, Layer(dome, "body"), *front), badge=(0, -0.1))


def sneaker(detail: str) -> Shape:
    """Seen from the side, toe to the right."""
    top = -0.78 if detail == "a high top" else -0.34
    sole = 0.56 + (0.34 if detail == "a platform sole" else 0.16)
    instep = [(-0.34, top - 0.04), (-0.2, -0.16), (0.3, 0.1), (0.78, 0.22), (0.92, 0.46)]
    body = [(-0.86, top), *instep, (0.92, 0.56), (-0.88, 0.56), (-0.9, 0.1)]
    parts = [
        Layer(body, "body"),
        Layer([(-0.9, 0.52), (0.9, 0.5), (0.97, 0.58), (0.95, sole), (-0.9, sole), (-0.94, 0.6)], "sole"),
        Layer([*arc(0.72, 0.42, 0.22, 0.2, 180, 370), (0.5, 0.54)], "part"),
    ]
    for i in range(3):
        x, y = -0.12 + 0.14 * i, -0.10 + 0.075 * i
        lace = [(x - 0.10, y + 0.05), (x + 0.06, y - 0.02), (x + 0.08, y + 0.03), (x - 0.08, y + 0.10)]
        parts.append(Layer(lace, "lace"))
    if detail == "a high top":
        cuff = [(-0.86, top), (-0.34, top - 0.04), (-0.31, top + 0.08), (-0.865, top + 0.12)]
        parts.append(Layer(cuff, "trim"))
    return Shape(tuple(parts), badge=(-0.5, 0.16))
