"""The Batch API of an OpenAI-compatible server: a file of requests, answered within a day at a discount.

Every call is short. What it takes to come back later (the file's id, the batch's id) is for the caller to
keep; a batch that was made and whose id was lost is found again by its label, which the server keeps as
metadata. Limits: 50,000 requests and 200 MB a file; an attempt at a call, which may carry such a file, takes 20 times
`timeout_s` in all.
"""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import openai
import stamina

from scot_core.config import ServerConfig
from scot_core.errors import ConfigError
from scot_core.llm import Reply
from scot_core.llm.remote.chat import Request
from scot_core.llm.remote.connection import LARGEST_FILE, connect, run
from scot_core.llm.remote.failures import NO_ANSWER, Failures, RetryableError, refusal, tries, unanswered, wait_for

T = TypeVar("T")
Call = Callable[[openai.AsyncOpenAI], Awaitable[T]]

logger = logging.getLogger(__name__)

_MAX_REQUESTS: Final = 50_000
_MAX_BYTES: Final = 200_000_000
_ENDED: Final = frozenset({"completed", "expired", "cancelled", "failed"})
_REMEMBERED_S: Final = 30 * 24 * 3600  # a server keeps what a batch answered about that long
_PAGES: Final = 1000  # of a hundred batches each: a list that goes on has no end
_PATIENCE: Final = 20  # time-outs that one attempt may take in all
_ID: Final = re.compile(r"[\w:-][\w.:-]*(/[\w:-][\w.:-]*)*", re.ASCII)
_NO_BATCHES: Final = "has no Batch API here (404): is base_url right? Else set seed.mode to chat"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the server sees it now.

    Attributes:
        status: validating, in_progress, finalizing, cancelling, or an end: completed, expired, cancelled, failed.
        done: requests that are answered or have failed.
        output_file_id: the answers, where there are any yet.
        error_file_id: the requests without one, where there are any.
        problem: what its validation says, where it failed.
    """

    id: str
    file_id: str
    status: str
    done: int
    output_file_id: str | None
    error_file_id: str | None
    problem: str

    @property
    def has_ended(self) -> bool:
        return self.status in _ENDED


class BatchClient:
    """Calls of the Batch API, each repeated as often as it helps and the settings allow."""

    def __init__(self, server: ServerConfig, api_key: str) -> None:
        self._server = server
        self.failures = Failures(server, api_key)

    def upload(self, name: str, requests: Sequence[Request]) -> str:
        """Put a file of requests on the server; returns its id. Nothing is paid for it.

        Raises ConfigError where it is larger than a batch may be.
        """
        lines = [
            {"custom_id": r.id, "method": "POST", "url": f"/v1{r.path}", "body": r.body(self._server.model)}
            for r in requests
        ]
        data = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        if len(lines) > _MAX_REQUESTS or len(data) > _MAX_BYTES:
            raise ConfigError(
                f"a batch of {len(lines):,} requests and {len(data) / 1e6:.0f} MB is too large: lower seed.shard_rows"
            )
        file = name, data, "application/jsonl"

        async def put(client: openai.AsyncOpenAI) -> str:
            return _identifier((await client.files.create(file=file, purpose="batch")).id)

        return self._tried(put, _NO_BATCHES)

    def create(self, file_id: str, label: Mapping[str, str]) -> Batch:
        """Make a batch of a file, once: where an earlier call made it and its answer was lost, that one is returned."""

        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": dict(label),
        }

        async def make(client: openai.AsyncOpenAI) -> Batch:
            return await _find(client, label) or _read(await client.post("/batches", cast_to=object, body=body))

        return self._tried(make, _NO_BATCHES)

    def find(self, label: Mapping[str, str]) -> Batch | None:
        """The newest batch with this label, None where there is none of the last thirty days."""
        return self._tried(lambda client: _find(client, label), _NO_BATCHES)

    def look(self, batch_id: str) -> Batch:
        """A batch as it is now. Raises EndpointError where the server knows none of this id."""
        lost = f"knows no batch {batch_id} (404): is the key that of the account which made it?"

        async def get(client: openai.AsyncOpenAI) -> Batch:
            return _read(await client.get(f"/batches/{_identifier(batch_id)}", cast_to=object))

        return self._tried(get, lost)

    def answers(self, file_id: str | None, requests: Mapping[str, Request]) -> Iterator[tuple[str, Reply | str]]:
        """What an output or error file says, by request id: a reply, or in a word why there is none yet.

        A request that the server turned down has the reply "error:bad_request" or "error:content_filter". Lines
        that cannot be read are passed over: their requests count as not answered. So are, with a warning, answers to
        what was not asked, and all answers to one request but the first.
        """
        if not file_id:
            return
        gone = f"no longer has the file {file_id} of the batch's answers (404)"

        async def get(client: openai.AsyncOpenAI) -> bytes:
            return (await client.files.content(file_id)).content

        seen: set[str] = set()
        others = 0
        for line in io.BytesIO(self._tried(get, gone)):
            try:
                record = json.loads(line)
                name = str(record["custom_id"])
                answer = _answer(record, requests[name]) if name in requests and name not in seen else None
            except NO_ANSWER:
                continue
            if answer is None:
                others += 1
                continue
            seen.add(name)
            yield name, self.failures.received(answer) if isinstance(answer, Reply) else answer
        if others:
            said = "%s answered %d requests of a batch that were not asked, or twice: the first answers count"
            logger.warning(said, self.failures.where, others)

    # ------------------------------------------------------------------------------------------ calls

    def _tried(self, call: Call[T], missing: str) -> T:
        try:
            return run(self._attempts(call, missing))
        except RetryableError as failure:
            raise self.failures.gone(failure) from None

    async def _attempts(self, call: Call[T], missing: str) -> T:
        seconds = _PATIENCE * self._server.timeout_s
        async with connect(self._server, self.failures, seconds=seconds, largest=LARGEST_FILE) as client:
            async for attempt in stamina.retry_context(on=wait_for, **tries(self._server)):
                with attempt:
                    return await self._once(call(client), missing)
        raise AssertionError("a retry context ends by returning or raising")

    async def _once(self, answer: Awaitable[T], missing: str) -> T:
        try:
            return await answer
        except openai.APIStatusError as error:
            refused = error
        except NO_ANSWER as error:
            raise unanswered(error) from None
        # Out of the handler: what the server said may hold the key, and must be in no traceback.
        if refused.status_code == 404:
            raise self.failures.error(missing)
        self.failures.turned_down(refused)
        raise self.failures.error(f"turned down a batch: {self.failures.quote(refused)}")


async def _find(client: openai.AsyncOpenAI, label: Mapping[str, str]) -> Batch | None:
    after, oldest = "", time.time() - _REMEMBERED_S
    for _ in range(_PAGES):
        page: Any = await client.get(f"/batches?limit=100{after}", cast_to=object)
        for found in page["data"]:
            if found.get("metadata") == dict(label):
                return _read(found)
        if not page.get("has_more") or not page["data"]:
            return None
        made = page["data"][-1].get("created_at")  # not every server says
        if isinstance(made, (int, float)) and made < oldest:
            return None
        after = f"&after={_identifier(page['data'][-1]['id'])}"
    raise ValueError("a list of batches without an end")


def _read(answer: Any) -> Batch:
    """A batch object. Raises one of NO_ANSWER where it is none."""
    counts = answer.get("request_counts") or {}
    problems = (answer.get("errors") or {}).get("data") or [{}]
    return Batch(
        id=_identifier(answer["id"]),
        file_id=_identifier(answer["input_file_id"]),
        status=str(answer["status"]),
        done=int(counts.get("completed") or 0) + int(counts.get("failed") or 0),
        output_file_id=_identifier(answer["output_file_id"]) if answer.get("output_file_id") else None,
        error_file_id=_identifier(answer["error_file_id"]) if answer.get("error_file_id") else None,
        problem=": ".join(str(problems[0][name]) for name in ("code", "message") if problems[0].get(name)),
    )


def _identifier(said: object) -> str:
    """An id, which becomes part of an address. Raises ValueError where it is none."""
    if not isinstance(said, str) or len(said) > 200 or not _ID.fullmatch(said):
        raise ValueError("no id")
    return said


def _answer(record: Mapping[str, Any], request: Request) -> Reply | str:
    """The reply in one line of an output or error file, or in a word why it holds none."""
    response = record.get("response")
    if not isinstance(response, dict):
        error = record.get("error")
        expired = isinstance(error, dict) and error.get("code") == "batch_expired"
        return "expired" if expired else "server"
    body, status = response.get("body"), response.get("status_code")
    if status == 200:
        try:
            return request.read(body)
        except ValueError:
            return "bad_body"
    error = body.get("error") if isinstance(body, dict) else None
    kind = refusal(status, error.get("code") if isinstance(error, dict) else None)
    return "server" if kind is None else Reply("", f"error:{kind}", 0, 0)
