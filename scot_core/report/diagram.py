"""A lineage as a diagram: boxes in columns and lanes, joined by arrows. Coordinates only; the template draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOX, GAP = (92, 56), (18, 16)  # width and height; the space between two boxes
CURVE = GAP[0] - 4  # the arrow's head takes the rest

Edges = Mapping[str, Sequence[str]]  # node to the nodes it is made from


@dataclass(frozen=True, slots=True)
class Box:
    """The upper left corner of one node."""

    name: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Diagram:
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    """SVG path data."""
    width: int
    height: int


def draw(edges: Edges) -> Diagram:
    """Lay out a graph without cycles; every input must be a node itself.

    The longest chain fills the first lane, the next longest of what is left the second, and so on. An arrow that
    follows from others is left out.
    """
    needed = _reduced(edges)
    column = {name: _depth(name, needed) for name in edges}
    lane = {name: number for number, chain in enumerate(_chains(needed, column)) for name in chain}
    step = (BOX[0] + GAP[0], BOX[1] + GAP[1])
    place = {name: (column[name] * step[0], lane[name] * step[1]) for name in edges}
    arrows = [_arrow(place[start], place[end]) for end, starts in needed.items() for start in starts]
    return Diagram(
        boxes=tuple(Box(name, *place[name]) for name in edges),
        arrows=tuple(arrows),
        width=max(column.values()) * step[0] + BOX[0],
        height=max(lane.values()) * step[1] + BOX[1],
    )


def _ancestors(name: str, edges: Edges) -> set[str]:
    return {name}.union(*(_ancestors(start, edges) for start in edges[name]))


def _reduced(edges: Edges) -> dict[str, list[str]]:
    """Without the edges that a longer way already stands for."""
    return {
        end: [s for s in dict.fromkeys(starts) if not any(s in _ancestors(o, edges) for o in starts if o != s)]
        for end, starts in edges.items()
    }


def _depth(name: str, edges: Edges) -> int:
    return max((1 + _depth(start, edges) for start in edges[name]), default=0)


def _chains(edges: Edges, column: Mapping[str, int]) -> list[list[str]]:
    """Chains that hold every node once: the longest first, then those that branch off, then those of their own."""
    left = sorted(edges, key=lambda name: column[name])
    chains: list[list[str]] = []
    while left:
        best: dict[str, list[str]] = {}
        for name in left:  # inputs stand in earlier columns, so they have their chain already
            before = max((best[start] for start in edges[name] if start in best), key=len, default=[])
            best[name] = [*before, name]
        chain = max(best.values(), key=len)
        chains.append(chain)
        left = [name for name in left if name not in chain]
    return [chains[0], *sorted(chains[1:], key=lambda chain: not edges[chain[0]])]


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """From the right side of one box to the left side of another, along the lower of the two lanes."""
    x, y = start[0] + BOX[0], start[1] + BOX[1] // 2
    to_x, to_y = end[0] - 4, end[1] + BOX[1] // 2
    if y == to_y:
        return f"M{x} {y}H{to_x}"
    if y < to_y:
        return f"M{x} {y}{_bend(x, y, to_y)}H{to_x}"
    return f"M{x} {y}H{to_x - CURVE}{_bend(to_x - CURVE, y, to_y)}"


def _bend(x: int, y: int, to_y: int) -> str:
    middle = x + CURVE // 2
    return f"C{middle} {y} {middle} {to_y} {x + CURVE} {to_y}"
