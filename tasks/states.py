"""How runs end: the name of states that had nothing to do, and the keys that one stage hands to the next.

A state's message is its only field that is kept for every run: results of deployed runs are not, and details have
no room for fields of one's own. So the keys travel there, as JSON of a checked record, and are read nowhere else.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Final, ParamSpec

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, ValidationError

from scot_core.errors import GateError, ScotError
from scot_core.garbage import leave

CACHED: Final = "Cached"
GATE: Final = "Gate"  # of type Failed; automations match the name
P = ParamSpec("P")


class Keys(BaseModel):
    """Keys of the datasets that a stage found or made, by what the next stage calls them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: dict[str, str]


def completed(message: str, *, cached: bool) -> State:
    """A completed state, named `Cached` where nothing had to be done."""
    return Completed(name=CACHED if cached else None, message=message)


def in_words(flow: Callable[P, State]) -> Callable[P, State]:
    """A flow that ends with the words of what Scot raises on purpose, in a state named `Gate` where a gate stopped it.

    Prefect's own way is a page of traceback before them.
    """

    @functools.wraps(flow)
    def run(*args: P.args, **kwargs: P.kwargs) -> State:
        try:
            return flow(*args, **kwargs)
        except ScotError as error:
            return failed(error)
        finally:
            if _is_over is not None:  # the newest of what is done at the end of the process, so that it comes first
                atexit.unregister(_leave_when_over)
                atexit.register(_leave_when_over)

    # Prefect reads types where a function was written, which for this one is here
    vars(run).update(__signature__=inspect.signature(flow, eval_str=True))
    run.__annotations__ = inspect.get_annotations(flow, eval_str=True)
    return run


# What Prefect's engine, where this process is one, asks before it exits with 0, whatever came after: whether the server
# was told how the run ended, or that it is paused.
_is_over: Callable[[], bool] | None = getattr(sys.modules["__main__"], "engine_outcome_is_handled", None)


def _leave_when_over() -> None:
    """Taking down what a run has loaded takes a second, and keeps a worker's slot and the memory of a GPU meanwhile."""
    atexit.unregister(_leave_when_over)
    if _is_over is not None and _is_over():
        leave(0)


def failed(error: ScotError) -> State:
    """How a run ends that fails for a reason that is known."""
    return Failed(name=GATE if isinstance(error, GateError) else None, message=str(error), data=error)


def is_cached(state: State) -> bool:
    """Whether nothing had to be done."""
    return state.is_completed() and state.name == CACHED


def handing_on(keys: Mapping[str, str], *, cached: bool) -> State:
    """How a stage ends: what it hands on, by name."""
    return completed(Keys(keys=dict(keys)).model_dump_json(), cached=cached)


def keys_of(state: State) -> dict[str, str]:
    """What a stage handed on. Raises ScotError where the state is not one of `handing_on`."""
    try:
        return Keys.model_validate_json(state.message or "").keys
    except ValidationError as error:
        raise ScotError(
            f"a stage ended as {state.name} without the keys of its datasets (it said {state.message!r}): its worker "
            "runs another version of Scot; bring both to the same one and run again"
        ) from error


def failure_of(state: State) -> BaseException | None:
    """What ended a run, as it was raised where that was in this process; None where the run completed."""
    if state.is_completed():
        return None
    failure = state.result(raise_on_failure=False)
    if isinstance(failure, BaseException):
        return failure
    return ScotError(f"a run ended as {state.name}: {state.message}")
