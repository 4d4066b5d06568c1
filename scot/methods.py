"""`scot methods`: every way of composing a query side by side; and the same on a published benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from scot.lines import progress_on
from scot.options import JsonOption, LakeOption, err, lake_at, out, require_prefect
from scot.terminal import bare_table, plain, say
from scot_core.config import EmbedConfig, MethodsConfig, PublishedConfig, validated
from scot_core.lake import Lake
from scot_core.paper import VALIDATION
from scot_core.report.results import BREAKDOWNS, broken_down, main_splits

if TYPE_CHECKING:  # loads torch
    from scot_core.stages.methods import Sitting
    from scot_core.stages.methods.table import Comparison, Standing

MethodOption = Annotated[
    list[str] | None,
    Parameter(
        name="--method",
        negative="",
        help="A way of composing queries, such as searle; may be given several times; all for every one.",
    ),
]
AgainstOption = Annotated[str, Parameter(name="--against", help="The method that differences are taken to.")]


def methods(
    *,
    method: MethodOption = None,
    against: AgainstOption = "tuned-sum",
    development: Annotated[bool, Parameter(negative="")] = False,
    lake: LakeOption = None,
    open_: Annotated[bool, Parameter(name="--open", negative="")] = False,
    json_: JsonOption = False,
) -> None:
    """Every way of composing a query, on the same queries: values, paired differences, and what each costs.

    What is measured already is reused. Measured on the catalogue's benchmark and on that of mined triplets, whichever
    the lake has, by the encoder of the Combiner in use; `scot benchmark NAME --method all` does it on another one. A
    method that lacks something is named with the command that makes it.

    Parameters
    ----------
    development
        Measure on the catalogue's development draw, on which settings are chosen, not on its test.
    open_
        Open the page with all of it, methods.html of the lake, in the browser.
    """
    config, place = asked(method, development), lake_at(lake, to_write=True)
    from scot.finished import looked_up
    from scot_core.stages import recipes
    from scot_core.stages.methods.cached import reuse

    sittings = looked_up(lambda run: recipes.methods(run, place, config), [])
    if sittings is None:
        require_prefect()
        from scot.inline import methods_inline

        with progress_on(err if json_ else out) as bars:
            methods_inline(config, lake=place.url, listeners=[bars])
        sittings = recipes.methods(reuse, place, config)
    page = show(place, sittings, against, json_=json_)
    if open_ and page is not None:
        import webbrowser

        webbrowser.open(page if "://" in page else Path(page).resolve().as_uri())


def measure_published(
    config: PublishedConfig, combiner: str | None, encoder: EmbedConfig | None, place: Lake, names: Sequence[str],
    against: str, submission: Path | None, *, json_: bool,
) -> None:  # fmt: skip
    """Measure methods on a published benchmark, or write what its evaluation server takes of each."""
    from scot.finished import looked_up
    from scot.inline import benchmark_inline
    from scot_core.stages import recipes
    from scot_core.stages.embed.benchmarks import open_published
    from scot_core.stages.methods.cached import reuse

    chosen = asked(names)
    sitting = looked_up(lambda run: recipes.published_methods(run, place, config, combiner, encoder, chosen), [])
    if sitting is None:
        with progress_on(err if json_ else out) as bars:
            benchmark_inline(config, combiner, encoder, chosen, lake=place.url, listeners=[bars])
        sitting = recipes.published_methods(reuse, place, config, combiner, encoder, chosen)
    for row in open_published(config).bad:
        say(err, (f"no query ({row.reason}): ", "yellow"), row.raw[:200])
    if config.variant.split == VALIDATION:
        show(place, [sitting], against, json_=json_)
        return
    for name, scores in sitting.scores.items():
        if submission is not None:
            scores.files_in(submission)
        for file in scores.files:
            say(out, f"{name}, for the evaluation server: {submission or f'{place.url}/{scores.name}'}/{file.name}")


def asked(names: Sequence[str] | None, development: bool = False) -> MethodsConfig:
    """Raises ConfigError for a method that there is not."""
    chosen = () if names is None or "all" in names else tuple(names)
    if chosen:
        from scot_core.methods import method

        for name in chosen:
            method(name)
    return validated(MethodsConfig, {"names": chosen, "development": development})


def show(place: Lake, sittings: Sequence[Sitting], against: str, *, json_: bool) -> str | None:
    """Print the comparisons, and write their page; returns where that is."""
    from scot_core.report.methods import write_methods
    from scot_core.stages.methods.table import compare

    visible = [sitting for sitting in sittings if sitting.scores]
    made = [compare(place, sitting.scores, against, sitting.missing) for sitting in visible]
    page = write_methods(place, made) if made else None
    if json_:
        print(json.dumps([one.as_json() for one in made]))
        return page
    for sitting, one in zip(visible, made, strict=True):
        for table in tables(one):
            out.print(table)
        for missing in sitting.missing:
            todo = f"; make it: {missing.made_by}" if missing.made_by else ""
            say(err, (f"{missing.method} is missing: ", "yellow"), f"{missing.why}{todo}")
    if page is not None:
        say(out, f"page: {page}")
    return page


def tables(made: Comparison) -> list[Table]:
    """R@1, R@5 and R@10 by split (or what the benchmark has in their place), differences, and costs."""
    splits, parts = main_splits(made.queries), broken_down(made.queries)
    shown = [metric for metric in made.metrics if metric.startswith("R@")][:3] or made.metrics[:1]
    found = [
        _table(
            f"{metric} on {made.benchmark}, percent (95 % interval over queries)", splits, made, _values(metric, splits)
        )
        for metric in shown
    ]
    title = (
        f"{shown[0]}, points against {made.against} (95 % interval over queries and seeds, paired; bold: without zero)"
    )
    found.append(_table(title, splits, made, _differences(shown[0], splits)))
    found += [
        _table(f"{shown[0]}, {BREAKDOWNS[name]}", its, made, _values(shown[0], its)) for name, its in parts.items()
    ]
    costs = ["seeds", "training", "its data", "a query"]
    found.append(_table("what it costs: work on what was trained, and on what that was made from", costs, made, _costs))
    return found


Cells = list[tuple[str, str]]
"""Texts with their styles."""


def _table(
    title: str, columns: Sequence[str], made: Comparison, cells: Callable[[Standing, Comparison], Cells]
) -> Table:
    table = bare_table(title)
    table.add_column("method")
    for name in columns:
        table.add_column(plain(name), justify="right")
    for one in made.standings:
        table.add_row(plain(one.shown), *(plain(*cell) for cell in cells(one, made)))
    return table


def _values(metric: str, splits: Sequence[str]) -> Callable[[Standing, Comparison], Cells]:
    def cells(one: Standing, made: Comparison) -> Cells:
        best = {split: max(other.cells[split][metric].value for other in made.standings) for split in splits}
        its = {split: one.cells[split][metric] for split in splits}
        return [(str(cell), "bold" if cell.value == best[split] else "") for split, cell in its.items()]

    return cells


def _differences(metric: str, splits: Sequence[str]) -> Callable[[Standing, Comparison], Cells]:
    def cells(one: Standing, made: Comparison) -> Cells:
        if one.shown == made.against:
            return [("", "") for _ in splits]
        its = [one.cells[split][metric] for split in splits]
        return [(cell.shown_difference, "bold" if cell.decided else "") for cell in its]

    return cells


def _costs(one: Standing, _: Comparison) -> Cells:
    seconds = [f"{value:,.0f} s" if value else "" for value in (one.training_s, one.data_s)]
    return [(text, "") for text in (str(one.runs), *seconds, f"{one.milliseconds:,.1f} ms")]
