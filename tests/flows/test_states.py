"""Keys and failures pass between runs as records and exceptions, never as words; how a run's process ends.

No server.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import prefect.engine
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from scot_core.errors import BudgetReached, EndpointError, GateError, ScotError
from scot_core.lake import Lake
from scot_core.stages.progress import Meter, Stopped
from scot_core.stages.step import Tick, Work
from tasks.spread import Hands
from tasks.states import GATE, completed, failure_of, handing_on, in_words, is_cached, keys_of
from tasks.steps import TASK_RUNS, run_shards, run_step
from tests.flows.conftest import ROOT


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


@pytest.mark.parametrize(("kind", "name"), [(GateError, GATE), (BudgetReached, GATE), (EndpointError, "Failed")])
def test_what_is_raised_on_purpose_ends_a_flow_in_its_words_a_gate_in_a_state_of_its_name(
    kind: type[ScotError], name: str
) -> None:
    error = kind("47.5 of 50")

    @in_words
    def flow(stop: bool) -> State:
        if stop:
            raise error
        return completed("", cached=False)

    ended = flow(stop=True)
    assert (ended.name, ended.message, ended.is_failed()) == (name, "47.5 of 50", True)
    assert failure_of(ended) is error and flow(stop=False).is_completed()


class Shards(Work):
    """Shards of nothing, or of what is told to be raised."""

    stage, name, folder = "captions", "nothing", "captions/nothing"

    def __init__(self, lake: Lake, count: int = 3, parallel: int = 1, fails: Mapping[int, BaseException] = {}) -> None:
        super().__init__(lake)
        self.count, self.parallel, self.fails = count, parallel, fails
        self.done: list[int] = []
        self.at_once: set[int] = set()

    def shards(self) -> Sequence[int]:
        return [1] * self.count

    def work(self, shard: int, tick: Tick) -> None:
        self.at_once.add(threading.get_ident())
        if shard in self.fails:
            raise self.fails[shard]
        tick(1)
        self.done.append(shard)


@pytest.fixture
def task_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of task runs, which are called as they are, without Prefect."""
    names = []

    def call(hands: Hands, shards: range, name: str, which: str, meter: Meter, return_state: bool) -> State:
        names.append(which)
        try:
            return run_shards.fn(hands, shards, name, which, meter) or completed("", cached=False)
        except Exception as error:
            return Failed(data=error)

    monkeypatch.setattr("tasks.steps.run_shards", call)
    return names


@pytest.mark.parametrize(("count", "parallel"), [(0, 1), (1, 8), (100, 1), (3000, 3)])
def test_every_shard_is_done_once_by_no_more_threads_and_task_runs_than_are_needed(
    count: int, parallel: int, tmp_path: Path, task_runs: list[str]
) -> None:
    step = Shards(Lake(tmp_path), count, parallel)
    run_step(step)
    assert sorted(step.done) == list(range(count))
    assert len(step.at_once) <= parallel and len(task_runs) == len(set(task_runs)) <= TASK_RUNS
    assert task_runs[:1] == {0: [], 1: ["shard 0"], 100: ["shards 0-1"], 3000: ["shards 0-46"]}[count]


def test_what_failed_first_is_raised_and_no_shard_is_begun_after_it(tmp_path: Path, task_runs: list[str]) -> None:
    error = EndpointError("stopped answering")
    step = Shards(Lake(tmp_path), 9, 1, {4: error})
    with pytest.raises(EndpointError) as raised:
        run_step(step)
    assert raised.value is error and step.done == [0, 1, 2, 3] and len(task_runs) == 5


def test_shards_that_were_only_told_to_stop_are_not_what_is_raised(tmp_path: Path, task_runs: list[str]) -> None:
    error, both = EndpointError("stopped answering"), threading.Barrier(2)

    class Together(Shards):
        def work(self, shard: int, tick: Tick) -> None:
            both.wait()
            if shard == 1:
                time.sleep(0.05)  # so that the other one fails first
            super().work(shard, tick)

    with pytest.raises(EndpointError) as raised:
        run_step(Together(Lake(tmp_path), 2, 2, {0: Stopped("told to"), 1: error}))
    assert raised.value is error
    with pytest.raises(Stopped):
        run_step(Shards(Lake(tmp_path), 2, 1, {0: Stopped("told to")}))


def test_ctrl_c_while_shards_are_worked_on_stops_those_that_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    meters: list[Meter] = []

    def interrupted(hands: Hands, step: Work, meter: Meter, threads: Executor) -> None:
        meters.append(meter)
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.steps.run_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_step(Shards(Lake(tmp_path)))
    with pytest.raises(Stopped):
        meters[0].tick(1)


@pytest.mark.parametrize("over", [True, False])
def test_a_worker_s_run_whose_end_is_known_takes_nothing_down(over: bool) -> None:
    assert "engine_outcome_is_handled" in vars(prefect.engine), "what the engine itself asks"
    script = (
        f"engine_outcome_is_handled = lambda: {over}\n"
        "import atexit; atexit.register(print, 'first')\n"
        "from tasks.states import in_words\n"
        "class Loaded:\n"
        "    def __del__(self): print('taken down')\n"
        "loaded = Loaded()\n"
        "def flow():\n"
        "    atexit.register(print, 'second')\n"
        "    if 'whole' in globals(): in_words(whole)()\n"
        "in_words(flow)()\n"
        "whole = lambda: None\n"
        "in_words(flow)()\n"  # a flow in a flow
        "raise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    handed_over = ["second", "second", "first"]
    expected = (0, handed_over) if over else (3, [*handed_over, "taken down"])
    assert (done.returncode, done.stdout.splitlines()) == expected, done.stderr
