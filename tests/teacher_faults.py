"""What can go wrong between a client and an endpoint, on demand: the faults of the loopback teacher."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scot_core.catalogue import teacher
from scot_core.catalogue.teacher_batches import Fate


class Fault(StrEnum):
    """One way to fail. The first group fails an attempt, the second spoils the reply itself."""

    RATE_LIMIT = "rate_limit"  # 429 with Retry-After in seconds
    RATE_LIMIT_DATE = "rate_limit_date"  # 429 with Retry-After as an HTTP date
    RATE_LIMIT_SILENT = "rate_limit_silent"  # 429 without Retry-After
    SERVER_ERROR = "server_error"  # 500
    SLOW = "slow"  # a reply after `slow_s`
    DROP = "drop"  # the connection closes without a byte of body
    HALF_BODY = "half_body"  # the connection closes in the middle of the body
    NOT_JSON = "not_json"  # 200 with something that is no JSON
    UNAUTHORISED = "unauthorised"  # 401 that quotes the key
    BAD_REQUEST = "bad_request"  # 400
    FILTERED = "filtered"  # 400 of a content filter
    NO_FORMAT = "no_format"  # 400 to requests with a response_format

    TRUNCATE = "truncate"  # half the text, finish reason length
    WRONG_SCHEMA = "wrong_schema"  # another JSON object than asked for
    REFUSE = "refuse"  # finish reason content_filter and a refusal
    APOLOGISE = "apologise"  # an apology instead of JSON


_SPOILING: Final = frozenset({Fault.TRUNCATE, Fault.WRONG_SCHEMA, Fault.REFUSE, Fault.APOLOGISE})
_TURNED_DOWN: Final = frozenset({Fault.UNAUTHORISED, Fault.BAD_REQUEST, Fault.FILTERED, Fault.NO_FORMAT})


@dataclass(frozen=True)
class BatchFaults:
    """What goes wrong with the Batch API, counted in batches from the first one made.

    Attributes:
        looks: how often a batch is looked at before it has ended.
        failing: batches that fail their validation.
        expiring: batches that expire with a part of their requests answered; they come after the failing ones.
        cancelled: batches that somebody cancels halfway; they come after the expiring ones.
        answered: the part of its requests that a batch answers which expires or is cancelled.
        unheard: batches that are made, but the answer that says so is lost.
        calls: what befalls the first calls of the API, one after the other.
    """

    looks: int = 1
    failing: int = 0
    expiring: int = 0
    cancelled: int = 0
    answered: float = 0.5
    unheard: int = 0
    calls: tuple[Fault, ...] = ()

    def end_of(self, number: int) -> str:
        """How the batch of a number ends."""
        ends = ("failed",) * self.failing + ("expired",) * self.expiring + ("cancelled",) * self.cancelled
        return ends[number] if number < len(ends) else "completed"


@dataclass(frozen=True)
class Faults(teacher.Faults):
    """Faults and the share of requests they hit, the same requests every time.

    Attributes:
        shares: fault to share of requests, 1 in all at most.
        first_attempts: faults that fail an attempt spare later ones; None never spares. Spoiled replies
            and requests turned down stay so.
        retry_after_s: of 429.
        slow_s: of SLOW.
        batches: of the Batch API. In a batch, a request fails by a line of its error file, or by none at all.
    """

    shares: Mapping[Fault, float] | None = None
    first_attempts: int | None = 1
    retry_after_s: float = 0.05
    slow_s: float = 0.5
    batches: BatchFaults = BatchFaults()

    def __post_init__(self) -> None:
        if sum((self.shares or {}).values()) > 1 + 1e-9:
            raise ValueError(f"the shares of the teacher's faults exceed 1: {dict(self.shares or {})}")

    def around(self, app: ASGIApp) -> ASGIApp:
        """Faults of the calls of the Batch API, one after the other."""
        calls, made = iter(self.batches.calls), 0

        async def nobody(_: Message) -> None:
            """Hears of nothing."""

        async def disturbed(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal made
            of_batches = scope["type"] == "http" and scope["path"].startswith(("/v1/files", "/v1/batches"))
            fault = next(calls, None) if of_batches else None
            failure = None if fault is None else self.response(fault, Headers(scope=scope), {})
            if of_batches and failure is None and (scope["method"], scope["path"]) == ("POST", "/v1/batches"):
                made += 1
                if made <= self.batches.unheard:
                    await app(scope, receive, nobody)
                    failure = HalfBody(b"{}", share=0.0)
            await (failure or app)(scope, receive, send)

        return disturbed

    def answer(self, asked: teacher.Asked, honestly: Callable[[], Response]) -> Response:
        """What the fault of an attempt makes of a response."""
        fault = self.draw(asked.digest, asked.attempt)
        failure = None if fault is None else self.response(fault, asked.headers, asked.body)
        response = failure or honestly()
        if failure is not None or fault is None or response.status_code != 200:
            return response
        if fault is Fault.HALF_BODY:
            return HalfBody(bytes(response.body))
        return _Late(bytes(response.body), self.slow_s) if fault is Fault.SLOW else _spoilt(fault, response)

    def fate(self, number: int) -> Fate:
        end = self.batches.end_of(number)
        return Fate(self.batches.looks, end, 1.0 if end == "completed" else self.batches.answered)

    def draw(self, digest: str, attempt: int) -> Fault | None:
        """The fault of one attempt at a request, None where all goes well."""
        point = int(hashlib.blake2b(digest.encode(), digest_size=8, person=b"fault").hexdigest(), 16) / 2**64
        for fault, share in (self.shares or {}).items():
            point -= share
            if point < 0:
                spared = self.first_attempts is not None and attempt >= self.first_attempts
                return None if spared and fault not in _SPOILING | _TURNED_DOWN else fault
        return None

    def response(self, fault: Fault, headers: Mapping[str, str], body: Mapping[str, Any]) -> Response | None:
        """The response in place of a reply, None for faults that leave one."""
        if fault is Fault.NO_FORMAT and "response_format" in body:
            return _error(400, "unknown parameter: 'response_format'")
        if fault in (Fault.RATE_LIMIT, Fault.RATE_LIMIT_DATE, Fault.RATE_LIMIT_SILENT):
            return _error(429, "too many requests", "rate_limit_exceeded", self._wait(fault))
        if fault is Fault.SERVER_ERROR:
            return _error(500, "the server had an error")
        if fault is Fault.DROP:
            return HalfBody(b"{}", share=0.0)
        if fault is Fault.NOT_JSON:
            return Response("<html>502 Bad Gateway</html>", media_type="text/html")
        if fault is Fault.UNAUTHORISED:
            return _error(401, f"incorrect key: {headers.get('authorization')}", "invalid_api_key")
        if fault is Fault.BAD_REQUEST:
            return _error(400, f"this cannot be asked with {headers.get('authorization')}")
        return _error(400, "the prompt was filtered", "content_filter") if fault is Fault.FILTERED else None

    def _wait(self, fault: Fault) -> dict[str, str]:
        if fault is Fault.RATE_LIMIT:
            return {"Retry-After": f"{self.retry_after_s:g}"}
        if fault is Fault.RATE_LIMIT_DATE:
            date = datetime.now(UTC) + timedelta(seconds=self.retry_after_s)
            return {"Retry-After": format_datetime(date, usegmt=True)}
        return {}


def _spoilt(fault: Fault, response: Response) -> Response:
    """A completion with another text and finish reason."""
    completion = json.loads(bytes(response.body))
    choice = completion["choices"][0]
    text = choice["message"]["content"]
    if fault is Fault.TRUNCATE:
        choice["message"]["content"], choice["finish_reason"] = text[: len(text) // 2], "length"
    elif fault is Fault.WRONG_SCHEMA:
        choice["message"]["content"] = json.dumps({"edit": text})
    elif fault is Fault.REFUSE:
        choice["message"] |= {"content": None, "refusal": "I cannot help with this image."}
        choice["finish_reason"] = "content_filter"
    elif fault is Fault.APOLOGISE:
        choice["message"]["content"] = "I'm sorry, but I can't describe that."
    return JSONResponse(completion)


class _Late(Response):
    """A response that comes after a while."""

    def __init__(self, content: bytes, seconds: float) -> None:
        super().__init__(content, media_type="application/json")
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(self._seconds)
        await super().__call__(scope, receive, send)


class HalfBody(Response):
    """A response that promises its whole content and stops in the middle of it."""

    def __init__(self, content: bytes, share: float = 0.5) -> None:
        super().__init__(content, media_type="application/json")
        self.body = content[: int(len(content) * share)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})


def _error(status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> Response:
    error = {"message": message, "type": "error", "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status, headers=headers)
