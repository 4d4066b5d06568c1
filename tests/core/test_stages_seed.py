"""Seed triplets from an endpoint: what was answered once is never paid for again, whatever stops the run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.teacher import MODEL, serve
from scot_core.catalogue.teacher_faults import Fault, Faults
from scot_core.catalogue.world import sample
from scot_core.config import EndpointConfig, SeedConfig
from scot_core.errors import BudgetReached, ConfigError, EndpointError
from scot_core.fingerprint import fingerprint
from scot_core.lake import Dataset, Identity, Lake
from scot_core.schema import pair_id
from scot_core.stages.replies import ReadReplies
from scot_core.stages.seed import AskForSeeds, choose
from scot_core.stages.step import run_here

CAPTIONS, SEEDS = 60, 40
SLOW = Faults({Fault.SLOW: 1.0}, first_attempts=None, slow_s=0.1)


def _commit_captions(lake: Lake) -> Dataset:
    rng = random.Random(0)
    texts: dict[str, None] = {}
    while len(texts) < CAPTIONS:
        product = sample(rng, "seen")
        texts[caption(product, mentioned(rng), rng.getrandbits(30))] = None
    ids = [f"image-{number}" for number in range(CAPTIONS)]
    draft = lake.draft(Identity("captions", "shop", "captions", fingerprint("captions", 1, {}, []), {}))
    draft.write_part(
        0,
        {
            "pair_id": [pair_id("shop", image_id, text) for image_id, text in zip(ids, texts, strict=True)],
            "source": ["shop"] * CAPTIONS,
            "image_id": ids,
            "caption": list(texts),
            "image": [{"bytes": b"png", "path": "a.png"}] * CAPTIONS,
        },
    )
    return draft.commit(1, rows_in=CAPTIONS)


def _step(lake: Lake, url: str, *, concurrency: int = 4, max_usd: float | None = None, **config: Any) -> AskForSeeds:
    # a dollar a thousand tokens; the name stands in the identity, so that a teacher on another port is the same
    endpoint = EndpointConfig(
        name="a-teacher", base_url=url, model=MODEL, concurrency=concurrency, attempts=1,
        usd_per_million_prompt=1000, usd_per_million_completion=1000, max_tokens=100,
    )  # fmt: skip
    settings: dict[str, Any] = {"count": SEEDS, "shard_rows": 15, "endpoint": endpoint, "max_usd": max_usd, **config}
    found = lake.table("captions").datasets()
    return AskForSeeds(lake, SeedConfig(**settings), found[0] if found else _commit_captions(lake))


def _answered(url: str) -> Counter[str]:
    with build_opener(ProxyHandler({})).open(url.removesuffix("/v1") + "/_calls") as response:
        return Counter(json.load(response)["answered"])


def _journalled(lake: Lake) -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path(lake.url).glob("replies/*/_journal/*/journal.jsonl"))


def _texts(dataset: Dataset) -> list[tuple[str, str]]:
    table = dataset.read(["pair_id", "text"])
    return list(zip(table["pair_id"].to_pylist(), table["text"].to_pylist(), strict=True))


@pytest.fixture(scope="module")
def quiet_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake whose replies were asked for without any disturbance."""
    lake = Lake(tmp_path_factory.mktemp("undisturbed"))
    with serve() as url:
        run_here(_step(lake, url))
    return lake


@pytest.fixture(scope="module")
def undisturbed(quiet_lake: Lake) -> list[tuple[str, str]]:
    return _texts(quiet_lake.table("replies").latest())


# ------------------------------------------------------------------------------------- an undisturbed run


def test_every_chosen_caption_is_asked_once(local_lake: Lake) -> None:
    ticks: list[int] = []
    with serve() as url:
        (replies,) = run_here(_step(local_lake, url), ticks.append)
        answered = _answered(url)
        assert run_here(_step(local_lake, url))[0].record == replies.record
        assert _answered(url) == answered
    chosen = choose(local_lake.table("captions").latest().read(["pair_id", "caption"]).to_pylist(), SEEDS, 0)
    assert answered == {row["caption"]: 1 for row in chosen}
    rows = replies.read().to_pylist()
    assert [row["pair_id"] for row in rows] == [row["pair_id"] for row in chosen]
    assert {(row["model"], row["attempt"], row["stage"], row["finish_reason"]) for row in rows} == {
        (MODEL, 1, "seed", "stop")
    }
    assert sum(ticks) == SEEDS
    usage = replies.manifest["usage"]
    assert usage["prompt_tokens"] == sum(row["prompt_tokens"] for row in rows) > 0
    assert usage["usd"] == pytest.approx((usage["prompt_tokens"] + usage["completion_tokens"]) / 1000)
    assert [part["rows"] for part in replies.manifest["parts"]] == [15, 15, 10]
    assert "_journal" not in local_lake.storage.names(replies.name)


def test_the_replies_make_triplets(quiet_lake: Lake) -> None:
    captions, replies = (quiet_lake.table(name).latest() for name in ("captions", "replies"))
    rejects, triplets = run_here(ReadReplies(quiet_lake, "seed", "seed", "json", captions, [replies]))
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
    key = _step(local_lake, "http://a/v1").outputs[0].key
    for same in ({"concurrency": 1}, {"max_usd": 3.0}):
        assert _step(local_lake, "http://b/v1", **same).outputs[0].key == key
    others = ({"prompt": "Answer in JSON."}, {"seed": 1}, {"count": 39}, {"shard_rows": 20})
    assert len({key, *(_step(local_lake, "http://a/v1", **other).outputs[0].key for other in others)}) == 5


def test_an_endpoint_without_an_address_is_refused(local_lake: Lake) -> None:
    with pytest.raises(ConfigError, match=r"seed\.endpoint\.base_url is empty: set it to"):
        run_here(_step(local_lake, "", endpoint=EndpointConfig(model="gpt-4o")))


# ------------------------------------------------------------------------------------- interrupted runs


def test_a_run_that_fails_halfway_asks_only_for_what_is_missing(lake: Lake, undisturbed: list[tuple[str, str]]) -> None:
    with serve() as url:
        for stop_at in (1, 20, 36):
            done = 0

            def tick(units: int, stop_at: int = stop_at) -> None:
                nonlocal done
                done += units
                if done >= stop_at:
                    raise RuntimeError("somebody stumbled over the cable")

            with pytest.raises(RuntimeError, match="cable"):
                run_here(_step(lake, url), tick)
            assert lake.table("replies").datasets() == []
        (replies,) = run_here(_step(lake, url))
        # what was on the wire when the run stopped arrives after it and is kept
        assert set(_answered(url).values()) == {1}
    assert _texts(replies) == undisturbed


RUN_SEEDS = """
import sys
sys.path.insert(0, sys.argv[3])
from test_stages_seed import _step
from scot_core.lake import Lake
from scot_core.stages.step import run_here
run_here(_step(Lake(sys.argv[1]), sys.argv[2]))
"""


def test_a_kill_pays_twice_for_nothing_but_what_was_in_flight(
    local_lake: Lake, undisturbed: list[tuple[str, str]]
) -> None:
    _commit_captions(local_lake)
    with serve(faults=SLOW) as url:
        command = [sys.executable, "-c", RUN_SEEDS, local_lake.url, url, str(Path(__file__).parent)]
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while _journalled(local_lake) < 10:
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 10 <= _journalled(local_lake) < SEEDS
        (replies,) = run_here(_step(local_lake, url))
        answered = _answered(url)
    assert max(answered.values()) <= 2
    assert sum(answered.values()) <= SEEDS + 4  # four requests were in flight
    assert _texts(replies) == undisturbed


def test_an_endpoint_that_is_down_leaves_what_was_answered(
    local_lake: Lake, undisturbed: list[tuple[str, str]]
) -> None:
    with serve() as url:
        step = _step(local_lake, url)
        with step:
            step.run(0, lambda _: None)
    down = _step(local_lake, url)
    with pytest.raises(EndpointError, match="could not be reached"), down:
        assert not down.run(0, lambda _: None)
        down.run(1, lambda _: None)
    with serve() as url:
        (replies,) = run_here(_step(local_lake, url))
        assert sum(_answered(url).values()) == SEEDS - 15
    assert _texts(replies) == undisturbed


def test_a_budget_stops_the_run_and_a_larger_one_goes_on(local_lake: Lake, undisturbed: list[tuple[str, str]]) -> None:
    with serve() as url:
        with pytest.raises(BudgetReached, match="raise max_usd to go on"):
            run_here(_step(local_lake, url, max_usd=9.0))
        first = sum(_answered(url).values())
        assert 0 < first < SEEDS
        with pytest.raises(BudgetReached):
            run_here(_step(local_lake, url, max_usd=9.0))
        assert sum(_answered(url).values()) == first
        (replies,) = run_here(_step(local_lake, url))
        assert set(_answered(url).values()) == {1}
    assert replies.manifest["usage"]["usd"] > 9.0
    assert _texts(replies) == undisturbed


def test_a_budget_counts_every_shard_whatever_their_order(local_lake: Lake) -> None:
    with serve() as url:
        for shard in (2, 0, 1, 0, 2, 1):
            step = _step(local_lake, url, max_usd=9.0)
            with pytest.raises(BudgetReached), step:
                step.run(shard, lambda _: None)
                step.run((shard + 1) % 3, lambda _: None)
        answered = sum(_answered(url).values())
        (replies,) = run_here(_step(local_lake, url))
    assert sum(replies.read()["usd"].to_pylist()[:1]) * answered == pytest.approx(9.0, rel=0.3)
    assert answered < SEEDS


def test_what_a_server_turns_down_or_spoils_is_kept_as_a_reply(local_lake: Lake) -> None:
    shares = {Fault.TRUNCATE: 0.2, Fault.REFUSE: 0.2, Fault.WRONG_SCHEMA: 0.2, Fault.FILTERED: 0.2}
    with serve(faults=Faults(shares)) as url:
        (replies,) = run_here(_step(local_lake, url))
    captions = local_lake.table("captions").latest()
    rejects, triplets = run_here(ReadReplies(local_lake, "seed", "seed", "json", captions, [replies]))
    assert triplets.manifest["rows"] == {"in": SEEDS, "out": triplets.rows, "rejected": rejects.rows}
    reasons = Counter(rejects.read()["reason"].to_pylist())
    assert {"truncated", "refused", "wrong_schema", "error_content_filter"} <= set(reasons)
    assert 0 < triplets.rows < SEEDS
