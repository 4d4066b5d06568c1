"""The client of remote language models, against a real server that fails on purpose."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import time
import traceback
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from scot_core.catalogue.teacher import serve
from scot_core.errors import BudgetReached, EndpointError
from scot_core.llm import Reply
from scot_core.llm.remote.chat import ChatRequest, highest_price
from scot_core.llm.remote.endpoint import AskTotals, ask
from scot_core.llm.remote.limits import retry_after
from scot_core.triplets import RESPONSE_FORMAT, Rejection, read_reply
from tests.endpoints import KEY, SAMPLING, requests, server
from tests.teacher_faults import Fault, Faults


class Journal(dict[str, Reply]):
    """Replies by caption; a reply that is reported twice fails the test."""

    def __init__(self) -> None:
        super().__init__()
        self.usd = 0.0

    def __call__(self, request_id: str, reply: Reply, usd: float) -> None:
        assert request_id not in self
        self[request_id] = reply
        self.usd += usd


def ask_all(url: str, wanted: Sequence[ChatRequest], **changes: Any) -> tuple[Journal, AskTotals]:
    journal = Journal()
    return journal, ask(server(url, **changes), KEY, wanted, on_reply=journal)


def answered(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/_calls") as response:
        return dict(json.load(response)["answered"])


def always(fault: Fault, **changes: Any) -> Faults:
    return Faults({fault: 1.0}, first_attempts=None, **changes)


@pytest.fixture(scope="module")
def undisturbed() -> Journal:
    with serve() as url:
        return ask_all(url, requests(16))[0]


# ---------------------------------------------------------------------------------------------- replies


def test_every_reply_is_reported_once_whatever_the_order(undisturbed: Journal) -> None:
    wanted = requests(16)
    with serve() as url:
        journal, usage = ask_all(url, wanted[::-1], concurrency=3)
        assert answered(url) == {request.id: 1 for request in wanted}
    assert journal == undisturbed
    assert usage.replies == 16 and usage.retries == 0
    assert usage.prompt_tokens == sum(reply.prompt_tokens for reply in journal.values())
    assert usage.completion_tokens == sum(reply.completion_tokens for reply in journal.values())
    assert usage.usd == pytest.approx((usage.prompt_tokens * 2.5 + usage.completion_tokens * 10) / 1e6)
    assert journal.usd == pytest.approx(usage.usd)


def test_nothing_to_ask_needs_no_server() -> None:
    assert ask(server("http://127.0.0.1:9/v1"), KEY, [], on_reply=Journal()) == AskTotals()


def test_it_runs_inside_a_running_loop() -> None:
    async def notebook(url: str) -> int:
        return len(ask_all(url, requests(5))[0])

    with serve() as url:
        assert asyncio.run(notebook(url)) == 5


@pytest.mark.parametrize(
    "fault",
    [
        Fault.RATE_LIMIT,
        Fault.RATE_LIMIT_DATE,
        Fault.RATE_LIMIT_SILENT,
        Fault.SERVER_ERROR,
        Fault.DROP,
        Fault.HALF_BODY,
        Fault.NOT_JSON,
        Fault.SLOW,
    ],
)
def test_passing_faults_change_nothing_but_the_number_of_tries(fault: Fault, undisturbed: Journal) -> None:
    with serve(faults=Faults({fault: 0.3}, retry_after_s=0.02, slow_s=0.8)) as url:
        journal, usage = ask_all(url, requests(16), timeout_s=0.4 if fault is Fault.SLOW else 10, attempts=6)
        paid = answered(url)
    assert journal == undisturbed
    assert usage.retries > 0
    if fault not in (Fault.HALF_BODY, Fault.SLOW):  # those were written, and did not arrive
        assert set(paid.values()) == {1}


def test_rows_that_fail_for_good_have_their_reasons_and_harm_no_other() -> None:
    reasons = {
        Fault.TRUNCATE: "truncated",
        Fault.WRONG_SCHEMA: "wrong_schema",
        Fault.REFUSE: "refused",
        Fault.APOLOGISE: "refused",
        Fault.FILTERED: "error_content_filter",
        Fault.BAD_REQUEST: "error_bad_request",
    }
    with serve(faults=Faults(dict.fromkeys(reasons, 0.14))) as url:
        journal, usage = ask_all(url, requests(40))
    read = [read_reply(caption, reply.text, reply.finish_reason, "json") for caption, reply in journal.items()]
    rejected = [result.reason for result in read if isinstance(result, Rejection)]
    assert len(journal) == 40 and usage.retries == 0
    assert set(rejected) >= set(reasons.values())
    assert len(rejected) < 40


def test_a_request_that_breaks_the_server_every_time_becomes_a_row_error() -> None:
    wanted = requests(60)
    with serve(faults=Faults({Fault.FILTERED: 0.1})) as url:  # the same requests as below
        hit = [caption for caption, reply in ask_all(url, wanted)[0].items() if reply.finish_reason != "stop"]
    wanted = [r for r in wanted if r.id == hit[0]] + [r for r in wanted if r.id not in hit]
    with serve(faults=Faults({Fault.SERVER_ERROR: 0.1}, first_attempts=None)) as url:
        journal, _ = ask_all(url, wanted, concurrency=2, backoff_s=0.03)
    assert {c: r.finish_reason for c, r in journal.items() if r.finish_reason != "stop"} == {hit[0]: "error:server"}


def test_a_server_without_response_format_is_asked_without(undisturbed: Journal) -> None:
    journal = Journal()
    with serve(faults=always(Fault.NO_FORMAT)) as url:
        ask(server(url), KEY, requests(16, RESPONSE_FORMAT), on_reply=journal)
    assert journal == undisturbed


def test_missing_counts_of_tokens_are_estimated_rather_than_free() -> None:
    completion = {"choices": [{"message": {"content": "twelve bytes"}, "finish_reason": "stop"}]}
    reply = ChatRequest("a", [{"role": "user", "content": "abcdef"}], SAMPLING).read(completion)
    assert reply == Reply("twelve bytes", "stop", 10, 4, counted=False)


# ----------------------------------------------------------------------------------- endpoints that fail


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.RATE_LIMIT_SILENT, "429 3 times in a row.*requests_per_minute"),
        (Fault.SERVER_ERROR, "500 3 times in a row"),
        (Fault.DROP, "dropped the connection 3 times"),
        (Fault.NOT_JSON, "something else than what was asked for"),
        (Fault.UNAUTHORISED, "refuses the key .*SCOT_API_KEY"),
        (Fault.BAD_REQUEST, "turned down 8 requests and answered none: this cannot be asked"),
    ],
)
def test_an_endpoint_that_never_answers_is_an_error_and_no_row_is_blamed(fault: Fault, words: str) -> None:
    journal = Journal()
    with serve(faults=always(fault)) as url, pytest.raises(EndpointError, match=words) as error:
        ask(server(url), KEY, requests(20), on_reply=journal)
    assert not journal
    assert url in str(error.value)


def test_a_server_that_hangs() -> None:
    hangs = always(Fault.SLOW, slow_s=0.4)
    with serve(faults=hangs) as url, pytest.raises(EndpointError, match=r"within 0\.05 s, 2 times.*timeout_s"):
        ask_all(url, requests(2), timeout_s=0.05, attempts=2)


def test_a_server_that_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(EndpointError, match="could not be reached"):
        ask_all(url, requests(3))


def test_a_model_that_does_not_exist() -> None:
    with serve() as url, pytest.raises(EndpointError, match="knows no model 'gpt-none'"):
        ask_all(url, requests(3), model="gpt-none")


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://localhost/v1",
        "",
        "http://[::1/v1",
        "http://localhost:abc/v1",
        "http://localhost:99999",
    ],
)
def test_a_base_url_that_is_none(url: str) -> None:
    with pytest.raises(EndpointError, match="looks like https"):
        ask_all(url, requests(1))


def test_a_few_requests_turned_down_at_the_end_of_a_run_are_reported() -> None:
    with serve(faults=always(Fault.BAD_REQUEST)) as url:
        journal, _ = ask_all(url, requests(2))
    assert [reply.finish_reason for reply in journal.values()] == ["error:bad_request"] * 2


def test_a_reply_that_was_paid_for_is_reported_before_those_that_were_held_back() -> None:
    with serve(faults=Faults({Fault.BAD_REQUEST: 0.3})) as url:
        said, _ = ask_all(url, requests(16))
    refused, fine = (
        next(r for r in requests(16) if (said[r.id].finish_reason == "stop") is good) for good in (False, True)
    )
    kept = Journal()

    def fail_at_the_refused(request_id: str, reply: Reply, usd: float) -> None:
        kept(request_id, reply, usd)
        if reply.finish_reason != "stop":
            raise OSError("no space left")

    with serve(faults=Faults({Fault.BAD_REQUEST: 0.3})) as url:
        with pytest.raises(OSError, match="no space left"):
            ask(server(url, concurrency=1), KEY, [refused, fine], on_reply=fail_at_the_refused)
        assert answered(url) == {fine.id: 1}
    assert fine.id in kept


def test_what_arrived_before_an_error_is_reported_and_not_asked_again() -> None:
    wanted = requests(40)
    kept = Journal()

    def fail_at_the_tenth(request_id: str, reply: Reply, usd: float) -> None:
        kept(request_id, reply, usd)
        if len(kept) == 10:
            raise OSError("no space left")

    with serve() as url:
        with pytest.raises(OSError, match="no space left"):
            ask(server(url), KEY, wanted, on_reply=fail_at_the_tenth)
        assert set(answered(url)) == set(kept)
        assert 10 <= len(kept) <= 10 + 8
        ask(server(url), KEY, [request for request in wanted if request.id not in kept], on_reply=kept)
        assert answered(url) == {request.id: 1 for request in wanted}


def test_an_interrupt_keeps_what_was_reported() -> None:
    journal = Journal()

    def interrupt_at_the_fifth(request_id: str, reply: Reply, usd: float) -> None:
        journal(request_id, reply, usd)
        if len(journal) == 5:
            signal.raise_signal(signal.SIGINT)

    with serve() as url, pytest.raises(KeyboardInterrupt):
        ask(server(url), KEY, requests(30), on_reply=interrupt_at_the_fifth)
    assert 5 <= len(journal) < 30


# ----------------------------------------------------------------------------------------------- limits


def test_the_budget_is_a_hard_stop_that_keeps_what_was_paid() -> None:
    wanted = requests(40)
    max_usd = 0.03
    journal = Journal()
    with serve() as url:
        with pytest.raises(BudgetReached, match="raise max_usd"):
            ask(server(url), KEY, wanted, on_reply=journal, max_usd=max_usd)
        assert answered(url) == dict.fromkeys(journal, 1)
    assert 0 < journal.usd <= max_usd
    assert journal.usd > max_usd - 8 * highest_price(server("http://x"), wanted[0])
    assert len(journal) < 40


def test_what_was_spent_before_counts() -> None:
    with serve() as url:
        with pytest.raises(BudgetReached):
            ask(server(url), KEY, requests(3), on_reply=Journal(), max_usd=1.0, spent_usd=1.0)
        assert answered(url) == {}


def test_retry_after_is_honoured() -> None:
    with serve(faults=Faults({Fault.RATE_LIMIT: 1.0}, retry_after_s=0.3)) as url:
        start = time.monotonic()
        journal, _ = ask_all(url, requests(1))
        assert time.monotonic() - start >= 0.3
    assert len(journal) == 1


def test_a_wait_of_an_hour_is_said_rather_than_slept() -> None:
    patient = always(Fault.RATE_LIMIT, retry_after_s=3600)
    with serve(faults=patient) as url, pytest.raises(EndpointError, match="asks to wait 3600 s"):
        ask_all(url, requests(1))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 37.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:48:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, datetime(1994, 11, 6, 8, 49, 0, tzinfo=UTC)) == seconds


def test_requests_per_minute_spread_the_requests() -> None:
    with serve() as url:
        start = time.monotonic()
        ask_all(url, requests(14), requests_per_minute=600)  # ten at once, then ten a second
        assert time.monotonic() - start >= 0.3


# -------------------------------------------------------------------------------------------------- key


@pytest.mark.parametrize("fault", [Fault.UNAUTHORISED, Fault.BAD_REQUEST, Fault.DROP])
def test_the_key_is_in_no_exception_and_no_log(fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(faults=always(fault)) as url, pytest.raises(EndpointError) as error:
        ask(server(url), KEY, requests(12, RESPONSE_FORMAT), on_reply=Journal())
    said = "".join(traceback.format_exception(error.value)) + repr(error.value) + caplog.text
    said += "".join(repr(record.__dict__) for record in caplog.records)
    assert KEY not in said


def test_a_key_that_cannot_be_sent() -> None:
    with pytest.raises(EndpointError, match="SCOT_API_KEY holds characters") as error:
        ask(server("http://127.0.0.1:9/v1"), "sk-…", requests(1), on_reply=Journal())
    assert "…" not in str(error.value)
