"""`scot/study`: a study of the paper, cell after cell."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from scot_core.config import ProfileName
from scot_core.studies import Cell, StudyName
from scot_core.studies import study as known
from scot_core.studies.findings import findings, keep
from scot_core.studies.measure import measure
from tasks.artifacts import study_artifact
from tasks.states import in_words
from tasks.steps import reuse


@flow(name="scot", flow_run_name="study {name}")
@in_words
def study(
    name: StudyName = "loss",
    profile_name: ProfileName | None = None,
    overrides: list[str] | None = None,
    lake: str | None = None,
) -> State:
    """Train and measure every cell of a study that is not there yet; those that are end as `Cached`.

    Cells are kept in a lake of their own, `studies` in the folder of the lake; the page is `studies.html`.

    Args:
        name: loss, size and others (`scot study`).
        profile_name: what the study's settings stand over, by default its own.
        overrides: settings of every cell, such as train.seeds=0,1; not those that the study varies.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    # loads torch and matplotlib, and who deploys flows draws nothing
    from scot_core.report.studies import write_studies

    place, run, chosen = open_lake(lake), Recorder(), known(name)
    profile, settings = profile_name or chosen.profile, overrides or []

    def on_cell(cell: Cell, cached: bool) -> None:
        if cached:
            reuse(cell.name, [cell.name])

    done, left_out = measure(run, place, chosen, profile, settings, on_cell)
    for found in findings(place, chosen, profile, settings, done, left_out):
        keep(place, found)
        study_artifact(found)
    write_studies(place)
    return ended(run, **{one.cell.name: one.combiners for one in done})
