"""Keys and failures pass between runs as records and exceptions, never as words. No server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from scot_core.errors import BudgetReached, EndpointError, GateError, ScotError
from scot_core.lake import Lake
from scot_core.stages.progress import Meter, Stopped
from scot_core.stages.step import Tick, Work
from tasks.states import GATE, completed, failure_of, gated, handing_on, is_cached, keys_of
from tasks.steps import raise_first_failure, run_step


@given(st.dictionaries(st.text(), st.text()), st.booleans())
def test_keys_arrive_as_they_were_handed_on(keys: dict[str, str], cached: bool) -> None:
    state = handing_on(keys, cached=cached)
    sent = State.model_validate_json(state.model_dump_json())  # as a deployed run's state comes back
    assert keys_of(sent) == keys
    assert is_cached(sent) is cached and sent.is_completed()


@pytest.mark.parametrize("message", [None, "", "captions=a-1", "[]", '{"keys": {"captions": 1}}', '{"other": {}}'])
def test_a_state_without_keys_is_no_empty_record(message: str | None) -> None:
    with pytest.raises(ScotError, match="without the keys of its datasets"):
        keys_of(Completed(message=message))


def test_a_failed_run_is_not_cached_whatever_its_name() -> None:
    assert not is_cached(Failed(name="Cached"))
    assert failure_of(completed("", cached=True)) is None
    error = EndpointError("the server is down")
    assert failure_of(Failed(data=error)) is error
    assert "Failed: gone" in str(failure_of(Failed(message="gone", data="no exception")))


@pytest.mark.parametrize("kind", [GateError, BudgetReached])
def test_a_gate_ends_a_flow_in_a_failed_state_of_its_name_with_its_words(kind: type[GateError]) -> None:
    error = kind("47.5 of 50")

    @gated
    def flow(stop: bool) -> State:
        if stop:
            raise error
        return completed("", cached=False)

    ended = flow(stop=True)
    assert (ended.name, ended.message, ended.is_failed()) == (GATE, "47.5 of 50", True)
    assert failure_of(ended) is error and flow(stop=False).is_completed()


@dataclass
class Ended:
    """A future that is done."""

    state: State

    def wait(self) -> None:
        return None


def futures(*states: State) -> list[PrefectFuture[State | None]]:
    return [cast("PrefectFuture[State | None]", Ended(state)) for state in states]


def test_what_failed_first_is_raised_before_shards_that_were_told_to_stop() -> None:
    first, second = EndpointError("Stopped answering: Stopped"), EndpointError("later")
    told: State = Failed(data=Stopped("told to"))
    done = completed("", cached=False)
    with pytest.raises(EndpointError) as raised:
        raise_first_failure(futures(told, done, Failed(data=first), Failed(data=second)))
    assert raised.value is first
    with pytest.raises(Stopped):
        raise_first_failure(futures(told, done))
    raise_first_failure(futures(done))


class Shards(Work):
    """Three shards of nothing."""

    stage, name, folder = "captions", "nothing", "captions/nothing"

    def shards(self) -> Sequence[int]:
        return [1, 1, 1]

    def work(self, shard: int, tick: Tick) -> None:
        tick(1)


def test_ctrl_c_while_shards_are_handed_out_stops_those_that_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handed_out: list[Meter] = []

    class Interrupted:
        @staticmethod
        def submit(step: Work, shard: int, name: str, meter: Meter, room: object) -> None:
            if shard == 1:
                raise KeyboardInterrupt
            handed_out.append(meter)

    monkeypatch.setattr("tasks.steps.run_shard", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_step(Shards(Lake(tmp_path)))
    with pytest.raises(Stopped):
        handed_out[0].tick(1)
