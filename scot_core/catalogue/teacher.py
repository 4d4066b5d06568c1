"""The teacher: an OpenAI-compatible server on loopback that writes triplets from the catalogue's grammar.

It stands where GPT-4 stands (§4.2) and is spoken to by the same client: POST /v1/chat/completions, GET
/v1/models, and the Batch API (`teacher_batches`). A caption, a seed and a system message always get the same
reply. GET /_calls tells how often each caption was asked and answered, and digests of the keys that were used.
`python -m scot_core.catalogue.teacher --port 8017` runs it alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scot_core.catalogue import grammar
from scot_core.catalogue.teacher_batches import Batches
from scot_core.catalogue.teacher_faults import Fault, Faults, HalfBody
from scot_core.errors import DataError, EndpointError
from scot_core.triplets import json_reply

MODEL: Final = "catalogue-teacher-1"
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")
_START_S: Final = 30.0


@contextmanager
def serve(host: str = "127.0.0.1", port: int = 0, *, faults: Faults | None = None, seed: int = 0) -> Iterator[str]:
    """Run the teacher in a thread of this process; gives its base URL, ending in /v1.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        faults: what goes wrong, and how often.
        seed: of the replies, besides caption, system message and the request's own seed.

    Raises:
        EndpointError: the port is taken, or the server did not start.
    """
    listener = _listen(host, port)
    server = _server(faults or Faults(), seed)
    thread = threading.Thread(target=server.run, args=([listener],), name="scot-teacher", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise EndpointError(f"the teacher did not start on {host}:{listener.getsockname()[1]}")
        time.sleep(0.005)
    try:
        yield f"http://{host}:{listener.getsockname()[1]}/v1"
    finally:
        server.should_exit = server.force_exit = True  # nobody waits for what is still in flight
        thread.join()
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=256)
    except OSError as error:
        raise EndpointError(f"the teacher cannot listen on {host}:{port}: {error.strerror}") from None


def _server(faults: Faults, seed: int) -> uvicorn.Server:
    config = uvicorn.Config(
        _Teacher(faults, seed).app(),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


@dataclass
class _Teacher:
    faults: Faults
    seed: int
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)

    def app(self) -> Starlette:
        batches = Batches(self.faults, self.answer_line)
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/_calls", self.calls),
                *batches.routes,
            ]
        )

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "scot"}]})

    async def calls(self, _: Request) -> Response:
        return JSONResponse({"asked": self.asked, "answered": self.answered, "keys": sorted(self.keys)})

    async def complete(self, request: Request) -> Response:
        self.keys.add(_digest(request.headers.get("authorization", "")))
        try:
            asked = self._asked(json.loads(await request.body()))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return _refuse(400, "the body is no chat completion request: messages with a user message at the end")
        if asked is None:
            return _refuse(404, f"only the model {MODEL} exists here", "model_not_found")
        if asked.fault is Fault.SLOW:
            await asyncio.sleep(self.faults.slow_s)
        elif asked.fault is not None:
            failure = self.faults.response(asked.fault, request.headers, asked.body)
            if failure is not None:
                return failure
        return self._answer(asked)

    def answer_line(self, body: dict[str, Any]) -> Response | None:
        """The response to one line of a batch file; None where it gets lost."""
        asked = self._asked(body)
        if asked is None:
            return _refuse(404, f"only the model {MODEL} exists here", "model_not_found")
        if asked.fault is Fault.DROP:
            return None
        failure = None if asked.fault is None else self.faults.response(asked.fault, {}, body)
        return failure or self._answer(asked)

    def _asked(self, body: dict[str, Any]) -> _Asked | None:
        """Count a request and draw its fault; None where it asks another model."""
        caption, told = _caption_and_system(body["messages"])
        if body.get("model") != MODEL:
            return None
        digest = _digest(self.seed, told, body.get("seed"), caption)
        attempt = self.asked[caption]
        self.asked[caption] += 1
        return _Asked(body, caption, digest, self.faults.draw(digest, attempt))

    def _answer(self, asked: _Asked) -> Response:
        try:
            text = json_reply(*grammar.teach(asked.caption, random.Random(asked.digest)))
        except DataError as error:
            return _refuse(400, str(error))
        text, finish = _within(*self.faults.spoil(asked.fault, text), asked.body.get("max_tokens"))
        self.answered[asked.caption] += 1
        return _completion(asked.body, asked.digest, text, finish, whole=asked.fault is not Fault.HALF_BODY)


@dataclass(frozen=True)
class _Asked:
    """One request: its caption, what its reply is drawn from, and its fault."""

    body: dict[str, Any]
    caption: str
    digest: str
    fault: Fault | None


def _caption_and_system(messages: list[dict[str, str]]) -> tuple[str, str]:
    # The worked examples are part of what is asked: another prompt is answered anew.
    told = json.dumps(messages[:-1])
    if messages[-1]["role"] != "user":
        raise ValueError("the last message is not the user's")
    return messages[-1]["content"], told


def _digest(*parts: object) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _within(text: str, finish: str, max_tokens: int | None) -> tuple[str, str]:
    ends = [match.end() for match in _TOKEN.finditer(text)]
    if max_tokens is None or len(ends) <= max_tokens:
        return text, finish
    return text[: ends[max_tokens - 1]], "length"


def _completion(body: dict[str, Any], digest: str, text: str, finish: str, *, whole: bool) -> Response:
    prompt = sum(_tokens(message["content"]) for message in body["messages"])
    written = _tokens(text)
    refused = finish == "content_filter"
    message = {
        "role": "assistant",
        "content": None if refused else text,
        "refusal": text if refused else None,
    }
    completion = {
        "id": f"chatcmpl-{digest}",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written},
    }
    return JSONResponse(completion) if whole else HalfBody(json.dumps(completion).encode())


@lru_cache(maxsize=64)  # the system message and the worked examples come again and again
def _tokens(text: str) -> int:
    return len(_TOKEN.findall(text))


def _refuse(status: int, message: str, code: str | None = None) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status)


def main() -> None:
    """Run the teacher until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8017)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    listener = _listen(arguments.host, arguments.port)
    print(
        f"base_url http://{arguments.host}:{listener.getsockname()[1]}/v1  model {MODEL}  (Ctrl-C ends it)",
        flush=True,
    )
    _server(Faults(), arguments.seed).run([listener])


if __name__ == "__main__":
    main()
