"""What a regeneration shows of what it made: names of its runs, an event, one summary. No run fails by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.utilities.urls import url_for

from scot_core.lake import Dataset, Lake
from scot_core.lake.compare import main_scores, quality_of, rejects_of
from scot_core.lake.generations import Generation, ended_in
from tasks.artifacts import cosmetic, markdown
from tasks.states import is_cached

MADE = "scot.generation.made"  # the event that a new generation is; where it stays out for long, an automation tells
ARTIFACT = "regeneration"


@dataclass(frozen=True, slots=True)
class Ran:
    """A stage that was run, and how it ended."""

    stage: str
    run: UUID | None
    state: State


@cosmetic
def name_runs(runs: Sequence[UUID | None], generation: str) -> None:
    """The generation into the names of the run that this is called in, and of others."""
    if (own := FlowRunContext.get()) is None or own.flow_run is None:
        return
    with get_client(sync_client=True) as client:
        for run in (own.flow_run.id, *runs):
            if run is not None and generation not in (name := client.read_flow_run(run).name):
                client.update_flow_run(run, name=f"{name}, {generation}")


@cosmetic
def tell_of(generation: str) -> None:
    """The event that there is a new generation."""
    resource = {"prefect.resource.id": f"scot.generation.{generation}", "prefect.resource.name": generation}
    emit_event(MADE, resource=resource)


@cosmetic
def summary_artifact(lake: Lake, ran: Sequence[Ran], keys: Sequence[str]) -> None:
    """One page for the run that this is called in: stages, rows, cost, rejects, scores, lineage."""
    if FlowRunContext.get() is None:
        return
    made = ended_in(lake, keys)
    text = "\n".join([*_stages(ran), *(line for generation in made for line in _page(generation))])
    words = ", ".join(generation.id for generation in made) or "nothing was made"
    create_markdown_artifact(text, key=ARTIFACT, description=words)


def _stages(ran: Sequence[Ran]) -> Iterator[str]:
    yield from ("| stage | ended as | run |", "| --- | --- | --- |")
    for one in ran:
        link = None if one.run is None else url_for("flow-run", one.run)
        shown = "" if one.run is None else f"[its run]({link})" if link else str(one.run)
        said = "" if one.state.is_completed() or not one.state.message else f": {one.state.message}"
        ended = "Cached" if is_cached(one.state) else f"{one.state.name}{said}"
        yield f"| {one.stage} | {markdown(ended)} | {shown} |"


def _page(generation: Generation) -> Iterator[str]:
    yield from ("", f"## {generation.id}", "")
    yield f"Ends in {generation.root.name}; {generation.usd:.2f} USD were paid for its replies."
    yield from ("", "| dataset | rows in | out | rejected | seconds | tokens | USD |", f"|{' --- |' * 7}")
    yield from map(_row, generation.members)
    yield from ("", "Made from:", "")
    yield from (f"- {d.name} from {', '.join(map(str, d.inputs))}" for d in generation.members if d.inputs)
    figures = {
        **{f"{name}, percent": f"{value:.2f}" for name, value in main_scores(generation.of("benchmarks")).items()},
        **{f"{name}, percent": f"{value:.1f}" for name, value in quality_of(generation).items()},
        **{f"rejected by {name}": f"{rows:,}" for name, rows in rejects_of(generation).items()},
    }
    yield from ("", "| figure | |", "| --- | ---: |")
    yield from (f"| {markdown(name)} | {value} |" for name, value in figures.items())


def _row(dataset: Dataset) -> str:
    rows, usage = dataset.manifest.rows, dataset.usage
    tokens = usage.prompt_tokens + usage.completion_tokens
    counts = f"{rows.given:,} | {rows.out:,} | {rows.rejected:,} | {usage.seconds:,.1f} | {tokens:,} | {usage.usd:.2f}"
    return f"| {dataset.name} | {counts} |"
