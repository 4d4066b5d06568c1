"""What a person sees in the terminal: progress with rate and time left, and tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from scot_core.paper import main_metric
from scot_core.stages.progress import Progress as Reading
from scot_core.stages.step import Work

if TYPE_CHECKING:  # loads torch, which `scot query` has no use for
    from scot.plan import Plan
    from scot_core.benchmarks.reported import Line

CELL_WIDTH = 60


class Bars:
    """One bar for each step while it runs, one line for it afterwards."""

    every_s = 0.2

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("  {task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>12}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._last: dict[str, Reading] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, step: Work, total: int) -> None:
        self._tasks[step.name] = self._progress.add_task(step.name, total=total, rate="")

    def update(self, progress: Reading) -> None:
        self._last[progress.name] = progress
        rate = (
            f"{progress.rate:,.0f} {progress.unit}/s"
            if progress.rate >= 10
            else f"{progress.rate:.1f} {progress.unit}/s"
        )
        self._progress.update(self._tasks[progress.name], completed=progress.done, rate=rate)

    def end(self, step: Work, cached: bool) -> None:
        if step.name in self._tasks:
            self._progress.remove_task(self._tasks.pop(step.name))
        last = self._last.get(step.name)
        if cached:
            what = "[dim]Cached[/dim]"
        elif last is None:
            what = "done"
        else:
            what = f"{last.done:>7,} {last.unit} in {last.seconds:,.1f} s"
        self._console.print(f"  [green]✓[/green] {step.stage:<9} {step.name:<32} {what}", highlight=False)


def show_table(console: Console, table: pa.Table, title: str | None = None) -> None:
    """Print an Arrow table; long cells are cut, bytes are named by their size."""
    shown = Table(title=None if title is None else escape(title), title_justify="left", header_style="bold")
    for field in table.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        shown.add_column(escape(field.name), justify="right" if number else "left")
    for row in table.to_pylist():
        shown.add_row(*(escape(_cell(value)) for value in row.values()))
    console.print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.1f}"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(item)}" for key, item in value.items())
    text = str(value)
    return text if len(text) <= CELL_WIDTH else f"{text[: CELL_WIDTH - 1]}…"


def benchmark_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The benchmark's main metric: methods down, splits across; each cell a value and its 95 % interval, in percent."""
    metric = main_metric(rows[0]["benchmark"])
    splits = list(dict.fromkeys(row["split"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(r["method"], r["split"]): r for r in rows if r["metric"] == metric}
    benchmark = rows[0]["benchmark"]
    table = Table(
        title=f"{metric} on {benchmark}, percent (95 % interval over queries)",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("method")
    for split in splits:
        table.add_column(split, justify="right")
    best = {s: max(cells[m, s]["value"] for m in methods if (m, s) in cells) for s in splits}
    for method in methods:
        values = []
        for split in splits:
            cell = cells.get((method, split))
            if cell is None:
                values.append("")
                continue
            text = f"{cell['value']:.1f} ({cell['low']:.1f}-{cell['high']:.1f})"
            values.append(f"[bold]{text}[/bold]" if cell["value"] == best[split] else text)
        table.add_row(method, *values)
    own = {split: cells[methods[-1], split]["value"] for split in splits if split != "all"}
    if own:
        weakest = min(own, key=lambda split: own[split])
        table.caption = f"{methods[-1]} is weakest on split {weakest} ({own[weakest]:.1f})"
        table.caption_justify = "left"
    return table


def reported_table(lines: Sequence[Line]) -> Table:
    """What was measured beside what the paper reports; in brackets the points over text-only on the same encoder."""
    metrics = [metric for metric in lines[0].values if "/" not in metric]
    table = Table(
        title="beside the paper, percent (points over text-only on the same encoder)",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("method")
    table.add_column("encoder")
    for metric in metrics:
        table.add_column(metric, justify="right")
    table.add_column("source")
    for line in lines:
        cells = [_with_gain(line, metric) for metric in metrics]
        table.add_row(line.method, line.encoder, *cells, line.source, style="bold" if line.measured else "")
    return table


def _with_gain(line: Line, metric: str) -> str:
    if metric not in line.values:
        return ""
    gain = line.gains.get(metric)
    return f"{line.values[metric]:.2f}" + ("" if gain is None or line.is_text_only else f" ({gain:+.2f})")


def show_plan(console: Console, plan: Plan, profile: str) -> None:
    """Print a plan: stages, totals, prompts, and what is missing."""
    table = Table(title=f"profile {profile}", title_justify="left", header_style="bold")
    for name in (
        "stage",
        "state",
        "work",
        "shards",
        "tokens in",
        "tokens out",
        "USD",
        "GPU time ≥",
        "core time",
        "disk",
        "",
    ):
        table.add_column(name, justify="left" if name in ("stage", "state", "") else "right")
    for stage, state in zip(plan.works, plan.states, strict=True):
        table.add_row(
            stage.stage,
            state.state,
            f"{stage.rows:,} {stage.unit}",
            f"{stage.shards:,}",
            *(_amount(value, 0) for value in (stage.prompt_tokens, stage.completion_tokens)),
            _amount(stage.usd, 2),
            *(_time(hours) for hours in (stage.gpu_hours, stage.cpu_hours)),
            _size(stage.disk_gb),
            f"[dim]{escape(stage.note)}[/dim]",
        )
    left = plan.left
    usd, gpu, core, disk = (
        sum(getattr(s, name) or 0 for s in left) for name in ("usd", "gpu_hours", "cpu_hours", "disk_gb")
    )
    table.add_section()
    table.add_row("left to do", *[""] * 5, _amount(usd, 2), _time(gpu), _time(core), _size(disk), "")
    table.caption = "GPU time is arithmetic at the peak of one GPU: nothing is faster, expect several times as much"
    table.caption_justify = "left"
    console.print(table)
    for state in plan.states:
        if state.detail:
            console.print(f"{state.stage}: {state.detail}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"\n[bold]prompts[/bold], captions from {plan.captions_from}", highlight=False)
    shared = plan.prompts[0][:-1]
    for message in shared:
        console.print(f"  {message['role']}: {message['content']}", style="dim", highlight=False, markup=False)
    for number, (messages, local) in enumerate(zip(plan.prompts, plan.local_prompts, strict=True), 1):
        console.print(f"{number}. {messages[-1]['role']}: {messages[-1]['content']}", highlight=False, markup=False)
        console.print(f"   the tuned model: {local!r}", highlight=False, markup=False)
    console.print("\n[bold]missing on this machine[/bold]" if plan.missing else "\nnothing is missing on this machine")
    for sentence in plan.missing:
        console.print(f"  - {sentence}", highlight=False, markup=False, soft_wrap=True)


def _amount(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _time(hours: float | None) -> str:
    if not hours:
        return ""
    if hours * 3600 < 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"


def _size(gigabytes: float) -> str:
    if gigabytes < 0.001:
        return ""
    return f"{gigabytes * 1000:.0f} MB" if gigabytes < 1 else f"{gigabytes:.1f} GB"
