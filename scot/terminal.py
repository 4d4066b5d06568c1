"""What a person sees in the terminal: progress with rate and time left, and tables.

Data is printed letter by letter: it is no mark-up, no emoji code, and its control characters are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from scot.values import Rows
from scot_core.printable import printable
from scot_core.stages.progress import Progress as Reading
from scot_core.stages.step import Work

if TYPE_CHECKING:  # load torch, Pillow or models of settings, which `scot query` has no use for
    from scot.plan import Plan
    from scot_core.benchmarks.reported import Line
    from scot_core.report.results import Results

CELL_WIDTH = 60
FAILED = (("  ✗ ", "red"),)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console that takes what it prints as it is."""
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def plain(text: str, style: StyleType = "") -> Text:
    """Text with its line ends kept and other control characters written out."""
    return Text("\n".join(printable(line) for line in text.split("\n")), style)


def say(to: Console, *parts: str | tuple[str, str]) -> None:
    """Print one paragraph, of texts and of (text, style), which a terminal may wrap and a file keeps whole."""
    texts = (plain(part) if isinstance(part, str) else plain(*part) for part in parts)
    to.print(Text.assemble(*texts), soft_wrap=True)


class Bars:
    """One bar for each step while it runs, one line for it afterwards."""

    every_s = 0.2

    def __init__(self, to: Console) -> None:
        self._console = to
        self._progress = Progress(
            TextColumn("  {task.description:<34}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>12}", markup=False),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TimeElapsedColumn(),
            console=to,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, Reading] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, step: Work, total: int) -> None:
        self._tasks[step.name] = self._progress.add_task(printable(step.name), total=total, rate="")

    def update(self, progress: Reading) -> None:
        self._last[progress.name] = progress
        digits = 0 if progress.rate >= 10 else 1
        rate = f"{progress.rate:,.{digits}f} {progress.unit}/s"
        self._progress.update(self._tasks[progress.name], completed=progress.done, rate=rate)

    def end(self, step: Work, cached: bool) -> None:
        if step.name in self._tasks:
            self._progress.remove_task(self._tasks.pop(step.name))
        say(self._console, *done_line(step, cached, self._last.get(step.name)))

    def fail(self, step: Work) -> None:
        if step.name in self._tasks:
            self._progress.remove_task(self._tasks.pop(step.name))
        say(self._console, *FAILED, step_line(step))


def done_line(step: Work, cached: bool, last: Reading | None) -> tuple[str | tuple[str, str], ...]:
    """What stays of a step that is over."""
    if cached:
        what = ("Cached", "dim")
    elif last is None:
        what = ("done", "")
    else:
        what = (f"{last.done:>7,} {last.unit} in {last.seconds:,.1f} s", "")
    return ("  ✓ ", "green"), step_line(step), what


def step_line(step: Work) -> str:
    """Which step it is, in columns."""
    return f"{step.stage:<9} {step.name:<32} "


def show_table(to: Console, table: Rows, title: str | None = None) -> None:
    """Print rows; long cells are cut, bytes are named by their size."""
    shown = bare_table(title)
    values = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    for name, column in zip(table.columns, values, strict=True):
        shown.add_column(plain(printable(name)), justify="right" if _are_numbers(column) else "left")
    for row in table.rows:
        shown.add_row(*(Text(_cell(value)) for value in row))
    to.print(shown)


def _are_numbers(column: Sequence[Any]) -> bool:
    kinds = {type(value) for value in column if value is not None}
    return bool(kinds) and kinds <= {int, float, Decimal}


def bare_table(title: str | None, caption: str | None = None) -> Table:
    return Table(
        title=None if title is None else plain(title), title_justify="left", header_style="bold",
        caption=None if caption is None else plain(caption), caption_justify="left",
    )  # fmt: skip


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 100 else f"{value:,.1f}"
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    if isinstance(value, dict):
        return ", ".join(f"{printable(str(key))}: {_cell(item)}" for key, item in value.items())
    text = printable(str(value))
    return text if len(text) <= CELL_WIDTH else f"{text[: CELL_WIDTH - 1]}…"


def benchmark_tables(measured: Sequence[dict[str, Any]]) -> list[Table]:
    """The benchmark's main metric: methods down, splits across; each cell a value and its 95 % interval, in percent.

    Further tables are of the splits of a breakdown, values alone.
    """
    from scot_core.encoders.fitted_names import FITTED
    from scot_core.report.results import Results

    own = str(measured[-1]["method"])
    results = Results(measured, own)
    weakest = results.weakest
    notes = [f"{own} is weakest on split {weakest} ({results.cell(own, weakest).value:.1f})"] if weakest else []
    if (encoder := str(measured[0].get("encoder"))).startswith(FITTED):
        notes.append(f"encoder {encoder}")
    table = bare_table(
        f"{results.main} on {measured[0]['benchmark']}, percent (95 % interval over queries)", "\n".join(notes) or None
    )
    table.add_column("method")
    for split in results.splits:
        table.add_column(plain(split), justify="right")
    for method, cells in results.table:
        table.add_row(plain(method), *(Text(str(cell), "bold" if cell.best else "") for cell in cells))
    return [table, *(_breakdown(results, name, splits) for name, splits in results.breakdowns.items())]


def _breakdown(results: Results, name: str, splits: Sequence[str]) -> Table:
    from scot_core.report.results import BREAKDOWNS

    table = bare_table(f"{results.main}, {BREAKDOWNS[name]}")
    table.add_column("method")
    for split in splits:
        table.add_column(plain(split.removeprefix(f"{name}: ")), justify="right")
    for method in results.methods:
        cells = [results.cell(method, split) for split in splits]
        table.add_row(plain(method), *(Text(f"{cell.value:.1f}", "bold" if cell.best else "") for cell in cells))
    return table


def reported_table(lines: Sequence[Line]) -> Table:
    """What was measured beside what the paper reports; in brackets the points over text-only on the same encoder."""
    metrics = [metric for metric in lines[0].values if "/" not in metric]
    table = bare_table("beside the paper, percent (points over text-only on the same encoder)")
    for name in ("method", "encoder", *metrics, "source"):
        table.add_column(name, justify="right" if name in metrics else "left")
    for line in lines:
        cells = (line.method, line.encoder, *(_with_gain(line, metric) for metric in metrics), line.source)
        table.add_row(*map(plain, cells), style="bold" if line.measured else "")
    return table


def _with_gain(line: Line, metric: str) -> str:
    if metric not in line.values:
        return ""
    gain = line.gains.get(metric)
    return f"{line.values[metric]:.2f}" + ("" if gain is None or line.is_text_only else f" ({gain:+.2f})")


def show_plan(to: Console, plan: Plan, profile: str) -> None:
    """Print a plan: stages, totals, prompts, and what is missing."""
    to.print(_plan_table(plan, profile))
    for state in plan.states:
        if state.detail:
            say(to, f"{state.stage}: {state.detail}")
    if plan.prompts:
        _show_prompts(to, plan)
    if plan.methods:
        say(to, ("\nmethods", "bold"))
    for sentence in plan.methods:
        say(to, f"  - {sentence}")
    say(to, ("\nmissing on this machine", "bold") if plan.missing else "\nnothing is missing on this machine")
    for sentence in plan.missing:
        say(to, f"  - {sentence}")


def _show_prompts(to: Console, plan: Plan) -> None:
    say(to, ("\nprompts", "bold"), f", captions from {plan.captions_from}")
    for message in plan.prompts[0][:-1]:
        say(to, (f"  {message['role']}: {message['content']}", "dim"))
    for number, (messages, local) in enumerate(zip(plan.prompts, plan.local_prompts, strict=True), 1):
        say(to, f"{number}. {messages[-1]['role']}: {messages[-1]['content']}")
        say(to, f"   the tuned model: {local!r}")


def _plan_table(plan: Plan, profile: str) -> Table:
    table = bare_table(
        f"profile {profile}",
        "GPU time is arithmetic at the peak of one GPU: nothing is faster, expect several times as much",
    )
    amounts = ("work", "shards", "tokens in", "tokens out", "USD", "GPU time ≥", "core time", "disk")
    for name in ("stage", "state", *amounts, ""):
        table.add_column(name, justify="right" if name in amounts else "left")
    for stage, state in zip(plan.works, plan.states, strict=True):
        if state.state == "skipped":
            table.add_row(stage.stage, state.state)
            continue
        table.add_row(
            stage.stage,
            state.state,
            f"{stage.rows:,} {stage.unit}",
            f"{stage.shards:,}",
            *(_amount(value, 0) for value in (stage.prompt_tokens, stage.completion_tokens)),
            _amount(stage.usd, 2),
            *(_time(hours) for hours in (stage.gpu_hours, stage.cpu_hours)),
            _size(stage.disk_gb),
            plain(stage.note, "dim"),
        )
    usd, gpu, core, disk = (
        sum(getattr(stage, name) or 0 for stage in plan.left) for name in ("usd", "gpu_hours", "cpu_hours", "disk_gb")
    )
    table.add_section()
    table.add_row("left to do", *[""] * 5, _amount(usd, 2), _time(gpu), _time(core), _size(disk), "")
    return table


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
