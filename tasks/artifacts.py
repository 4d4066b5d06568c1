"""What a person sees in the Prefect UI beside the progress: tables and sample triplets. None of it may fail a run."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, ParamSpec

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from scot_core.lake import Dataset, Lake
from scot_core.printable import printable
from scot_core.report.results import Results
from scot_core.stages.methods import Sitting
from scot_core.stages.methods.measure import ALL
from scot_core.stages.methods.table import compare

if TYPE_CHECKING:  # loads all of methods
    from scot_core.studies.findings import Findings

logger = logging.getLogger(__name__)
P = ParamSpec("P")

SAMPLES = 12


def cosmetic(show: Callable[P, None]) -> Callable[P, None]:
    """Whatever `show` raises is reported, and that is all."""

    @functools.wraps(show)
    def try_to_show(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            show(*args, **kwargs)
        except Exception as error:
            logger.warning("%s is left out, the work goes on: %r", show.__name__, error)

    return try_to_show


@task(task_run_name="show the benchmark", cache_policy=NO_CACHE)
@cosmetic
def benchmark_artifact(rows: Dataset) -> None:
    """The benchmark's main metric, methods down and splits across; nothing where the targets are hidden."""
    measured = rows.read().to_pylist()
    if not measured:
        return
    results = Results(measured, own=None)
    shown = [
        {"method": method, **dict(zip(results.splits, map(str, cells), strict=True))} for method, cells in results.table
    ]
    first, interval = measured[0], "95 % bootstrap interval over queries"
    words = f"{results.main} on {first['benchmark']} in percent, {interval}; encoder {first['encoder']}"
    create_table_artifact(shown, key="benchmark", description=words)


@task(task_run_name="show the methods", cache_policy=NO_CACHE)
@cosmetic
def methods_artifact(lake: Lake, sitting: Sitting, against: str) -> None:
    """The first metric of every method, splits across, with the paired difference over all queries; and what is
    missing, with the command that makes it."""
    made = compare(lake, sitting.scores, against, sitting.missing)
    metric = made.metrics[0]
    shown = [
        {"method": one.shown}
        | {split: f"{cells[metric].value:.1f}" for split, cells in one.cells.items()}
        | {f"all, against {made.against}": one.cells[ALL][metric].shown_difference}
        for one in made.standings
    ]
    shown += [{"method": one.method, "all": f"missing: {one.made_by or one.why}"} for one in made.missing]
    create_table_artifact(shown, key="methods", description=f"{metric} on {made.benchmark} in percent")


@task(task_run_name="show the study", cache_policy=NO_CACHE)
@cosmetic
def study_artifact(found: Findings) -> None:
    """Question, sentence and table of a study on one benchmark."""
    from scot_core.report.studies import markdown as markdown_of

    create_markdown_artifact(markdown_of(found), key="study", description=f"{found.study} on {found.benchmark}")


@task(task_run_name="show sample triplets", cache_policy=NO_CACHE)
@cosmetic
def samples_artifact(triplets: Dataset) -> None:
    """A few triplets, spread over the dataset."""
    every = max(1, triplets.rows // SAMPLES)
    rows = triplets.each(["caption", "modification", "modified_caption"])
    chosen = list(islice(rows, 0, SAMPLES * every, every))
    lines = ["| caption | modification | modified caption |", "| --- | --- | --- |"]
    lines += ["| " + " | ".join(markdown(row[name]) for name in row) + " |" for row in chosen]
    create_markdown_artifact(
        "\n".join(lines), key="triplets", description=f"{len(chosen)} of {triplets.rows:,} triplets"
    )


def markdown(text: str) -> str:
    """Text that a cell of a Markdown table shows as it is: no mark-up, no HTML, no link, no second line."""
    return re.sub(r"""[\\`*_{}\[\]()#.!|~:@$&<>"']""", lambda mark: f"&#{ord(mark[0])};", printable(text))
