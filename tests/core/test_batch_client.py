"""The Batch API's client, against a real server that loses files, answers and whole batches."""

from __future__ import annotations

import json
import logging
import traceback
import urllib.request
from typing import Any

import pytest

from scot_core.catalogue.teacher import serve
from scot_core.catalogue.teacher_batches import _Batch
from scot_core.errors import ConfigError, EndpointError
from scot_core.llm import Reply
from scot_core.llm.remote import batch as batch_module
from scot_core.llm.remote.batch import Batch, BatchClient
from scot_core.llm.remote.endpoint import ask
from tests.endpoints import KEY, requests, server
from tests.teacher_faults import BatchFaults, Fault, Faults

LABEL = {"scot_dataset": "replies/x", "scot_shard": "0", "scot_round": "1"}


def run_batch(client: BatchClient, count: int = 12) -> tuple[Batch, dict[str, Reply | str]]:
    """Upload, create, look until it has ended, and fetch what it says."""
    wanted = requests(count)
    batch = client.create(client.upload("x.jsonl", wanted), LABEL)
    while not batch.has_ended:
        batch = client.look(batch.id)
    answers: dict[str, Reply | str] = {}
    for file_id in (batch.output_file_id, batch.error_file_id):
        answers.update(client.answers(file_id, {request.id: request for request in wanted}))
    return batch, answers


def open_client(url: str, **changes: Any) -> BatchClient:
    return BatchClient(server(url, **changes), KEY)


def test_a_batch_answers_what_chat_answers() -> None:
    chat: dict[str, Reply] = {}
    with serve(faults=Faults(batches=BatchFaults(looks=3))) as url:
        client = open_client(url)
        batch, answers = run_batch(client)
        ask(server(url), KEY, requests(12), on_reply=lambda name, reply, usd: chat.update({name: reply}))
    assert batch.status == "completed" and batch.done == 12
    assert answers == chat


def test_how_far_it_is_can_be_seen() -> None:
    with serve(faults=Faults(batches=BatchFaults(looks=4))) as url:
        client = open_client(url)
        batch = client.create(client.upload("x.jsonl", requests(12)), LABEL)
        seen = [client.look(batch.id) for _ in range(4)]
    assert [(b.status, b.done) for b in seen] == [
        ("in_progress", 3), ("in_progress", 6), ("in_progress", 9), ("completed", 12),
    ]  # fmt: skip


@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize(
    "fault", [Fault.RATE_LIMIT, Fault.RATE_LIMIT_SILENT, Fault.SERVER_ERROR, Fault.DROP, Fault.NOT_JSON]
)
def test_calls_that_fail_are_repeated(fault: Fault, calls: int) -> None:
    faults = Faults(retry_after_s=0.01, batches=BatchFaults(calls=(fault,) * calls))
    with serve(faults=faults) as url:
        client = open_client(url, attempts=5)
        batch, answers = run_batch(client)
    assert batch.id == "batch_0000" and len(answers) == 12


def test_a_batch_whose_making_was_not_heard_of_is_found_again() -> None:
    with serve(faults=Faults(batches=BatchFaults(unheard=1))) as url:
        client = open_client(url)
        file_id = client.upload("x.jsonl", requests(3))
        assert client.find(LABEL) is None
        first = client.create(file_id, LABEL)
        again, other = client.create(file_id, LABEL), client.create(file_id, {**LABEL, "scot_round": "2"})
    assert (first.id, again.id, other.id) == ("batch_0000", "batch_0000", "batch_0001")


@pytest.mark.parametrize("says_when", [True, False])
def test_it_is_found_on_the_second_page(says_when: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said = _Batch.as_json
    if not says_when:
        monkeypatch.setattr(_Batch, "as_json", lambda made: {k: v for k, v in said(made).items() if k != "created_at"})
    with serve() as url:
        client = open_client(url)
        file_id = client.upload("x.jsonl", requests(1))
        for number in range(105):  # as other programs do, without looking first
            body = json.dumps({"input_file_id": file_id, "metadata": {"other": str(number)}}).encode()
            urllib.request.urlopen(f"{url}/batches", body).close()
        found = client.find({"other": "2"})
    assert found is not None and found.id == "batch_0002"


def test_rows_end_as_replies_or_wait_for_another_round() -> None:
    shares = dict.fromkeys((Fault.FILTERED, Fault.BAD_REQUEST, Fault.SERVER_ERROR, Fault.DROP, Fault.NOT_JSON), 0.17)
    with serve(faults=Faults(shares)) as url:
        client = open_client(url)
        batch, answers = run_batch(client, 60)
    kinds = {answer.finish_reason if isinstance(answer, Reply) else answer for answer in answers.values()}
    assert kinds == {"stop", "error:content_filter", "error:bad_request", "server", "bad_body"}
    assert len(answers) < 60  # what was dropped is in neither file
    assert batch.status == "completed"


def test_an_expired_batch_says_which_rows_are_left() -> None:
    with serve(faults=Faults(batches=BatchFaults(expiring=1, answered=0.75))) as url:
        client = open_client(url)
        batch, answers = run_batch(client)
    assert batch.status == "expired"
    assert sorted(isinstance(answer, Reply) for answer in answers.values()) == [False] * 3 + [True] * 9
    assert {answer for answer in answers.values() if isinstance(answer, str)} == {"expired"}


def test_a_batch_that_fails_its_validation_says_why() -> None:
    with serve(faults=Faults(batches=BatchFaults(failing=1))) as url:
        client = open_client(url)
        batch, answers = run_batch(client)
    assert batch.status == "failed" and batch.problem == "invalid_json_line: line 1 is broken"
    assert answers == {}


def test_what_the_server_no_longer_has_is_said() -> None:
    with serve() as url:
        client = open_client(url)
        with pytest.raises(EndpointError, match=r"knows no batch batch_9 \(404\): is the key"):
            client.look("batch_9")
        with pytest.raises(EndpointError, match="no longer has the file file-9"):
            list(client.answers("file-9", {}))
        with pytest.raises(EndpointError, match="turned down a batch: there is no file file-9"):
            client.create("file-9", LABEL)


def test_a_server_without_batches_is_said() -> None:
    with serve() as url:
        elsewhere = url.removesuffix("/v1") + "/v2"
        with pytest.raises(EndpointError, match="has no Batch API here"):
            open_client(elsewhere).upload("x.jsonl", requests(1))


def test_a_batch_too_large_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "_MAX_REQUESTS", 5)
    with pytest.raises(ConfigError, match=r"lower seed\.shard_rows"):
        open_client("http://127.0.0.1:9/v1").upload("x.jsonl", requests(6))


@pytest.mark.parametrize("fault", [Fault.UNAUTHORISED, Fault.BAD_REQUEST])
def test_the_key_is_in_no_exception_and_no_log(fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(faults=Faults(batches=BatchFaults(calls=(fault,) * 9))) as url:
        client = open_client(url)
        with pytest.raises(EndpointError) as error:
            run_batch(client)
        said = "".join(traceback.format_exception(error.value)) + repr(error.value) + caplog.text + repr(vars(client))
    said += "".join(repr(record.__dict__) for record in caplog.records)
    assert KEY not in said
