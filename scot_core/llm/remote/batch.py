"""The Batch API of an OpenAI-compatible server: a file of requests, answered within a day at a discount.

Every call is short. What it takes to come back later (the file's id, the batch's id) is for the caller to
keep; a batch that was made and whose id was lost is found again by its label, which the server keeps as
metadata. Limits: 50,000 requests and 200 MB a file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import openai
import stamina

from scot_core.config import ServerConfig
from scot_core.errors import ConfigError
from scot_core.llm import Reply
from scot_core.llm.remote.chat import Request
from scot_core.llm.remote.connection import connect_here
from scot_core.llm.remote.failures import Failures, RetryableError, refusal, tries, wait_for

T = TypeVar("T")

_MAX_REQUESTS: Final = 50_000
_MAX_BYTES: Final = 200_000_000
_ENDED: Final = frozenset({"completed", "expired", "cancelled", "failed"})
_REMEMBERED_S: Final = 30 * 24 * 3600  # a server keeps what a batch answered about that long
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
        self._client = connect_here(server, self.failures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

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
        return self._tried(lambda: self._client.files.create(file=file, purpose="batch").id, _NO_BATCHES)

    def create(self, file_id: str, label: Mapping[str, str]) -> Batch:
        """Make a batch of a file, once: where an earlier call made it and its answer was lost, that one is returned."""

        def make() -> Batch:
            return self._find(label) or _read(
                self._client.post(
                    "/batches",
                    cast_to=object,
                    body={
                        "input_file_id": file_id,
                        "endpoint": "/v1/chat/completions",
                        "completion_window": "24h",
                        "metadata": dict(label),
                    },
                )
            )

        return self._tried(make, _NO_BATCHES)

    def find(self, label: Mapping[str, str]) -> Batch | None:
        """The newest batch with this label, None where there is none of the last thirty days."""
        return self._tried(lambda: self._find(label), _NO_BATCHES)

    def look(self, batch_id: str) -> Batch:
        """A batch as it is now. Raises EndpointError where the server knows none of this id."""
        lost = f"knows no batch {batch_id} (404): is the key that of the account which made it?"
        return self._tried(lambda: _read(self._client.get(f"/batches/{batch_id}", cast_to=object)), lost)

    def answers(self, file_id: str | None, requests: Mapping[str, Request]) -> Iterator[tuple[str, Reply | str]]:
        """What an output or error file says, by request id: a reply, or in a word why there is none yet.

        A request that the server turned down has the reply "error:bad_request" or "error:content_filter". Lines
        that cannot be read are passed over: their requests count as not answered.
        """
        if not file_id:
            return
        gone = f"no longer has the file {file_id} of the batch's answers (404)"
        content = self._tried(lambda: self._client.files.content(file_id).content, gone)
        for line in content.split(b"\n"):
            try:
                record = json.loads(line)
                request = requests[record["custom_id"]]
            except (ValueError, KeyError, TypeError):
                continue
            answer = _answer(record, request)
            yield request.id, self.failures.without_key(answer) if isinstance(answer, Reply) else answer

    # ------------------------------------------------------------------------------------------ calls

    def _find(self, label: Mapping[str, str]) -> Batch | None:
        after, oldest = "", time.time() - _REMEMBERED_S
        while True:
            page: Any = self._client.get(f"/batches?limit=100{after}", cast_to=object)
            for found in page["data"]:
                if found.get("metadata") == dict(label):
                    return _read(found)
            if not page.get("has_more") or not page["data"] or page["data"][-1].get("created_at", 0) < oldest:
                return None
            after = f"&after={page['data'][-1]['id']}"

    def _tried(self, call: Callable[[], T], missing: str) -> T:
        try:
            for attempt in stamina.retry_context(on=wait_for, **tries(self._server)):
                with attempt:
                    return self._once(call, missing)
        except RetryableError as failure:
            raise self.failures.gone(failure) from None
        raise AssertionError("a retry context ends by returning or raising")

    def _once(self, call: Callable[[], T], missing: str) -> T:
        try:
            return call()
        except openai.APITimeoutError:
            raise RetryableError("timeout") from None
        except openai.APIConnectionError:
            raise RetryableError("connection") from None
        except openai.APIStatusError as error:
            refused = error
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RetryableError("bad_body") from None
        # Out of the handler: what the server said may hold the key, and must be in no traceback.
        if refused.status_code == 404:
            raise self.failures.error(missing)
        self.failures.turned_down(refused)
        raise self.failures.error(f"turned down a batch: {self.failures.quote(refused)}")


def _read(answer: Any) -> Batch:
    """A batch object. Raises KeyError, TypeError or AttributeError where it is none."""
    counts = answer.get("request_counts") or {}
    problems = (answer.get("errors") or {}).get("data") or [{}]
    return Batch(
        id=answer["id"],
        file_id=answer["input_file_id"],
        status=answer["status"],
        done=int(counts.get("completed") or 0) + int(counts.get("failed") or 0),
        output_file_id=answer.get("output_file_id"),
        error_file_id=answer.get("error_file_id"),
        problem=": ".join(str(problems[0][name]) for name in ("code", "message") if problems[0].get(name)),
    )


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
