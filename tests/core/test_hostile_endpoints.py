"""Servers that answer with something else than what was asked for: an error that says what to do, in time."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from scot_core.errors import EndpointError
from scot_core.llm import Reply
from scot_core.llm.remote import batch as batch_module
from scot_core.llm.remote.batch import BatchClient
from scot_core.llm.remote.connection import LARGEST_REPLY
from scot_core.llm.remote.endpoint import ask
from tests.endpoints import KEY, request, server
from tests.hostile import Asked, answering, completion

Answer = Callable[[Asked], object]


def drip_headers(asked: Asked) -> None:
    asked.handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    asked.pour(b"x", 0.01)


def drip_body(asked: Asked) -> None:
    asked.head(Content_Type="application/json", Content_Length="100000000")
    asked.pour(b" ", 0.01)


def endless(asked: Asked) -> None:
    asked.head(Content_Type="application/json", Connection="close")
    asked.pour(b" " * 65536)


def endless_error(asked: Asked) -> None:
    asked.head(500, Content_Type="application/json", Connection="close")
    asked.pour(b" " * 65536)


def bomb(asked: Asked) -> None:
    asked.send(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")


def cut(asked: Asked) -> None:
    asked.head(Content_Type="application/json", Content_Length="100", Connection="close")
    asked.handler.wfile.write(b"{")
    asked.handler.close_connection = True


def sends(content: bytes | str, status: int = 200, **headers: str) -> Answer:
    return lambda asked: asked.send(content, status, **headers)


NOTHING_OF_THE_KIND = "answered with something else than what was asked for 2 times"
ERRORS: dict[str, tuple[Answer, str]] = {
    "a byte now and then": (drip_body, r"did not answer within 0\.3 s, 2 times"),
    "headers a byte at a time": (drip_headers, r"did not answer within 0\.3 s, 2 times"),
    "a body without an end": (endless, "answered with more than any reply has, 2 times"),
    "an error without an end": (endless_error, "answered with more than any reply has, 2 times"),
    "a packed bomb": (bomb, NOTHING_OF_THE_KIND),
    "a body that is cut": (cut, "dropped the connection 2 times"),
    "another content type": (sends(completion("a"), Content_Type="text/html"), NOTHING_OF_THE_KIND),
    "nested lists": (sends("[" * 200_000), NOTHING_OF_THE_KIND),
    "bytes that are no text": (sends(b'{"choices": "\xff\xfe"}'), NOTHING_OF_THE_KIND),
    "null": (sends("null"), NOTHING_OF_THE_KIND),
    "an empty body": (sends(""), NOTHING_OF_THE_KIND),
    "no content at all": (sends("", 204), NOTHING_OF_THE_KIND),
    "choices that are none": (sends('{"choices": {"0": {}}}'), NOTHING_OF_THE_KIND),
    "a choice that is none": (sends('{"choices": [null]}'), NOTHING_OF_THE_KIND),
    "a message that is a list": (sends('{"choices": [{"message": []}]}'), NOTHING_OF_THE_KIND),
    "content that is a number": (sends(completion(5)), NOTHING_OF_THE_KIND),
    "a status that nobody knows": (sends("{}", 599), "answered 599 2 times"),
    "a wait that is no number": (sends("{}", 429, Retry_After="nan"), "answered 429 2 times"),
    "a wait without an end": (sends("{}", 429, Retry_After="inf"), "asks to wait inf s"),
    "a date that is none": (sends("{}", 429, Retry_After="Sun, 06 Nov 1994 08:49:37 +999999999"), "429 2 times"),
    "a terminal's escape": (sends('{"error": {"message": "\\u001b[2Jno\\r\\n"}}', 418), r"418: \\u001b\[2Jno"),
    "a redirect to itself": (sends("", 307, Location="/v1/elsewhere"), r"redirects to 127\.0\.0\.1 \(307\)"),
    "a redirect to nowhere": (sends("", 302), "redirects to 127"),
    "a redirect to what is no address": (sends("", 302, Location="http://[::1/v1"), "redirects to|dropped"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_an_endpoint_that_answers_nothing_of_use_is_an_error_soon(name: str) -> None:
    answer, words = ERRORS[name]
    timeout_s = 0.3 if "byte" in name else 20
    began = time.monotonic()
    with answering(answer) as hostile, pytest.raises(EndpointError, match=words):
        whom = server(hostile.url, attempts=2, timeout_s=timeout_s)
        ask(whom, KEY, [request("a")], on_reply=lambda *_: pytest.fail("a reply"))
    assert time.monotonic() - began < 60  # it ends at all


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_prompts_and_key_go_to_no_other_host(status: int) -> None:
    with answering(sends(completion("a"))) as other:
        there = other.url.replace("http://127.0.0.1", f"http://user:{KEY}@localhost") + "/chat/completions"
        with answering(sends("", status, Location=there)) as hostile, pytest.raises(EndpointError) as error:
            ask(server(hostile.url), KEY, [request("a")], on_reply=lambda *_: None)
        assert not other.asked and len(hostile.asked) == 1
    assert f"redirects to localhost ({status})" in str(error.value) and KEY not in str(error.value)


def test_no_more_is_read_than_a_reply_can_have() -> None:
    sent = 0

    def count(asked: Asked) -> None:
        nonlocal sent
        asked.head(Content_Type="application/json", Connection="close")
        for _ in range(100 << 10):  # 6.4 GB, unless somebody stops listening
            sent += asked.handler.wfile.write(b" " * 65536)

    with answering(count) as hostile, pytest.raises(EndpointError, match="more than any reply has"):
        ask(server(hostile.url, attempts=1), KEY, [request("a")], on_reply=lambda *_: None)
    assert LARGEST_REPLY < sent < LARGEST_REPLY + (64 << 20)  # what lies in the buffers of the machine, too


def test_an_error_that_spells_the_key_is_told_without_it() -> None:
    spelled = KEY.replace("a", r"\\u0061")
    said = '{"error": {"message": "' + spelled + '"}}'
    with answering(sends(said, 418)) as hostile, pytest.raises(EndpointError, match=r"answered 418: \*\*\* "):
        ask(server(hostile.url), KEY, [request("a")], on_reply=lambda *_: None)


# ----------------------------------------------------------------------------------------------- batches


def batch(**changes: Any) -> dict[str, Any]:
    return {"id": "batch_1", "input_file_id": "file-1", "status": "completed", "metadata": {}, **changes}


NO_BATCHES = {
    "an id that leads elsewhere": batch(id="../files"),
    "an address for an id": batch(id="http://elsewhere/x"),
    "an id that is a number": batch(id=1),
    "an id of another kind": batch(input_file_id=["file-1"]),
    "an id with a line in it": batch(output_file_id="file\n1"),
    "an id without an end": batch(id="b" * 1000),
    "a count without an end": batch(request_counts={"completed": float("inf")}),
    "a count that is none": batch(request_counts={"completed": "all"}),
    "counts that are a list": batch(request_counts=[1]),
    "a problem that is none": batch(errors={"data": [5]}),
    "no status": {"id": "batch_1", "input_file_id": "file-1"},
    "a list": [batch()],
    "null": None,
}


@pytest.mark.parametrize("name", NO_BATCHES)
def test_what_is_no_batch_is_an_error(name: str) -> None:
    with answering(sends(json.dumps(NO_BATCHES[name]))) as hostile:
        client = BatchClient(server(hostile.url, attempts=2), KEY)
        with pytest.raises(EndpointError, match=NOTHING_OF_THE_KIND):
            client.look("batch_1")
        assert [asked.path for asked in hostile.asked] == ["/v1/batches/batch_1"] * 2


def test_a_list_of_batches_that_goes_on_for_ever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "_PAGES", 5)
    page = {"has_more": True, "data": [batch(created_at=time.time() + 1e6)]}
    with answering(sends(json.dumps(page))) as hostile:
        with pytest.raises(EndpointError, match=NOTHING_OF_THE_KIND):
            BatchClient(server(hostile.url, attempts=2), KEY).find({"mine": "yes"})
        assert len(hostile.asked) == 10


def answers(lines: Sequence[bytes | dict[str, Any]]) -> dict[str, Reply | str]:
    """What an output file says of the requests a, b and c."""
    content = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    with answering(sends(content, Content_Type="application/octet-stream")) as hostile:
        client = BatchClient(server(hostile.url), KEY)
        found = list(client.answers("file-1", {name: request(name) for name in "abc"}))
    assert len(found) == len(dict(found))
    return dict(found)


def line(name: object, body: object, status: object = 200) -> dict[str, Any]:
    return {"custom_id": name, "response": {"status_code": status, "body": body}}


def test_the_lines_of_a_file_are_believed_for_what_was_asked_and_once(caplog: pytest.LogCaptureFixture) -> None:
    good, other = (json.loads(completion(text)) for text in ("good", "another"))
    said = answers(
        [line("a", good), line("a", other), line("z", other), line(["b"], other), line({"b": 1}, other), line(1, other)]
    )
    assert said == {"a": Reply("good", "stop", 300, 20)}
    assert "answered 5 requests of a batch that were not asked, or twice" in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 200_000, None),
        (b"\xff\xfe{}", None),
        (b'{"custom_id": "b", "response"', None),
        (b"null", None),
        (b'"b"', None),
        (line("b", []), "bad_body"),
        (line("b", None), "bad_body"),
        (line("b", {}, [400]), "server"),
        (line("b", {"error": "text"}, 400), Reply("", "error:bad_request", 0, 0)),
        (line("b", {}, True), "server"),
        ({"custom_id": "b"}, "server"),
        ({"custom_id": "b", "response": "text", "error": ["batch_expired"]}, "server"),
        (line("b", json.loads(completion("\ud800"))), Reply(r"\ud800", "error:wrong_encoding", 300, 20)),
        (line("b", json.loads(completion("\x1b[2J"))), Reply(r"\u001b[2J", "error:control_characters", 300, 20)),
        (line("b", json.loads(completion(f"it is {KEY}"))), Reply("it is ***", "stop", 300, 20)),
        (line("b", json.loads(completion("a", {"prompt_tokens": -9}))), Reply("a", "stop", 3 + 6, 1, counted=False)),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict | bytes) else None,
)
def test_a_line_that_is_none_harms_no_other(content: bytes | dict[str, Any], says: Reply | str | None) -> None:
    good = Reply("good", "stop", 300, 20)
    said = answers([line("a", json.loads(completion("good"))), content, line("c", json.loads(completion("good")))])
    assert said == {"a": good, "c": good} | ({} if says is None else {"b": says})


def test_a_file_of_answers_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "LARGEST_FILE", 1 << 20)
    with answering(endless) as hostile, pytest.raises(EndpointError, match="answered with more than"):
        list(BatchClient(server(hostile.url, attempts=1), KEY).answers("file-1", {}))


def test_an_answer_of_a_batch_that_comes_a_byte_at_a_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "_PATIENCE", 2)
    with answering(drip_body) as hostile, pytest.raises(EndpointError, match="did not answer"):
        BatchClient(server(hostile.url, attempts=1, timeout_s=0.2), KEY).look("batch_1")


def test_a_batch_is_asked_for_nowhere_else() -> None:
    with answering(sends("{}")) as other, answering(sends("", 307, Location=other.url)) as hostile:
        with pytest.raises(EndpointError, match=r"redirects to 127\.0\.0\.1"):
            BatchClient(server(hostile.url), KEY).upload("x.jsonl", [request("a")])
        assert not other.asked
