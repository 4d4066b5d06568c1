"""Calling stage flows, in this process or as deployments, and handing keys from one to the next."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.states import Completed

from flows.common import CACHED, keys_from
from scot_core.config import STAGES, Config
from scot_core.errors import ScotError

Where = Literal["inline", "deployments"]


class Stages:
    """Runs stage flows one after the other and remembers whether any of them had work to do.

    Stages after `last` are left out: they give no keys, and nothing is run for them.
    """

    def __init__(self, where: Where, lake: str | None, last: str) -> None:
        self._where, self._lake = where, lake
        self._left_out = STAGES[STAGES.index(last) + 1 :]
        self._states: list[State] = []

    def __call__(self, stage: Flow[..., State], config: Config, **inputs: Any) -> dict[str, str]:
        """Run one stage; returns the keys of its datasets by name. Raises what the stage raised."""
        name = stage.fn.__name__
        if name in self._left_out:
            return defaultdict(str)
        parameters = {"config": config, **inputs, "lake": self._lake}
        inline = self._where == "inline"
        state = stage(**parameters, return_state=True) if inline else self._deployed(name, parameters)
        self._states.append(state)
        if not state.is_completed():
            state.result()  # raises what happened
        return keys_from(state)

    def ended(self) -> State:
        """Completed; named `Cached` where no stage had anything to do."""
        cached = all(state.name == CACHED for state in self._states)
        return Completed(name=CACHED if cached else None, message=f"{len(self._states)} stages")

    def _deployed(self, name: str, parameters: dict[str, Any]) -> State:
        plain = {
            key: value.model_dump(mode="json") if isinstance(value, Config) else value
            for key, value in parameters.items()
        }
        run = run_deployment(f"scot/{name}", parameters=plain)
        state = run.state
        if state is None or not state.is_completed():
            what = "no state" if state is None else f"{state.name}: {state.message}"
            raise ScotError(f"scot/{name} ended in {what}; see flow run {run.id}, then run scot/regenerate again")
        return state
