"""Tokens per minute: spread evenly, corrected by what was used, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scot_core.catalogue.teacher import serve
from scot_core.llm.remote.endpoint import AskTotals, ask
from scot_core.llm.remote.limits import TokenBucket
from tests.endpoints import KEY, SAMPLING, requests, server
from tests.teacher_faults import Fault, Faults


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(1, 900), st.floats(0, 1)), min_size=1, max_size=60), st.integers(60, 6000))
def test_no_minute_sees_more_tokens_than_allowed(sent: list[tuple[int, float]], per_minute: int) -> None:
    async def play() -> list[tuple[float, int]]:
        clock = Clock()
        bucket = TokenBucket(per_minute, clock)
        used = []
        for set_aside, share in sent:
            clock.now += bucket.wait_s(set_aside) + 1e-6
            await bucket.acquire(set_aside)
            tokens = int(set_aside * share)
            bucket.give_back(set_aside - tokens)
            used.append((clock.now, tokens))
        return used

    used = asyncio.run(play())
    burst, largest = per_minute / 30, max(tokens for tokens, _ in sent)
    for start, _ in used:
        inside = sum(tokens for at, tokens in used if start <= at < start + 60)
        assert inside <= per_minute + burst + largest + 1


def test_a_request_larger_than_the_bucket_waits_until_it_is_empty() -> None:
    async def play() -> list[float]:
        clock = Clock()
        bucket = TokenBucket(600, clock)  # ten a second, twenty at once
        waits = [bucket.wait_s(500)]
        await bucket.acquire(500)
        waits.append(bucket.wait_s(500))
        clock.now = 20.0
        waits.append(bucket.wait_s(5))
        bucket.give_back(500)
        return [*waits, bucket.wait_s(20)]

    assert asyncio.run(play()) == [0.0, 50.0, 28.5, 0.0]


def test_what_was_not_used_is_given_back_to_who_waits() -> None:
    async def play() -> float:
        bucket = TokenBucket(600)
        await bucket.acquire(3600)  # six minutes' worth
        waiting = asyncio.create_task(bucket.acquire(10))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        bucket.give_back(3600)
        await asyncio.wait_for(waiting, 60)
        return bucket.wait_s(20)

    assert 0 < asyncio.run(play()) <= 1.0


def test_tokens_per_minute_spread_the_requests() -> None:
    usage: list[AskTotals] = []
    with serve() as url:
        one = ask(server(url), KEY, requests(1), on_reply=lambda *_: None)
        tokens = one.prompt_tokens + one.completion_tokens
        start = time.monotonic()
        # two seconds' worth at once, then sixty a second: a hundred and forty take more than a fifth of a second
        limited = server(url, tokens_per_minute=tokens * 60 * 60)
        wanted = requests(140, sampling=replace(SAMPLING, max_tokens=60))
        usage.append(ask(limited, KEY, wanted, on_reply=lambda *_: None))
        assert time.monotonic() - start >= 0.2
    assert usage[0].replies == 140


def test_a_request_that_failed_counts_whole_and_the_run_goes_on() -> None:
    with serve(faults=Faults({Fault.RATE_LIMIT: 0.5}, retry_after_s=0.01)) as url:
        limited = server(url, tokens_per_minute=6_000_000)
        assert ask(limited, KEY, requests(16), on_reply=lambda *_: None).replies == 16
