"""The plots of a study: a panel for what is varied, a line for each of its lines, 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scot_core.report.plots import INK, MUTED, OWN_COLOURS, STYLE, svg_of
from scot_core.studies.findings import ALL, Findings, Row

ACROSS = 3  # panels in a row
OVER = 4  # lines, whose names would hide the points
BESIDE = (("s", "--"), ("^", ":"), ("D", "-."))  # of methods beside the Combiner
APART = 0.09  # of the way from one name to the next, between points of several lines


def grid_plot(found: Findings) -> str:
    """Recall over all queries against what is varied; what no setting moves is a level line."""
    rows = _along(found) or found.rows
    panels = list(dict.fromkeys(row.panel for row in rows if row.panel))
    across = min(ACROSS, len(panels))
    level = [row for row in rows if not row.panel]
    with matplotlib.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(wspace=0.06, hspace=0.06)
        figure = Figure(figsize=(11, 0.4 + 3.1 * ceil(len(panels) / across)), layout=layout)
        axes: Any = list(figure.subplots(ceil(len(panels) / across), across, sharey=True, squeeze=False).flat)
        for panel, name in zip(axes, panels, strict=False):
            _panel(panel, [row for row in rows if row.panel == name], level)
            panel.set_title(name, loc="left", color=INK)
            panel.grid(axis="y")
            panel.tick_params(length=0)
        for place, panel in enumerate(axes):
            panel.set_visible(place < len(panels))
            if place % across == 0:
                panel.set_ylabel(f"{found.metric}, percent")
        if level:  # the same in every panel
            handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
            names = [row.name for row in level]
            figure.legend([handles[name] for name in names], names, loc="outside upper right", ncols=len(names))
        return svg_of(figure)


def _along(found: Findings) -> list[Row]:
    """The rows with the splits of a breakdown as the axis, and a line for each setting; none without such splits."""
    splits = [split for split in found.queries if split.startswith(f"{found.by}: ") and found.tells(split)]
    named = [(row, split) for row in found.rows for split in splits]
    return [
        replace(row, panel=found.by, line=row.name, x=split.partition(": ")[2], values={ALL: row.values[split]})
        for row, split in named
    ]


def _panel(panel: Any, rows: Sequence[Row], level: Sequence[Row]) -> None:
    names = list(dict.fromkeys(row.x for row in rows))
    numbers = [_number(name) for name in names]
    is_scale = all(number is not None for number in numbers) and len(numbers) > 1
    present = [number for number in numbers if number]
    is_wide = is_scale and len(present) > 1 and max(present) / min(present) >= 8
    places = {name: place for place, name in enumerate(names)}
    lines = list(dict.fromkeys(row.line for row in rows))
    for number, line in enumerate(lines):
        of_line = [row for row in rows if row.line == line]
        beside = APART * (number - (len(lines) - 1) / 2) if not is_scale else 0.0  # else one would hide the other
        xs = [float(_number(row.x) or 0) if is_scale and not is_wide else places[row.x] + beside for row in of_line]
        values = [row.values[ALL] for row in of_line]
        around = [[v.value - v.low for v in values], [v.high - v.value for v in values]]
        own = of_line[0].own
        mark, dash = ("o", "-") if own else BESIDE[number % len(BESIDE)]
        panel.errorbar(
            xs, [v.value for v in values], yerr=around, label=line or ("Combiner" if lines[1:] else None),
            marker=mark, markersize=5, elinewidth=1.6,
            linewidth=1.4 if is_scale else 0, color=OWN_COLOURS[number % len(OWN_COLOURS)] if own else MUTED,
            linestyle=dash,
        )  # fmt: skip
    for row in level:
        value = row.values[ALL]
        panel.axhline(value.value, color=MUTED, linewidth=1.2, linestyle="--", label=row.name)
        panel.axhspan(value.low, value.high, color=MUTED, alpha=0.12, linewidth=0)
    if is_scale and not is_wide:
        panel.set_xticks([number for number in numbers if number is not None], names)
    else:  # a place for each: numbers that grow by factors, or names
        turned = sum(map(len, names)) > 34
        turn: dict[str, Any] = {"rotation": 32, "ha": "right", "rotation_mode": "anchor", "fontsize": 9}
        panel.set_xticks(range(len(names)), names, **(turn if turned else {}))
        panel.set_xlim(-0.5, len(names) - 0.5)
    if len(lines) > 1:
        handles, labels = panel.get_legend_handles_labels()
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if len(lines) > OVER else {}
        panel.legend(handles[-len(lines) :], labels[-len(lines) :], fontsize=8.5, **place)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
