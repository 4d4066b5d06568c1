"""The teacher: an OpenAI-compatible server on loopback that writes triplets from the catalogue's grammar.

It stands where GPT-4 stands (§4.2) and is spoken to by the same client: POST /v1/chat/completions, GET
/v1/models, and the Batch API (`teacher_batches`). A caption, a seed and a system message always get the same
reply. GET /_calls tells how often each caption was asked and answered, and digests of the keys that were used.
`python -m scot_core.catalogue.teacher --port 8017` runs it alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from scot_core.catalogue import grammar
from scot_core.catalogue.teacher_batches import Batches, Fate
from scot_core.errors import DataError, EndpointError
from scot_core.orphans import leave_with_parent, starting_children
from scot_core.triplets import json_reply

MODEL: Final = "catalogue-teacher-1"
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")
_START_S: Final = 30.0
_START_BESIDE_S: Final = 300.0  # a process of its own imports everything first


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its caption, what its reply is drawn from, and how often the caption was asked before."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    caption: str
    digest: str
    attempt: int


class Faults(Protocol):
    """What may stand between the teacher and whoever asks: nothing here, faults in the tests."""

    def around(self, app: ASGIApp) -> ASGIApp:
        """The server as the world sees it."""
        return app

    def answer(self, asked: Asked, honestly: Callable[[], Response]) -> Response:
        """The response to a request, alone or in a batch; there, one without a body gets lost."""
        return honestly()

    def fate(self, number: int) -> Fate:
        """What becomes of a batch, by its number."""
        return Fate()


class _NoFaults(Faults):
    pass


@contextmanager
def serve(host: str = "127.0.0.1", port: int = 0, *, faults: Faults | None = None, seed: int = 0) -> Iterator[str]:
    """Run the teacher in a thread of this process; gives its base URL, ending in /v1.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        faults: what goes wrong.
        seed: of the replies, besides caption, system message and the request's own seed.

    Raises:
        EndpointError: the port is taken, or the server did not start.
    """
    listener = _listen(host, port)
    server = _server(faults or _NoFaults(), seed)
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


@contextmanager
def serve_beside() -> Iterator[str]:
    """Run the teacher in a process of its own, on a core that the one who asks leaves free; gives its base URL.

    The process ends with the block, and with this process however that ends.

    Raises:
        EndpointError: the server did not start.
    """
    context = multiprocessing.get_context("spawn")  # the process that runs flows has many threads
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=_run_beside, args=(its,), name="scot-teacher", daemon=True)
    try:
        with starting_children():
            process.start()
        its.close()  # so that its end is seen here
        yield _said(ours, process)
    finally:
        if process.pid is not None:
            process.kill()  # nobody waits for what is still in flight
            process.join()


def _said(ours: Connection, process: SpawnProcess) -> str:
    """The address that a process says it is served at."""
    try:
        if ours.poll(_START_BESIDE_S):
            return str(ours.recv())
    except EOFError:
        process.join()
        raise EndpointError(
            f"the teacher's process ended at its start, with status {process.exitcode}; what it said stands above"
        ) from None
    raise EndpointError(f"the teacher did not start in {_START_BESIDE_S:.0f} s")


def _run_beside(its: Connection) -> None:
    leave_with_parent()
    listener = _listen("127.0.0.1", 0)
    its.send(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    _server(_NoFaults(), 0).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=256)
    except OSError as error:
        raise EndpointError(f"the teacher cannot listen on {host}:{port}: {error.strerror}") from None
    # asyncio does so for sockets that it made itself; else an answer in two pieces waits 40 ms for a delayed ACK
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _server(faults: Faults, seed: int) -> uvicorn.Server:
    config = uvicorn.Config(
        faults.around(_Teacher(faults, seed).app()),
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
        batches = Batches(self.faults.fate, self.answer)
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
            return self.answer(json.loads(await request.body()), request.headers)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return _refuse(400, "the body is no chat completion request: messages with a user message at the end")

    def answer(self, body: dict[str, Any], headers: Mapping[str, str]) -> Response:
        """The response to one request, or to one line of a batch file."""
        caption, told = _caption_and_system(body["messages"])
        if body.get("model") != MODEL:
            return _refuse(404, f"only the model {MODEL} exists here", "model_not_found")
        digest = _digest(self.seed, told, body.get("seed"), caption)
        asked = Asked(body, headers, caption, digest, self.asked[caption])
        self.asked[caption] += 1
        return self.faults.answer(asked, lambda: self._teach(asked))

    def _teach(self, asked: Asked) -> Response:
        try:
            text = json_reply(*grammar.teach(asked.caption, random.Random(asked.digest)))
        except DataError as error:
            return _refuse(400, str(error))
        self.answered[asked.caption] += 1
        return _completion(asked, *_within(text, asked.body.get("max_tokens")))


def _caption_and_system(messages: list[dict[str, str]]) -> tuple[str, str]:
    # The worked examples are part of what is asked: another prompt is answered anew.
    told = json.dumps(messages[:-1])
    if messages[-1]["role"] != "user":
        raise ValueError("the last message is not the user's")
    return messages[-1]["content"], told


def _digest(*parts: object) -> str:
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()  # the lake's, without loading Parquet for it


def _within(text: str, max_tokens: int | None) -> tuple[str, str]:
    """As much of the text as may be, and why it ends there."""
    ends = [match.end() for match in _TOKEN.finditer(text)]
    if max_tokens is None or len(ends) <= max_tokens:
        return text, "stop"
    return text[: ends[max_tokens - 1]], "length"


def _completion(asked: Asked, text: str, finish: str) -> Response:
    prompt = sum(_tokens(message["content"]) for message in asked.body["messages"])
    written = _tokens(text)
    message = {"role": "assistant", "content": text, "refusal": None}
    return JSONResponse(
        {
            "id": f"chatcmpl-{asked.digest}",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written},
        }
    )


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
    _server(_NoFaults(), arguments.seed).run([listener])


if __name__ == "__main__":
    main()
