"""Calling stage flows, in this process or as deployments, and handing keys from one to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.states import Failed

from flows.common import already_there
from scot_core.config import STAGES, Config
from scot_core.errors import GateError, ScotError
from tasks.generation import Ran
from tasks.states import GATE, completed, failure_of, is_cached, keys_of

Where = Literal["inline", "deployments"]


class Stages:
    """Runs stage flows one after the other and remembers whether any of them had work to do.

    Stages after `last` are left out: they give no keys, and nothing is run for them.
    """

    def __init__(self, where: Where, lake: str | None, last: str) -> None:
        self._where, self._lake = where, lake
        self._left_out = STAGES[STAGES.index(last) + 1 :]
        self.ran: list[Ran] = []

    def __call__(self, stage: Flow[..., State], config: Config, **inputs: Config | str | bool) -> dict[str, str]:
        """Run one stage; returns the keys of its datasets by name. Raises what the stage raised."""
        name = stage.fn.__name__
        if name in self._left_out:
            return defaultdict(str)
        parameters: dict[str, Config | str | bool | None] = {"config": config, **inputs, "lake": self._lake}
        if self._where == "inline":
            state, run = self._inline(stage, parameters)
        else:  # no worker is asked to start a process that finds everything done
            there = already_there(stage.fn, parameters)
            state, run = (there, None) if there is not None else self._deployed(name, parameters)
        self.ran.append(Ran(name, run, state))
        failure = failure_of(state)
        if failure is not None:
            raise failure
        return keys_of(state)

    @property
    def keys(self) -> list[str]:
        """Those of the datasets that the last stage handed on that completed."""
        done = [ran.state for ran in self.ran if ran.state.is_completed()]
        return list(keys_of(done[-1]).values()) if done else []

    @property
    def cached(self) -> bool:
        """Whether no stage had anything to do."""
        return all(is_cached(ran.state) for ran in self.ran)

    def ended(self) -> State:
        """Completed; named `Cached` where no stage had anything to do."""
        return completed(f"{len(self.ran)} stages", cached=self.cached)

    @staticmethod
    def _inline(stage: Flow[..., State], parameters: Mapping[str, Any]) -> tuple[State, UUID | None]:
        state = stage(**parameters, return_state=True)
        return state, state.state_details.flow_run_id

    def _deployed(self, name: str, parameters: Mapping[str, Config | str | bool | None]) -> tuple[State, UUID]:
        plain = {
            key: value.model_dump(mode="json") if isinstance(value, Config) else value
            for key, value in parameters.items()
        }
        run = run_deployment(f"scot/{name}", parameters=plain)
        assert isinstance(run, FlowRun), "no coroutine where no event loop runs"
        state = run.state
        if state is None or not state.is_completed():
            what = "no state" if state is None else f"{state.name}: {state.message}"
            kind = GateError if state is not None and state.name == GATE else ScotError
            error = kind(f"scot/{name} ended in {what}; see flow run {run.id}, then run scot/regenerate again")
            return Failed(name=None if state is None else state.name, message=what, data=error), run.id
        return state, run.id
