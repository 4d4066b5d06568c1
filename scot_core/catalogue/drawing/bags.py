"""Outlines of what is carried: tote bag, backpack."""

from __future__ import annotations

from scot_core.catalogue.drawing.geometry import Layer, Outline, Shape, arc, rectangle


def _loop(x: float, y: float, width: float, height: float, thickness: float) -> Outline:
    """A strap in the form of an arch standing on height y."""
    outer = arc(x, y, width, height, 180, 360)
    return outer + arc(x, y, width - thickness, height - thickness, 360, 180)


def tote_bag(detail: str) -> Shape:
    """A tapered bag with a hem, two handles or one strap."""
    if detail == "a single strap":
        straps = [Layer(_loop(0, -0.2, 0.5, 0.76, 0.13), "strap")]
    else:
        height = 0.34 if detail == "short handles" else 0.72
        straps = [Layer(_loop(x, -0.18, 0.22, height, 0.1), "strap") for x in (-0.24, 0.24)]
    body = [(-0.66, -0.2), (0.66, -0.2), (0.6, 0.86), (-0.6, 0.86)]
    hem = [(-0.66, -0.2), (0.66, -0.2), (0.655, -0.08), (-0.655, -0.08)]
    return Shape((*straps, Layer(body, "body"), Layer(hem, "trim")), badge=(0, 0.36))


def backpack(detail: str) -> Shape:
    """A rounded bag with a zip; pockets or buckles."""
    parts = [Layer(_loop(0, -0.78, 0.2, 0.2, 0.08), "strap")]
    if detail == "side pockets":
        parts += [Layer(arc(x, 0.42, 0.22, 0.34), "part") for x in (-0.62, 0.62)]
    body = [
        *arc(0, -0.26, 0.58, 0.58, 180, 360),
        (0.62, 0.7),
        *arc(0.5, 0.7, 0.12, 0.16, 0, 90, 6),
        *arc(-0.5, 0.7, 0.12, 0.16, 90, 180, 6),
    ]
    parts.append(Layer(body, "body"))
    parts.append(Layer([(-0.56, -0.36), (0.56, -0.36), (0.575, -0.29), (-0.575, -0.29)], "trim"))
    if detail == "a front pocket":
        parts.append(Layer(rectangle(-0.42, 0.30, 0.42, 0.72), "part"))
        parts.append(Layer(rectangle(-0.42, 0.30, 0.42, 0.37), "trim"))
    if detail == "two buckles":
        for x in (-0.3, 0.3):
            parts.append(Layer(rectangle(x - 0.07, -0.3, x + 0.07, 0.5), "strap"))
            parts.append(Layer(rectangle(x - 0.11, 0.3, x + 0.11, 0.46), "metal"))
    return Shape(tuple(parts), badge=(0, 0.02))
