"""What Scot says in the log of a Prefect run: how fast a step goes, what became of its rows, what it cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler

from scot_core.lake import Dataset
from scot_core.lake.compare import ALONE, main_scores
from scot_core.stages.progress import Progress
from scot_core.stages.step import Work

logger = logging.getLogger("scot.run")  # into runs alone: a terminal has bars
WARNING = ("scot_core", "tasks", "flows")  # loggers that also say it where they did before

PERIOD_S = 60.0
REASONS = 4


def into_runs() -> None:
    """Send what is said inside a run to its log; what is said outside of one goes where it did before."""
    handler = APILogHandler()
    handler.addFilter(lambda _: FlowRunContext.get() is not None or TaskRunContext.get() is not None)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for name in (logger.name, *WARNING):
        named = logging.getLogger(name)
        if not any(isinstance(known, APILogHandler) for known in named.handlers):
            named.addHandler(handler)


class Said:
    """A listener that writes the log of a step."""

    every_s = PERIOD_S

    def begin(self, step: Work, total: int) -> None:
        logger.info("%s: %s %s in %s shards", step.name, f"{total:,}", step.unit, f"{len(step.shards()):,}")

    def update(self, progress: Progress) -> None:
        if progress.done < progress.total:  # else its end says more
            logger.info("%s", progress)

    def end(self, step: Work, cached: bool) -> None:
        for line in lines(step.committed() or {}):
            logger.info("%s: %s%s", step.name, "in the lake already: " if cached else "", line)

    def fail(self, step: Work) -> None:
        """What it raises is said by whoever catches it."""


def lines(committed: Mapping[str, Dataset]) -> Iterator[str]:
    """One for each dataset of a step, its rejects with the reasons; figures of tuning, training and measuring."""
    rejects = committed.get("rejects")
    for table, dataset in committed.items():
        if table == "rejects":
            continue
        given, usage = dataset.manifest.rows.given, dataset.usage
        said = [f"{dataset.name}: {given:,} rows in, {dataset.rows:,} out, {dataset.rejected:,} rejected"]
        if rejects is not None and rejects.rows:
            reasons = rejects.counts("reason").most_common(REASONS)
            said[0] += f" ({', '.join(f'{reason} {count:,}' for reason, count in reasons)})"
        if usage.seconds:
            rate = "" if table in ALONE else f", {given / usage.seconds:,.1f} rows/s"
            said.append(f"{usage.seconds:,.1f} s of work{rate}")
        if usage.prompt_tokens or usage.completion_tokens:
            said.append(f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens, {usage.usd:.4f} USD")
        said += _figures(table, dataset)
        yield "; ".join(said)


def _figures(table: str, dataset: Dataset) -> Iterator[str]:
    if table == "benchmarks":
        yield from (f"{name}: {value:.2f}" for name, value in main_scores([dataset]).items())
    if table not in ("adapters", "combiners"):
        return
    rows = dataset.read().to_pylist()
    losses: dict[int, list[float]] = {}
    for row in rows:
        if row["metric"] == "loss":
            losses.setdefault(row.get("seed", 0), []).append(row["value"])
    yield from (f"loss {curve[0]:.3f} at first, {curve[-1]:.3f} at last" for curve in losses.values())
    yield from (f"{row['metric']} {row['phase']} {row['value']:.1f} %" for row in rows if row["metric"] != "loss")
