"""Outlines of what stands in a room: mug, vase, lamp, cushion."""

from __future__ import annotations

from scot_core.catalogue.drawing.geometry import Layer, Point, Shape, arc, mirrored, rectangle


def mug(detail: str) -> Shape:
    """A cylinder with its opening, and a handle on the right."""
    parts: list[Layer] = []
    if detail == "a round handle":
        ring = arc(0.52, 0.04, 0.42, 0.42, -90, 90) + arc(0.52, 0.04, 0.26, 0.26, 90, -90)
        parts.append(Layer(ring, "part"))
    if detail == "a square handle":
        outer = [(0.5, -0.38), (0.95, -0.38), (0.95, 0.46), (0.5, 0.46)]
        inner = [(0.5, 0.3), (0.78, 0.3), (0.78, -0.22), (0.5, -0.22)]
        parts.append(Layer(outer + inner, "part"))
    wall = [(-0.58, -0.66), (0.58, -0.66), (0.54, 0.68), *arc(0, 0.68, 0.54, 0.13, 0, 180), (-0.54, 0.68)]
    parts += [
        Layer(wall, "body"),
        Layer(arc(0, -0.66, 0.58, 0.15), "rim"),
        Layer(arc(0, -0.65, 0.5, 0.11), "inside"),
    ]
    return Shape(tuple(parts), badge=(-0.02, 0.1))


def vase(detail: str) -> Shape:
    """A bellied vase; its neck narrow, wide, or between two handles."""
    neck = {"a narrow neck": 0.12, "a wide neck": 0.44, "two handles": 0.22}[detail]
    handles: list[Layer] = []
    if detail == "two handles":
        ring = arc(0.42, -0.3, 0.32, 0.34) + arc(0.42, -0.3, 0.2, 0.22)[::-1]
        handles = [Layer(mirrored(ring), "part"), Layer(ring, "part")]
    side = [
        (neck + 0.05, -0.88),
        (neck, -0.74),
        (neck, -0.5),
        (neck + (0.58 - neck) * 0.45, -0.26),
        (0.56, 0.0),
        (0.6, 0.24),
        (0.54, 0.52),
        (0.4, 0.74),
        (0.34, 0.84),
    ]
    opening = (
        Layer(arc(0, -0.88, neck + 0.05, 0.07), "rim"),
        Layer(arc(0, -0.88, neck, 0.045), "inside"),
    )
    return Shape((*handles, Layer(side + mirrored(side), "body"), *opening), badge=(0, 0.22))


def lamp(detail: str) -> Shape:
    """A stand with a foot, and the shade."""
    shade: list[Point]
    if detail == "a cone shade":
        shade = [(-0.24, -0.82), (0.24, -0.82), (0.72, 0.26), (-0.72, 0.26)]
    elif detail == "a round shade":
        shade = arc(0, -0.26, 0.58, 0.58)
    else:
        shade = rectangle(-0.58, -0.76, 0.58, 0.26)
    stand = Layer(rectangle(-0.05, 0, 0.05, 0.8), "metal")
    foot = Layer(arc(0, 0.84, 0.42, 0.1), "metal")
    return Shape((stand, foot, Layer(shade, "body")), badge=(0, -0.2))


def cushion(detail: str) -> Shape:
    """Round, or square with drawn-in sides, with or without a fringe."""
    if detail == "round corners":
        return Shape((Layer(arc(0, 0, 0.84, 0.84), "body"),), badge=(0, 0))
    square = [
        (-0.78, -0.78), (0, -0.7), (0.78, -0.78), (0.7, 0), (0.78, 0.78), (0, 0.7), (-0.78, 0.78), (-0.7, 0),
    ]  # fmt: skip
    fringe: list[Layer] = []
    if detail == "fringed edges":
        for i in range(9):
            at = -0.72 + 0.18 * i
            for side in (-1, 1):
                tuft = [(at - 0.05, side * 0.69), (at + 0.05, side * 0.69), (at, side * 0.97)]
                fringe += [Layer(tuft, "strap"), Layer([(y, x) for x, y in tuft], "strap")]
    return Shape((*fringe, Layer(square, "body")), badge=(0, 0))
