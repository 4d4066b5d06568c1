"""`scot/methods`: every way of composing a query, measured on the same queries."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from scot_core.config import MethodsConfig
from scot_core.stages import recipes
from scot_core.stages.methods import BASELINE
from tasks.artifacts import methods_artifact
from tasks.states import in_words


@flow(name="scot", flow_run_name="methods against {against}")
@in_words
def methods(
    config: MethodsConfig = MethodsConfig(),
    combiners: str | None = None,
    against: str = BASELINE,
    lake: str | None = None,
) -> State:
    """Write table `scores`: a dataset for each method that the lake has what it needs for, on each of its benchmarks.

    Args:
        config: which methods.
        combiners: a key of table combiners, by default the promoted one or the newest; its encoder is everybody's.
        against: the method that differences in the table are taken to.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    place, run = open_lake(lake), Recorder()
    sittings = recipes.methods(run, place, config, combiners)
    for sitting in sittings:
        methods_artifact(place, sitting, against)
    return ended(run, **{f"{one.benchmark}/{name}": rows for one in sittings for name, rows in one.scores.items()})
