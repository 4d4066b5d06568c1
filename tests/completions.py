"""A real completions server over a local model, as vLLM is one: POST /v1/completions, nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

NAME = "scot"


@dataclass
class Completions:
    """Serves one model under the name `scot`, a request at a time; remembers what it was asked."""

    generator: Any
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    tokens: int = 0  # of all replies
    down: bool = False  # answers 500
    _one: threading.Lock = field(default_factory=threading.Lock)

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        if self.down:
            return JSONResponse({"error": {"message": "not now"}}, 500)
        if body["model"] != NAME:
            return JSONResponse({"error": {"message": f"the model {body['model']} does not exist"}}, 404)
        self.bodies.append(body)
        reply = await run_in_threadpool(self._write, body)
        self.answered[body["prompt"]] += 1
        self.tokens += reply.completion_tokens
        text, finish = reply.text, reply.finish_reason
        for stop in body.get("stop", []):
            if stop in text:
                text, finish = text.split(stop)[0], "stop"
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
        return JSONResponse({"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": usage})

    def _write(self, body: dict[str, Any]) -> Any:
        with self._one:
            (reply,) = self.generator.generate(
                [body["prompt"]], [body["seed"]], temperature=body["temperature"],
                max_new_tokens=body["max_tokens"], batch_size=1,
            )  # fmt: skip
        return reply


@contextmanager
def serve_completions(generator: Any) -> Iterator[Completions]:
    served = Completions(generator)
    app = Starlette(routes=[Route("/v1/completions", served.complete, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    served.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        yield served
    finally:
        server.should_exit = server.force_exit = True
        thread.join()
        listener.close()
