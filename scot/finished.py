"""A run whose every dataset is in the lake already: seen without Prefect, its server, or anything heavy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from scot.plan.state import NotThereError, stages_to
from scot_core.config import Pipeline, last_stage
from scot_core.errors import ScotError
from scot_core.lake import Lake
from scot_core.lake.generations import record
from scot_core.stages import recipes
from scot_core.stages.progress import Listener
from scot_core.stages.step import Committed, Work


def is_finished(
    lake: Lake, pipeline: Pipeline, profile: str, overrides: Sequence[str], until: str | None,
    listeners: Sequence[Listener],
) -> bool:  # fmt: skip
    """Whether nothing is left to do up to a stage; then each step is told as cached, and the run leaves its record.

    What cannot be looked up is for the run itself to say.
    """
    met: list[Work] = []
    keys: list[str] = []

    def run(step: Work) -> Committed:
        found = step.committed()
        if found is None:
            raise NotThereError(step)
        met.append(step)
        keys.extend(dataset.key for dataset in found.values())
        return found

    last = last_stage(until, profile)
    stages = stages_to(pipeline, "benchmark" if last == "train" else last)  # the flow `train` measures, too
    try:
        for _ in islice(recipes.walk(run, lake, pipeline), len(stages)):
            pass
    except (NotThereError, ScotError):
        return False
    for step in met:
        for listener in listeners:
            listener.end(step, cached=True)
    record(lake, keys, recipes.settings_of(profile, overrides, until, pipeline))
    return True
