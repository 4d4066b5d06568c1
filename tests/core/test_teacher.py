"""The loopback teacher as any client sees it."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import urllib.error
import urllib.request
from multiprocessing.connection import Connection
from typing import Any

import pytest

from scot_core.catalogue import teacher
from scot_core.catalogue.grammar import Verdict, judge
from scot_core.catalogue.teacher import MODEL, serve, serve_beside
from scot_core.errors import EndpointError
from scot_core.triplets import Parsed, chat_messages, parse
from tests.teacher_faults import Fault, Faults

CAPTION = "a large striped red mug with a round handle and a star badge on a wooden table"


def get(url: str) -> Any:
    with urllib.request.urlopen(url) as response:
        return json.load(response)


def post(url: str, **body: Any) -> dict[str, Any]:
    sent = {"model": MODEL, "messages": chat_messages(CAPTION), "seed": 0} | body
    request = urllib.request.Request(url + "/chat/completions", json.dumps(sent).encode())
    try:
        with urllib.request.urlopen(request) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


def text(completion: dict[str, Any]) -> str:
    return str(completion["choices"][0]["message"]["content"])


def test_it_answers_as_chat_completions_do() -> None:
    with serve() as url:
        assert [model["id"] for model in get(url + "/models")["data"]] == [MODEL]
        completion = post(url)
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["finish_reason"] == "stop"
    usage = completion["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 100
    parsed = parse(text(completion), "json")
    assert isinstance(parsed, Parsed)
    assert judge(CAPTION, parsed.modification, parsed.modified_caption) is Verdict.RIGHT


def test_replies_depend_on_caption_seed_and_prompt_alone() -> None:
    with serve() as url:
        first = text(post(url))
        assert text(post(url, temperature=0.3)) == first
        seeds = {text(post(url, seed=seed)) for seed in range(8)}
        prompts = {text(post(url, messages=chat_messages(CAPTION, f"prompt {i}"))) for i in range(8)}
        assert get(url.removesuffix("/v1") + "/_calls")["answered"] == {CAPTION: 18}
    assert len(seeds) > 4 and len(prompts) > 4
    with serve() as url:
        assert text(post(url)) == first
    with serve(seed=1) as url:
        assert text(post(url)) != first


def test_it_stops_at_max_tokens() -> None:
    with serve() as url:
        completion = post(url, max_tokens=5)
    assert completion["choices"][0]["finish_reason"] == "length"
    assert completion["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"messages": chat_messages("A dog on a beach.")}, 400, "cannot read the caption"),
        ({"messages": []}, 400, "no chat completion request"),
        ({"messages": [{"role": "system", "content": CAPTION}]}, 400, "no chat completion request"),
        ({"model": "gpt-4"}, 404, "exists here"),
    ],
)
def test_what_it_cannot_do_it_says(body: dict[str, Any], status: int, words: str) -> None:
    with serve() as url:
        answer = post(url, **body)
    assert answer["status"] == status
    assert words in answer["error"]["message"]


def test_a_taken_port_is_an_error() -> None:
    with serve() as url:
        port = int(url.removesuffix("/v1").rpartition(":")[2])
        with pytest.raises(EndpointError, match=f"cannot listen on 127.0.0.1:{port}"), serve(port=port):
            pass


def test_faults_hit_the_same_requests_and_spare_later_attempts() -> None:
    faults = Faults({Fault.SERVER_ERROR: 0.25, Fault.REFUSE: 0.25})
    digests = [f"{i:032x}" for i in range(2000)]
    first = [faults.draw(digest, 0) for digest in digests]
    later = [faults.draw(digest, 1) for digest in digests]
    assert 400 < first.count(Fault.SERVER_ERROR) < 600
    assert 400 < first.count(Fault.REFUSE) < 600
    assert later == [None if fault is Fault.SERVER_ERROR else fault for fault in first]
    with pytest.raises(ValueError, match="exceed 1"):
        Faults({Fault.DROP: 0.7, Fault.SLOW: 0.7})


def test_it_runs_alone() -> None:
    command = [sys.executable, "-m", "scot_core.catalogue.teacher", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            assert get(url + "/models")["data"][0]["id"] == MODEL
        finally:
            process.terminate()


def test_it_runs_beside_and_ends_with_the_block() -> None:
    before = set(multiprocessing.active_children())
    with serve_beside() as url:
        assert get(url + "/models")["data"][0]["id"] == MODEL
        assert [child.name for child in set(multiprocessing.active_children()) - before] == ["scot-teacher"]
    assert set(multiprocessing.active_children()) <= before
    with pytest.raises(urllib.error.URLError):
        get(url + "/models")


def test_a_teacher_that_cannot_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "_run_beside", _ends_at_once)
    with pytest.raises(EndpointError, match="ended at its start, with status 3"), serve_beside():
        pass


def _ends_at_once(_: Connection) -> None:
    sys.exit(3)
