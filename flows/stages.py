"""Calling stage flows, in this process or as deployments, and handing keys from one to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment

from flows.common import already_there
from scot_core.config import STAGES, Config
from scot_core.errors import ScotError
from tasks.states import completed, failure_of, is_cached, keys_of

Where = Literal["inline", "deployments"]


class Stages:
    """Runs stage flows one after the other and remembers whether any of them had work to do.

    Stages after `last` are left out: they give no keys, and nothing is run for them.
    """

    def __init__(self, where: Where, lake: str | None, last: str) -> None:
        self._where, self._lake = where, lake
        self._left_out = STAGES[STAGES.index(last) + 1 :]
        self._states: list[State] = []

    def __call__(self, stage: Flow[..., State], config: Config, **inputs: Config | str) -> dict[str, str]:
        """Run one stage; returns the keys of its datasets by name. Raises what the stage raised."""
        name = stage.fn.__name__
        if name in self._left_out:
            return defaultdict(str)
        parameters: dict[str, Config | str | None] = {"config": config, **inputs, "lake": self._lake}
        if self._where == "inline":
            state = stage(**parameters, return_state=True)
        else:  # no worker is asked to start a process that finds everything done
            state = already_there(stage.fn, parameters) or self._deployed(name, parameters)
        self._states.append(state)
        failure = failure_of(state)
        if failure is not None:
            raise failure
        return keys_of(state)

    @property
    def keys(self) -> list[str]:
        """Those of the datasets that the last stage handed on."""
        return list(keys_of(self._states[-1]).values()) if self._states else []

    def ended(self) -> State:
        """Completed; named `Cached` where no stage had anything to do."""
        cached = all(is_cached(state) for state in self._states)
        return completed(f"{len(self._states)} stages", cached=cached)

    def _deployed(self, name: str, parameters: Mapping[str, Config | str | None]) -> State:
        plain = {
            key: value.model_dump(mode="json") if isinstance(value, Config) else value
            for key, value in parameters.items()
        }
        run = run_deployment(f"scot/{name}", parameters=plain)
        assert isinstance(run, FlowRun), "no coroutine where no event loop runs"
        state = run.state
        if state is None or not state.is_completed():
            what = "no state" if state is None else f"{state.name}: {state.message}"
            raise ScotError(f"scot/{name} ended in {what}; see flow run {run.id}, then run scot/regenerate again")
        return state
