"""A run whose every dataset is in the lake already: seen without Prefect, its server, or anything heavy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

from scot.plan.state import stages_to
from scot_core.config import Pipeline, last_stage
from scot_core.errors import ScotError
from scot_core.lake import Lake
from scot_core.lake.generations import record
from scot_core.stages import recipes
from scot_core.stages.methods.cached import NotMeasuredError, reuse
from scot_core.stages.progress import Listener
from scot_core.stages.step import Committed, Run, Work

Made = TypeVar("Made")


def is_finished(
    lake: Lake, pipeline: Pipeline, profile: str, overrides: Sequence[str], until: str | None,
    listeners: Sequence[Listener],
) -> bool:  # fmt: skip
    """Whether nothing is left to do up to a stage; then each step is told as cached, and the run leaves its record.

    What cannot be looked up is for the run itself to say.
    """
    last = last_stage(until, profile)
    stages = stages_to(pipeline, "benchmark" if last == "train" else last)  # the flow `train` measures, too

    def walked(run: Run) -> list[str]:
        keys: list[str] = []

        def keeping(step: Work) -> Committed:
            found = run(step)
            keys.extend(dataset.key for dataset in found.values())
            return found

        for _ in islice(recipes.walk(keeping, lake, pipeline), len(stages)):
            pass
        return keys

    try:
        keys = looked_up(walked, listeners)
    except ScotError:
        return False
    if keys is None:
        return False
    record(lake, keys, recipes.settings_of(profile, overrides, until, pipeline))
    return True


def looked_up(recipe: Callable[[Run], Made], listeners: Sequence[Listener]) -> Made | None:
    """What a recipe ends in where all of it is in the lake already; then each step is told as cached. Else None."""
    met: list[Work] = []

    def run(step: Work) -> Committed:
        met.append(step)
        return reuse(step)

    try:
        made = recipe(run)
    except NotMeasuredError:  # what was loaded to look goes with it
        return None
    for step in met:
        for listener in listeners:
            listener.end(step, cached=True)
    return made
