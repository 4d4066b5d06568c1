"""What every stage flow does alike: open the lake, find its inputs, end as `Cached` where nothing was to do."""

from __future__ import annotations

from prefect.client.schemas.objects import State
from prefect.states import Completed

from scot_core.config.settings import settings
from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake
from scot_core.stages.recipes import Run
from scot_core.stages.step import Step
from tasks.steps import run_step

CACHED = "Cached"
SEPARATOR = ", "


def open_lake(url: str | None) -> Lake:
    """The lake at a URL, else at SCOT_LAKE. Raises LakeError where it cannot be written."""
    lake = Lake(url or settings().lake)
    lake.check_writable()
    return lake


def given(lake: Lake, table: str, key: str | None, **filters: str) -> Dataset:
    """An input by its key, or the newest one. Raises LakeError where there is none."""
    if key is None:
        return lake.table(table).latest(**filters)
    dataset = lake.table(table).find(key)
    if dataset is None:
        raise LakeError(f"{table}/{key} is not in the lake {lake.url}")
    return dataset


class Recorder:
    """A `Run` that remembers whether anything had to be done."""

    def __init__(self, run: Run = run_step) -> None:
        self._run = run
        self.worked = False

    def __call__(self, step: Step) -> tuple[Dataset, ...]:
        self.worked = self.worked or step.committed() is None
        return self._run(step)


def of_source(lake: Lake, table: str, key: str | None, like: Dataset, **filters: str) -> Dataset | None:
    """An input that not every source has: by its key, else the newest of the source of another input."""
    source = str(like.manifest["source"])
    if key is None and not lake.table(table).matching(source=source, **filters):
        return None
    return given(lake, table, key, source=source, **filters)


def ended(recorder: Recorder, **datasets: Dataset | None) -> State:
    """The final state of a stage, named `Cached` where every step was. Its message names the datasets' keys,
    which is all that the next stage needs, in this process or in another.
    """
    keys = SEPARATOR.join(f"{name}={dataset.key}" for name, dataset in datasets.items() if dataset)
    return Completed(name=None if recorder.worked else CACHED, message=keys)


def keys_from(state: State) -> dict[str, str]:
    """The keys that `ended` put into a state, by name."""
    pairs = (pair.partition("=") for pair in (state.message or "").split(SEPARATOR))
    return {name: key for name, _, key in pairs}
