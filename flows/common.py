"""What every stage flow does alike: open the lake, run steps, end as `Cached` where nothing was to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from prefect.client.schemas.objects import State

from scot_core.config.settings import settings
from scot_core.lake import Dataset, Lake
from scot_core.stages.step import Committed, Run, Work
from tasks.states import handing_on, is_cached
from tasks.steps import run_step

logger = logging.getLogger(__name__)


def open_lake(url: str | None) -> Lake:
    """The lake at a URL, else at SCOT_LAKE. Raises LakeError where it cannot be written."""
    lake = Lake(url or settings().lake)
    lake.check_writable()
    return lake


class Recorder:
    """A `Run` that remembers whether anything had to be done; `before` is called once, before the first of it."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self._run, self._before = _RUN.get(), before
        self.worked = False

    def __call__(self, work: Work) -> Committed:
        if not self.worked and work.committed() is None:
            if self._run is not _look:  # which is on the machine of whoever asks, not on that of the stage
                self._before()
            self.worked = True
        return self._run(work)


class NothingYetError(Exception):
    """A stage has something to do."""


_RUN: ContextVar[Run] = ContextVar("scot_run", default=run_step)


def already_there(stage: Callable[..., State], parameters: Mapping[str, object]) -> State | None:
    """How a stage would end that has nothing to do, which the lake alone says; None where it must be run to know.

    Nothing is worked on: the stage goes from one committed dataset to the next. What it needs may be on other machines
    only, weights and pictures say, so whatever it raises here is for the stage itself to raise.
    """
    token = _RUN.set(_look)
    try:
        state = stage(**parameters)
    except NothingYetError:
        return None
    except Exception as error:
        logger.debug("nobody can say from here whether there is something to do: %r", error)
        return None
    finally:
        _RUN.reset(token)
    return state if is_cached(state) else None


def _look(work: Work) -> Committed:
    found = work.committed()
    if found is None:
        raise NothingYetError
    return found


def ended(recorder: Recorder, **datasets: Dataset | None) -> State:
    """The final state of a stage, named `Cached` where every step was. It holds the datasets' keys, which is all that
    the next stage needs, in this process or in another.
    """
    keys = {name: dataset.key for name, dataset in datasets.items() if dataset is not None}
    return handing_on(keys, cached=not recorder.worked)
