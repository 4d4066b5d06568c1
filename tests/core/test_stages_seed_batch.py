"""Seed triplets through the Batch API: whatever stops the run, nothing is paid for twice and no row is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from scot_core.catalogue.teacher import serve
from scot_core.config import SeedConfig
from scot_core.errors import BudgetReached, ConfigError, EndpointError
from scot_core.lake import Lake
from scot_core.lake.manifest import Rows
from scot_core.lake.storage import LocalJournal
from scot_core.stages.seed import batch as seed_batch
from scot_core.stages.seed.ask import AskForSeeds
from scot_core.stages.seed.batch import SubmitBatches, batch_rounds
from scot_core.stages.seed.ledger import BatchEntry, Ledger
from scot_core.stages.seed.work import SeedWork
from tests.running import run_here
from tests.seeding import CAPTIONS, SEEDS, answered, captions_of, commit_captions, seed, seed_config, texts
from tests.teacher_faults import BatchFaults, Fault, Faults


def batch_config(url: str, **config: Any) -> SeedConfig:
    return seed_config(url, **{"mode": "batch", "poll_s": 0.01, "attempts": 3, **config})


def ledger(lake: Lake, config: SeedConfig) -> Ledger:
    return Ledger(lake, SeedWork(lake, config, captions_of(lake)).draft)


@pytest.fixture(scope="module")
def by_chat(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """The replies that chat completions give."""
    lake = Lake(tmp_path_factory.mktemp("by-chat"))
    with serve() as url:
        seed(lake, seed_config(url))
    return texts(lake.table("replies").latest())


# ------------------------------------------------------------------------------------- an undisturbed run


def test_a_batch_makes_the_dataset_that_chat_makes_for_half_the_money(
    lake: Lake, by_chat: list[tuple[str, str]]
) -> None:
    with serve(faults=Faults(batches=BatchFaults(looks=3))) as url:
        triplets = seed(lake, batch_config(url))
        assert set(answered(url).values()) == {1}
        assert seed(lake, batch_config(url)).record == triplets.record
        assert seed(lake, seed_config(url)).record == triplets.record  # how it was asked is no part of the key
        assert sum(answered(url).values()) == SEEDS
    replies = lake.table("replies").latest()
    assert texts(replies) == by_chat
    usage = replies.usage
    assert usage.usd == pytest.approx((usage.prompt_tokens + usage.completion_tokens) / 1000 / 2)
    assert lake.uncommitted() == []


def test_progress_is_that_of_the_server(local_lake: Lake) -> None:
    with serve(faults=Faults(batches=BatchFaults(looks=5))) as url:
        config = batch_config(url)
        ticks: dict[str, list[int]] = {}
        for step in batch_rounds(local_lake, config, captions_of(local_lake)):
            run_here(step, ticks.setdefault(f"{len(ticks)} {step.name}", []).append)
    assert list(ticks) == ["0 submit batches", "1 wait for batches", "2 collect batches"]
    assert [sum(units) for units in ticks.values()] == [SEEDS] * 3
    waited = [units for units in ticks["1 wait for batches"] if units]
    assert len(waited) == 5 and max(waited) < SEEDS / 2


def test_a_batch_needs_an_address(local_lake: Lake) -> None:
    with pytest.raises(ConfigError, match=r"seed\.mode batch needs seed\.endpoint\.base_url"):
        seed(local_lake, batch_config(""))


# ------------------------------------------------------------------------------------------------ faults


def test_an_expired_batch_is_collected_and_the_rest_submitted_again(
    local_lake: Lake, by_chat: list[tuple[str, str]]
) -> None:
    with serve(faults=Faults(batches=BatchFaults(expiring=2, answered=0.4))) as url:
        seed(local_lake, batch_config(url))
        assert set(answered(url).values()) == {1}
    assert texts(local_lake.table("replies").latest()) == by_chat


def test_a_partly_failed_batch(local_lake: Lake, by_chat: list[tuple[str, str]]) -> None:
    shares = {Fault.FILTERED: 0.2, Fault.SERVER_ERROR: 0.2, Fault.DROP: 0.2}
    with serve(faults=Faults(shares)) as url:
        triplets = seed(local_lake, batch_config(url))
        paid = answered(url)
    replies = dict(texts(local_lake.table("replies").latest()))
    rejects = local_lake.table("rejects").latest()
    reasons = Counter(rejects.read()["reason"].to_pylist())
    assert set(paid.values()) == {1} and sum(paid.values()) == len(replies) - reasons["error_content_filter"]
    assert triplets.manifest.rows == Rows(given=len(replies), out=triplets.rows, rejected=rejects.rows)
    assert triplets.rows >= SEEDS < len(replies), "others were asked about in place of those that were turned down"
    assert 0 < reasons["error_content_filter"] < SEEDS / 2
    assert all(text == replies[name] for name, text in by_chat if replies[name])


def test_rows_that_fail_in_every_round_are_rejects_with_their_reason(local_lake: Lake) -> None:
    shares = {Fault.SERVER_ERROR: 0.15, Fault.NOT_JSON: 0.15, Fault.DROP: 0.15}
    with serve(faults=Faults(shares, first_attempts=None)) as url:
        triplets = seed(local_lake, batch_config(url, shard_rows=40))
    reasons = Counter(local_lake.table("rejects").latest().read()["reason"].to_pylist())
    assert triplets.manifest.rows.given == CAPTIONS and triplets.rows < SEEDS, "there are no more"
    assert {"error_server", "error_bad_body"} <= set(reasons)


def test_batches_that_never_answer_anything_are_an_error(local_lake: Lake) -> None:
    with (
        serve(faults=Faults(batches=BatchFaults(expiring=99, answered=0.0))) as url,
        pytest.raises(EndpointError, match=r"answered nothing in 3 batches.* raise seed\.endpoint\.attempts"),
    ):
        seed(local_lake, batch_config(url))
    assert local_lake.table("replies").datasets() == []


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (BatchFaults(failing=1), "failed: invalid_json_line: line 1 is broken; run again"),
        (BatchFaults(cancelled=1), "was cancelled; run again"),
    ],
)
def test_a_batch_that_fails_or_is_cancelled_stops_the_run_and_the_next_goes_on(
    local_lake: Lake, by_chat: list[tuple[str, str]], faults: BatchFaults, words: str
) -> None:
    with serve(faults=Faults(batches=faults)) as url:
        with pytest.raises(EndpointError, match=words):
            seed(local_lake, batch_config(url))
        seed(local_lake, batch_config(url))
        assert set(answered(url).values()) == {1}
    assert texts(local_lake.table("replies").latest()) == by_chat


def test_a_server_that_turns_everything_down_is_to_blame_and_no_row(local_lake: Lake) -> None:
    with (
        serve(faults=Faults({Fault.BAD_REQUEST: 1.0})) as url,
        pytest.raises(EndpointError, match="turned down all 15 requests of a batch"),
    ):
        seed(local_lake, batch_config(url))
    assert local_lake.table("replies").datasets() == []


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.DROP, Fault.RATE_LIMIT])
def test_a_server_that_is_away_for_a_while_is_waited_for(
    local_lake: Lake, by_chat: list[tuple[str, str]], fault: Fault
) -> None:
    quiet = (Fault.SLOW,) * 12  # nothing befalls the calls that submit three batches
    with serve(faults=Faults(retry_after_s=0.01, batches=BatchFaults(looks=2, calls=(*quiet, *[fault] * 4)))) as url:
        seed(local_lake, batch_config(url, attempts=1))
        assert set(answered(url).values()) == {1}
    assert texts(local_lake.table("replies").latest()) == by_chat


# ----------------------------------------------------------------------------------------------- budgets


def test_a_budget_submits_what_it_pays_for_and_commits_what_it_bought(
    local_lake: Lake, by_chat: list[tuple[str, str]]
) -> None:
    with serve() as url:
        with pytest.raises(BudgetReached, match="committed as triplets"):
            seed(local_lake, batch_config(url, max_usd=6.0))
        bought = sum(answered(url).values())
        replies = local_lake.table("replies").latest()
        assert 0 < bought < SEEDS
        assert 4.0 < replies.usage.usd <= 6.0
        with pytest.raises(BudgetReached):
            seed(local_lake, batch_config(url, max_usd=6.0))
        assert sum(answered(url).values()) == bought
        seed(local_lake, batch_config(url))
        assert set(answered(url).values()) == {1}
    assert texts(local_lake.table("replies").latest()) == by_chat


def test_what_open_batches_may_cost_is_no_money_for_chat(local_lake: Lake) -> None:
    with serve(faults=Faults(batches=BatchFaults(looks=1000))) as url:
        SubmitBatches(local_lake, batch_config(url), captions_of(local_lake)).run(1, lambda _: None)
        (batch,) = ledger(local_lake, batch_config(url)).running()
        config = seed_config(url, max_usd=batch.usd + 2.0)
        with AskForSeeds(local_lake, config, captions_of(local_lake)) as step:
            step.run(0, lambda _: None)
        spent = SeedWork(local_lake, config, captions_of(local_lake)).spent()
    assert 0 < spent <= 2.0


# --------------------------------------------------------------------------------------- stopped anywhere


class _Killed(BaseException):
    """Nothing in the code under test catches it."""


@hypothesis_settings(max_examples=10, deadline=None)
@given(at=st.integers(1, 60), after=st.booleans(), second=st.integers(1, 60))
def test_a_kill_at_any_record_of_the_journals_never_pays_twice(
    tmp_path_factory: pytest.TempPathFactory, by_chat: list[tuple[str, str]], at: int, after: bool, second: int
) -> None:
    lake = Lake(tmp_path_factory.mktemp("killed"))
    commit_captions(lake)
    with pytest.MonkeyPatch.context() as patch, serve(faults=Faults(batches=BatchFaults(expiring=1))) as url:
        append, countdown = LocalJournal.append, [0]

        def dying(journal: LocalJournal, record: Any) -> None:
            countdown[0] -= 1
            if countdown[0] != 0 or after:
                append(journal, record)
            if countdown[0] == 0:
                raise _Killed

        patch.setattr(LocalJournal, "append", dying)
        for kill in (at, second):
            countdown[0] = kill
            try:
                seed(lake, batch_config(url))
            except _Killed:
                continue
        countdown[0] = -1
        seed(lake, batch_config(url))
        assert set(answered(url).values()) == {1}
    assert texts(lake.table("replies").latest()) == by_chat


def test_a_batch_made_in_the_moment_of_a_kill_is_found_again(local_lake: Lake) -> None:
    with serve(faults=Faults(batches=BatchFaults(unheard=1))) as url:
        with pytest.raises(EndpointError, match="could not be reached or dropped"):
            seed(local_lake, batch_config(url, attempts=1))
        (entry,) = ledger(local_lake, batch_config(url)).entries()
        assert entry.file_id is not None and entry.batch_id is None
        with pytest.raises(EndpointError, match="would pay for them twice"):
            seed(local_lake, seed_config(url))
        seed(local_lake, batch_config(url))
        assert set(answered(url).values()) == {1}


def test_the_journals_may_be_lost_too(local_lake: Lake, by_chat: list[tuple[str, str]]) -> None:
    """A lake on a disk that is gone: what the account has been charged for is fetched, not asked again."""
    with serve() as url:
        config = batch_config(url)
        run_here(SubmitBatches(local_lake, config, captions_of(local_lake)))
        local_lake.storage.remove("replies")
        seed(local_lake, config)
        assert set(answered(url).values()) == {1}
    assert texts(local_lake.table("replies").latest()) == by_chat


RUN_SEEDS = """
import sys
sys.path.insert(0, sys.argv[3])
from tests.seeding import captions_of, seed_config
from scot_core.lake import Lake
from scot_core.stages.seed.batch import batch_rounds
from tests.running import run_here
lake, config = Lake(sys.argv[1]), seed_config(sys.argv[2], mode="batch", poll_s=0.05)
for step in batch_rounds(lake, config, captions_of(lake)):
    run_here(step)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_while_it_waits_goes_on_with_its_batches(
    local_lake: Lake, by_chat: list[tuple[str, str]], how: signal.Signals
) -> None:
    commit_captions(local_lake)
    with serve(faults=Faults(batches=BatchFaults(looks=40))) as url:
        config = batch_config(url)
        command = [sys.executable, "-c", RUN_SEEDS, local_lake.url, url, str(Path(__file__).parents[2])]
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
        while len(ledger(local_lake, config).running()) < 3:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(how)
        process.communicate()
        assert process.returncode != 0
        assert not answered(url)
        before = [entry.batch_id for entry in ledger(local_lake, config).running()]
        seed(local_lake, config)
        assert before == ["batch_0000", "batch_0001", "batch_0002"]
        assert set(answered(url).values()) == {1}
    assert texts(local_lake.table("replies").latest()) == by_chat


def test_a_stop_is_noticed_while_waiting(local_lake: Lake) -> None:
    def stopped(units: int) -> None:
        if not units:
            raise RuntimeError("stopped")

    with serve(faults=Faults(batches=BatchFaults(looks=1000))) as url:
        config = batch_config(url, poll_s=3600)
        run_here(SubmitBatches(local_lake, config, captions_of(local_lake)))
        with pytest.raises(RuntimeError, match="stopped"):
            run_here(seed_batch.AwaitBatches(local_lake, config, captions_of(local_lake)), stopped)


def test_waiting_is_a_series_of_short_steps(local_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed_batch, "_LONGEST_WAIT_S", 0.0)
    with serve(faults=Faults(batches=BatchFaults(looks=6))) as url:
        config = batch_config(url)
        names = []
        for step in batch_rounds(local_lake, config, captions_of(local_lake)):
            names.append(step.name)
            run_here(step)
        assert names.count("wait for batches") == 6  # a look each
        replies = run_here(AskForSeeds(local_lake, config, captions_of(local_lake)))["replies"]
    assert replies.rows == SEEDS


@given(st.permutations(range(4)))
def test_a_ledger_reads_its_records_in_any_order(order: list[int]) -> None:
    records: list[dict[str, Any]] = [
        {"ids": ["a", "b"], "usd": 0.5, "file_id": "f"},
        {"batch_id": "b"},
        {"status": "expired", "output_file_id": "o", "error_file_id": "e", "problem": ""},
        {"collected": True},
    ]
    lake = Lake(f"memory://ledger-{'-'.join(map(str, order))}")
    book = ledger(lake, seed_config("http://a/v1"))
    for number in order:
        book.write(2, 1, **records[number])
    assert book.entries() == [BatchEntry(2, 1, ("a", "b"), 0.5, "f", "b", "expired", "o", "e", "", True)]
    lake.storage.remove("")
