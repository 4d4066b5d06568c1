"""The report's plots as SVG, drawn by matplotlib without a display; the same data give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scot_core.benchmarks.reported import Line
from scot_core.report.results import Results, label

INK, MUTED, GRID, ACCENT = "#1c2430", "#667080", "#e3e7ec", "#1f5fbf"
OWN_COLOURS = (ACCENT, "#d1782b", "#3b8f6b", "#8457a8", "#b23a5c", "#12939a", "#c19a1b", "#7a5c43")
# Widths are those of the widest font a reader may have; the page's own fonts are named in its place.
MEASURED, FONTS = (
    "DejaVu Sans",
    "Inter, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif",
)
STYLE: Any = {
    "svg.fonttype": "none",  # letters stay letters: small, and in the reader's own font
    "svg.hashsalt": "scot",
    "font.family": MEASURED,
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "legend.frameon": False,
}
Curve = Sequence[tuple[int, float]]


def benchmark_plot(results: Results) -> str:
    """R@1 of every method with its interval, a panel for each split."""
    with matplotlib.rc_context(STYLE):
        methods = results.methods
        figure = Figure(figsize=(11, 0.9 + 0.34 * len(methods)), layout=ConstrainedLayoutEngine(wspace=0.06))
        panels: Any = figure.subplots(1, len(results.splits), sharex=True, sharey=True, squeeze=False)[0]
        for panel, split in zip(panels, results.splits, strict=True):
            panel.set_title(f"{split}  ({results.queries[split]:,} queries)", loc="left", color=INK)
            for place, method in enumerate(methods):
                cell = results.cell(method, split)
                colour = ACCENT if method == results.own else MUTED
                line = {"color": colour, "solid_capstyle": "round", "clip_on": False, "zorder": 3}
                panel.plot([cell.low, cell.high], [place, place], linewidth=2.2, **line)
                panel.plot([cell.value], [place], "o", markersize=6.5, **line)
            panel.set_yticks(range(len(methods)), [label(method) for method in methods], color=INK)
            panel.set_ylim(len(methods) - 0.5, -0.5)
            panel.set_xlim(0, 100)
            panel.set_xticks(range(0, 101, 25))
            panel.set_xlabel(f"{results.main}, percent")
            panel.grid(axis="x")
            panel.tick_params(length=0)
            panel.tick_params(axis="y", pad=9)
        return svg_of(figure)


def gains_plot(lines: Sequence[Line], metric: str) -> str | None:
    """Figure 5: points over text-only on the same encoder, a bar for each method; None where nothing has any."""
    shown = [line for line in lines if metric in line.gains and not line.is_text_only]
    if not shown:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 0.9 + 0.3 * len(shown)), layout="constrained")
        panel: Any = figure.subplots()
        gains = [line.gains[metric] for line in shown]
        colours = [ACCENT if line.measured else "#b9c1cb" for line in shown]
        bars = panel.barh(range(len(shown)), gains, height=0.62, color=colours)
        panel.bar_label(bars, [f"{gain:+.1f}" for gain in gains], padding=4, color=INK)
        panel.set_yticks(range(len(shown)), [f"{label(line.method)}, {line.encoder}" for line in shown], color=INK)
        panel.set_ylim(len(shown) - 0.5, -0.5)
        panel.axvline(0, color=MUTED, linewidth=1)
        panel.margins(x=0.14)
        panel.set_xlabel(f"points of {metric} over text-only (measured: blue)")
        panel.grid(axis="x")
        panel.tick_params(length=0)
        return svg_of(figure)


def curve_plot(curves: Mapping[str, Curve], y_label: str) -> str:
    """Curves over training steps, one colour each; named where there are several."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 2.7), layout="constrained")
        panel: Any = figure.subplots()
        for number, (name, curve) in enumerate(curves.items()):
            steps, values = zip(*curve, strict=True)
            panel.plot(steps, values, color=OWN_COLOURS[number % len(OWN_COLOURS)], linewidth=1.4, label=name)
        panel.set_xlabel("step")
        panel.set_ylabel(y_label)
        panel.grid()
        panel.tick_params(length=0)
        if len(curves) > 1:
            panel.legend()
        return svg_of(figure)


def svg_of(figure: Figure) -> str:
    """The figure as SVG, the same bytes each time."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue().replace(f"'{MEASURED}'", FONTS)
