"""What every stage flow does alike: open the lake, run steps, end as `Cached` where nothing was to do."""

from __future__ import annotations

from prefect.client.schemas.objects import State

from scot_core.config.settings import settings
from scot_core.lake import Dataset, Lake
from scot_core.stages.step import Committed, Run, Work
from tasks.states import handing_on
from tasks.steps import run_step


def open_lake(url: str | None) -> Lake:
    """The lake at a URL, else at SCOT_LAKE. Raises LakeError where it cannot be written."""
    lake = Lake(url or settings().lake)
    lake.check_writable()
    return lake


class Recorder:
    """A `Run` that remembers whether anything had to be done."""

    def __init__(self, run: Run = run_step) -> None:
        self._run = run
        self.worked = False

    def __call__(self, work: Work) -> Committed:
        self.worked = self.worked or work.committed() is None
        return self._run(work)


def ended(recorder: Recorder, **datasets: Dataset | None) -> State:
    """The final state of a stage, named `Cached` where every step was. It holds the datasets' keys, which is all that
    the next stage needs, in this process or in another.
    """
    keys = {name: dataset.key for name, dataset in datasets.items() if dataset is not None}
    return handing_on(keys, cached=not recorder.worked)
