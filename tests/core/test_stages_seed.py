"""Seed triplets from an endpoint: what was answered once is never paid for again, whatever stops the run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scot_core.catalogue.teacher import MODEL, serve
from scot_core.config import EndpointConfig, SeedConfig, profile, with_overrides
from scot_core.config.prices import PRICES
from scot_core.errors import BudgetReached, ConfigError, EndpointError
from scot_core.lake import Lake
from scot_core.lake.manifest import Rows
from scot_core.stages import recipes
from scot_core.stages.replies import reading
from scot_core.stages.replies.read import ReadReplies
from scot_core.stages.seed.ask import AskForSeeds, choose
from scot_core.stages.step import Committed, Tick, Work
from scot_core.triplets import Parsed, Rejection, read_reply
from tests.running import run_here
from tests.seeding import CAPTIONS, SEEDS, answered, captions_of, commit_captions, seed, seed_config, texts
from tests.teacher_faults import Fault, Faults

SLOW = Faults({Fault.SLOW: 1.0}, first_attempts=None, slow_s=0.1)


def _step(lake: Lake, url: str, **config: Any) -> AskForSeeds:
    return AskForSeeds(lake, seed_config(url, **config), captions_of(lake))


def _journalled(lake: Lake) -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path(lake.url).glob("replies/*/_journal/*/journal.jsonl"))


@pytest.fixture(scope="module")
def quiet_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake whose replies were asked for without any disturbance."""
    lake = Lake(tmp_path_factory.mktemp("undisturbed"))
    with serve() as url:
        run_here(_step(lake, url))
    return lake


@pytest.fixture(scope="module")
def undisturbed(quiet_lake: Lake) -> list[tuple[str, str]]:
    return texts(quiet_lake.table("replies").latest())


# ------------------------------------------------------------------------------------- an undisturbed run


def test_every_chosen_caption_is_asked_once(local_lake: Lake) -> None:
    ticks: list[int] = []
    with serve() as url:
        replies = run_here(_step(local_lake, url), ticks.append)["replies"]
        paid = answered(url)
        assert run_here(_step(local_lake, url))["replies"].record == replies.record
        assert answered(url) == paid
    chosen = choose(local_lake.table("captions").latest().read(["pair_id", "caption"]).to_pylist(), SEEDS, 0)
    assert paid == {row["caption"]: 1 for row in chosen}
    rows = replies.read().to_pylist()
    assert [row["pair_id"] for row in rows] == [row["pair_id"] for row in chosen]
    assert {(row["model"], row["attempt"], row["stage"], row["finish_reason"]) for row in rows} == {
        (MODEL, 1, "seed", "stop")
    }
    assert sum(ticks) == SEEDS
    usage = replies.usage
    assert usage.prompt_tokens == sum(row["prompt_tokens"] for row in rows) > 0
    assert usage.usd == pytest.approx((usage.prompt_tokens + usage.completion_tokens) / 1000)
    assert [part.rows for part in replies.parts] == [15, 15, 10]
    assert "_journal" not in local_lake.storage.names(replies.name)


def test_the_replies_make_triplets(quiet_lake: Lake) -> None:
    captions, replies = (quiet_lake.table(name).latest() for name in ("captions", "replies"))
    rejects, triplets = run_here(ReadReplies(quiet_lake, "seed", "seed", "json", captions, [replies])).values()
    assert triplets.rows + rejects.rows == SEEDS
    assert triplets.rows > 0.9 * SEEDS


def test_the_choice_depends_on_ids_and_seed_alone() -> None:
    rows = [{"pair_id": f"{number:x}", "caption": "x"} for number in range(50)]
    chosen = choose(rows, 20, 0)
    assert chosen == [row for row in rows if row in chosen]
    assert sorted(row["pair_id"] for row in choose(rows[::-1], 20, 0)) == sorted(row["pair_id"] for row in chosen)
    assert choose(rows, 20, 1) != chosen
    assert [row for row in choose(rows, 30, 0) if row in chosen] == chosen
    with pytest.raises(ConfigError, match=r"seed\.count is 51, but there are only 50 captions"):
        choose(rows, 51, 0)


def test_what_is_sent_makes_the_key_and_how_it_is_sent_does_not(local_lake: Lake) -> None:
    key = _step(local_lake, "http://a/v1").outputs["replies"].key
    for same in ({"concurrency": 1}, {"max_usd": 3.0}):
        assert _step(local_lake, "http://b/v1", **same).outputs["replies"].key == key
    others = ({"prompt": "Answer in JSON."}, {"seed": 1}, {"count": 39}, {"shard_rows": 20})
    assert len({key, *(_step(local_lake, "http://a/v1", **other).outputs["replies"].key for other in others)}) == 5


def test_an_endpoint_without_an_address_is_refused(local_lake: Lake) -> None:
    with pytest.raises(ConfigError, match=r"seed\.endpoint\.base_url is empty: set it to"):
        run_here(_step(local_lake, "", endpoint=EndpointConfig(model="gpt-4o")))


# ------------------------------------------------------------------------------- in place of what was rejected

SPOILED = Faults({Fault.WRONG_SCHEMA: 0.2})


@pytest.mark.parametrize("mode", ["chat", "batch"])
def test_more_are_asked_until_as_many_triplets_are_kept_as_are_wanted(lake: Lake, mode: str) -> None:
    with serve(faults=SPOILED) as url:
        config = seed_config(url, mode=mode, poll_s=0.01, max_usd=100.0)
        triplets, paid = seed(lake, config), answered(url)
        replies, rejects = (lake.table(name).latest() for name in ("replies", "rejects"))
        assert triplets.rows >= SEEDS and triplets.manifest.rows == Rows(
            given=replies.rows, out=triplets.rows, rejected=rejects.rows
        )
        assert set(paid.values()) == {1} and len(paid) == replies.rows > SEEDS
        assert seed(lake, config).record == triplets.record and answered(url) == paid
    rounds = [dataset for dataset in lake.table("replies").datasets() if dataset.rows]
    first, last = dict(texts(min(rounds, key=lambda d: d.rows))), dict(texts(replies))
    assert len(first) == SEEDS and first.items() <= last.items()
    assert replies.usage.usd == pytest.approx(sum(replies.read()["usd"].to_pylist()))


def test_a_reply_is_judged_once_however_many_rounds_there_are(
    local_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[str, str]] = []

    def counted(caption: str, text: str, *of: Any) -> Parsed | Rejection:
        judged.append((caption, text))
        return read_reply(caption, text, *of)

    monkeypatch.setattr(reading, "read_reply", counted)
    reading._judged.cache_clear()
    with serve(faults=SPOILED) as url:
        seed(local_lake, seed_config(url))
    replies = local_lake.table("replies").latest()
    assert len(local_lake.table("replies").datasets()) > 1
    assert len(judged) == len(set(judged)) and {text for _, text in judged} == set(replies.read()["text"].to_pylist())


def test_captions_may_run_out_first_and_money_too(local_lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    with serve(faults=Faults({Fault.WRONG_SCHEMA: 0.6})) as url:
        triplets = seed(local_lake, seed_config(url))
        assert triplets.manifest.rows.given == CAPTIONS and "seed.count is 40, and" in caplog.text
        spent = local_lake.table("replies").latest().usage.usd
        with pytest.raises(BudgetReached, match=r"seed\.max_usd is reached"):
            seed(local_lake, seed_config(url, seed=1, max_usd=0.9 * spent))
        before = answered(url)
        partial = seed(local_lake, seed_config(url, seed=1, max_usd=0.9 * spent, accept_partial=True))
        assert 0 < partial.rows < SEEDS and answered(url) == before


def test_a_further_round_that_is_stopped_goes_on_and_ends_in_the_same_key(
    local_lake: Lake, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serve(faults=SPOILED) as url:
        whole = seed(local_lake, seed_config(url)).record
        other = Lake(tmp_path_factory.mktemp("stopped"))
        before = answered(url)

        def stopping(work: Work) -> Committed:
            if work.name == "ask for more in place of rejects" and not stopped:
                stopped.append(True)
                with pytest.raises(RuntimeError, match="cable"):
                    run_here(work, _cable(SEEDS + 2))
            return run_here(work)

        stopped: list[bool] = []
        found = recipes.seed(stopping, other, seed_config(url), captions_of(other)).record
        assert stopped and (found.key, found.rows) == (whole.key, whole.rows)
        assert {number - before[text] for text, number in answered(url).items()} == {1}


def _cable(stop_at: int) -> Tick:
    done = [0]

    def tick(units: int) -> None:
        done[0] += units
        if done[0] >= stop_at:
            raise RuntimeError("somebody stumbled over the cable")

    return tick


# ------------------------------------------------------------------------------------- interrupted runs


def test_a_run_that_fails_halfway_asks_only_for_what_is_missing(lake: Lake, undisturbed: list[tuple[str, str]]) -> None:
    with serve() as url:
        for stop_at in (1, 20, 36):
            with pytest.raises(RuntimeError, match="cable"):
                run_here(_step(lake, url), _cable(stop_at))
            assert lake.table("replies").datasets() == []
        replies = run_here(_step(lake, url))["replies"]
        # what was on the wire when the run stopped arrives after it and is kept
        assert set(answered(url).values()) == {1}
    assert texts(replies) == undisturbed


RUN_SEEDS = """
import sys
sys.path.insert(0, sys.argv[3])
from tests.seeding import captions_of, seed_config
from scot_core.lake import Lake
from scot_core.stages.seed.ask import AskForSeeds
from tests.running import run_here
lake = Lake(sys.argv[1])
run_here(AskForSeeds(lake, seed_config(sys.argv[2]), captions_of(lake)))
"""


def test_a_kill_pays_twice_for_nothing_but_what_was_in_flight(
    local_lake: Lake, undisturbed: list[tuple[str, str]]
) -> None:
    commit_captions(local_lake)
    with serve(faults=SLOW) as url:
        command = [sys.executable, "-c", RUN_SEEDS, local_lake.url, url, str(Path(__file__).parents[2])]
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while _journalled(local_lake) < 10:
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 10 <= _journalled(local_lake) < SEEDS
        replies = run_here(_step(local_lake, url))["replies"]
        paid = answered(url)
    assert max(paid.values()) <= 2
    assert sum(paid.values()) <= SEEDS + 4  # four requests were in flight
    assert texts(replies) == undisturbed


def test_an_endpoint_that_is_down_leaves_what_wasanswered(local_lake: Lake, undisturbed: list[tuple[str, str]]) -> None:
    with serve() as url:
        step = _step(local_lake, url)
        with step:
            step.run(0, lambda _: None)
    down = _step(local_lake, url)
    with pytest.raises(EndpointError, match="could not be reached"), down:
        assert not down.run(0, lambda _: None)
        down.run(1, lambda _: None)
    with serve() as url:
        replies = run_here(_step(local_lake, url))["replies"]
        assert sum(answered(url).values()) == SEEDS - 15
    assert texts(replies) == undisturbed


def test_a_budget_commits_what_it_bought_and_a_larger_one_buys_the_rest(
    lake: Lake, undisturbed: list[tuple[str, str]]
) -> None:
    with serve() as url:
        with pytest.raises(BudgetReached, match=r"committed as triplets/.*Raise it to go on \(nothing is paid twice\)"):
            seed(lake, seed_config(url, max_usd=9.0))
        first = sum(answered(url).values())
        assert 0 < first < SEEDS
        replies, triplets, rejects = (lake.table(name).latest() for name in ("replies", "triplets", "rejects"))
        assert replies.usage.usd <= 9.0
        assert replies.manifest.rows == Rows(given=SEEDS, out=SEEDS, rejected=0)
        assert triplets.manifest.rows == Rows(given=SEEDS, out=triplets.rows, rejected=rejects.rows)
        assert Counter(rejects.read()["reason"].to_pylist())["budget_reached"] == SEEDS - first

        with pytest.raises(BudgetReached):  # the same again, or less, is found and costs nothing
            seed(lake, seed_config(url, max_usd=9.0))
        taken = seed(lake, seed_config(url, max_usd=8.0, accept_partial=True))
        assert (taken.record, sum(answered(url).values())) == (triplets.record, first)
        assert len(lake.table("replies").datasets()) == 1

        with pytest.raises(BudgetReached):
            seed(lake, seed_config(url, max_usd=12.0))
        assert first < sum(answered(url).values()) < SEEDS
        whole = seed(lake, seed_config(url, max_usd=100.0))
        assert set(answered(url).values()) == {1}
    assert texts(lake.table("replies").latest()) == undisturbed
    assert whole.rows > 0.9 * SEEDS and whole.key != triplets.key


def test_a_run_that_was_killed_after_a_budget_was_raised_is_no_excuse_to_pay_twice(local_lake: Lake) -> None:
    with serve() as url:
        with pytest.raises(BudgetReached):
            seed(local_lake, seed_config(url, max_usd=9.0))

        def stumble(units: int) -> None:
            raise RuntimeError("somebody stumbled over the cable")

        with pytest.raises(RuntimeError, match="cable"), _step(local_lake, url, max_usd=20.0) as step:
            step.run(2, stumble)
        with _step(local_lake, url, max_usd=20.0) as step, contextlib.suppress(RuntimeError):
            step.run(1, lambda units: stumble(units) if units == 1 else None)
        paid = sum(answered(url).values())
        bought = seed(local_lake, seed_config(url, max_usd=9.0, accept_partial=True))
        assert sum(answered(url).values()) == paid
        assert bought.manifest.rows.given == SEEDS
        seed(local_lake, seed_config(url))
        assert set(answered(url).values()) == {1}


def test_a_budget_that_pays_for_nothing_commits_nothing(local_lake: Lake) -> None:
    with serve() as url:
        with pytest.raises(BudgetReached, match="does not pay for a single request"):
            seed(local_lake, seed_config(url, max_usd=0.001))
        assert not answered(url)
    assert local_lake.table("replies").datasets() == []


def test_a_budget_counts_every_shard_whatever_their_order(local_lake: Lake) -> None:
    with serve() as url:
        for shard in (2, 0, 1, 0, 2, 1):
            with _step(local_lake, url, max_usd=9.0) as step:
                step.run(shard, lambda _: None)
                step.run((shard + 1) % 3, lambda _: None)
        paid = sum(answered(url).values())
        replies = run_here(_step(local_lake, url))["replies"]
    assert sum(replies.read()["usd"].to_pylist()[:1]) * paid == pytest.approx(9.0, rel=0.3)
    assert paid < SEEDS


@pytest.mark.parametrize("model", ["gpt-5-imagined", "my-own"])
def test_a_budget_for_a_model_without_a_price_is_refused_before_anything_is_sent(model: str) -> None:
    endpoint = EndpointConfig(base_url="http://127.0.0.1:9/v1", model=model)
    with pytest.raises(ConfigError, match=r"set seed\.endpoint\.usd_per_million_prompt"):
        SeedConfig(endpoint=endpoint, max_usd=3.0)
    with pytest.raises(ConfigError, match=model):
        with_overrides(profile("smoke"), [f"seed.endpoint.model={model}", "seed.max_usd=3"])
    priced = endpoint.model_copy(update={"usd_per_million_prompt": 1.0, "usd_per_million_completion": 2.0})
    assert SeedConfig(endpoint=priced, max_usd=3.0).endpoint.price == (1.0, 2.0)


def test_prices_come_from_the_table_where_none_are_given() -> None:
    assert EndpointConfig(model="gpt-4o").price == PRICES["gpt-4o"]
    assert EndpointConfig(model="gpt-4o-2024-08-06").price == PRICES["gpt-4o"]
    assert EndpointConfig(model="gpt-4-0613").price == PRICES["gpt-4"]
    assert EndpointConfig(model="gpt-4o", usd_per_million_prompt=1.5).price == (1.5, PRICES["gpt-4o"].completion)
    assert (
        EndpointConfig(model="gpt-4o", usd_per_million_prompt=9).identity() == EndpointConfig(model="gpt-4o").identity()
    )


def test_faults_that_pass_leave_no_trace_in_the_replies(local_lake: Lake, undisturbed: list[tuple[str, str]]) -> None:
    passing = (
        Fault.RATE_LIMIT, Fault.RATE_LIMIT_DATE, Fault.RATE_LIMIT_SILENT, Fault.SERVER_ERROR,
        Fault.SLOW, Fault.DROP, Fault.HALF_BODY, Fault.NOT_JSON,
    )  # fmt: skip
    faults = Faults(dict.fromkeys(passing, 0.1), retry_after_s=0.02, slow_s=3.0)
    with serve(faults=faults) as url:
        config = seed_config(url, attempts=6, timeout_s=1.5, concurrency=16, tokens_per_minute=10_000_000)
        triplets = seed(local_lake, config)
    assert texts(local_lake.table("replies").latest()) == undisturbed
    assert triplets.manifest.rows.given == SEEDS


def test_what_a_server_turns_down_or_spoils_is_kept_as_a_reply(local_lake: Lake) -> None:
    shares = {Fault.TRUNCATE: 0.2, Fault.REFUSE: 0.2, Fault.WRONG_SCHEMA: 0.2, Fault.FILTERED: 0.2}
    with serve(faults=Faults(shares)) as url:
        replies = run_here(_step(local_lake, url))["replies"]
    captions = local_lake.table("captions").latest()
    rejects, triplets = run_here(ReadReplies(local_lake, "seed", "seed", "json", captions, [replies])).values()
    assert triplets.manifest.rows == Rows(given=SEEDS, out=triplets.rows, rejected=rejects.rows)
    reasons = Counter(rejects.read()["reason"].to_pylist())
    assert {"truncated", "refused", "wrong_schema", "error_content_filter"} <= set(reasons)
    assert 0 < triplets.rows < SEEDS
