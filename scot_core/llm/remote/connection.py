"""The openai client for any server, believed in nothing: no redirects, no endless answers, no packed ones.

The client's own retries are off, no proxy stands before this machine's loopback, and keys are checked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx2
import openai

from scot_core.config import ServerConfig
from scot_core.errors import EndpointError
from scot_core.llm.remote.failures import KEY_VARIABLE, Failures, RetryableError

T = TypeVar("T")

LARGEST_REPLY: Final = 8 << 20  # bytes of one answer: a reply of 256 tokens takes some 2,000
LARGEST_FILE: Final = 512 << 20  # bytes of a batch's answers: 50,000 of them take some 100 MB
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class _Bounded(openai.DefaultAsyncHttpxClient):
    """An HTTP client that has an answer whole, in `seconds` from first to last byte and within `largest` bytes.

    Raises RetryableError otherwise. Redirects are left to whoever reads the answer: requests hold prompts and a key.
    """

    def __init__(self, seconds: float, largest: int, **options: Any) -> None:
        # As they are: a few kilobytes of gzip unpack to gigabytes, and replies are small.
        super().__init__(**options, follow_redirects=False, headers={"Accept-Encoding": "identity"})
        self._seconds, self._largest = seconds, largest

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._whole(request, **options)
        except TimeoutError:
            raise RetryableError("timeout") from None

    async def _whole(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        response = await super().send(request, **{**options, "stream": True})
        try:
            if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise RetryableError("bad_body")
            body = bytearray()
            async for block in response.aiter_raw():
                body += block
                if len(body) > self._largest:
                    raise RetryableError("too_large")
        finally:
            await response.aclose()
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            content=bytes(body),
            request=request,
            extensions=response.extensions,
        )


def connect(
    server: ServerConfig, failures: Failures, *, seconds: float | None = None, largest: int = LARGEST_REPLY
) -> openai.AsyncOpenAI:
    """A client for many requests at once, each answered in `seconds` (the server's time-out where none are given).

    Raises EndpointError where base URL or key cannot be used.
    """
    if not _is_address(server.base_url):
        raise EndpointError(f"the base URL {server.base_url!r} is none: it looks like https://api.openai.com/v1")
    key = failures.api_key
    if not key.isascii() or not key.isprintable():
        raise failures.error(f"takes no such key: {KEY_VARIABLE} holds characters that no key has")
    parts = urlsplit(server.base_url)
    client = _Bounded(
        server.timeout_s if seconds is None else seconds,
        largest,
        timeout=server.timeout_s,
        trust_env=parts.hostname not in _LOOPBACK,  # a proxy of the environment cannot reach it
        verify=parts.scheme == "https",
    )
    return openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=server.base_url,
        timeout=server.timeout_s,
        max_retries=0,
        http_client=client,
    )


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that are not closed, or a port that is none
        return False


def run(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. It runs in this thread, or in another where a loop is running in this one already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def stoppable() -> T:
        task = asyncio.current_task()
        assert task is not None
        begun.append((asyncio.get_running_loop(), task))
        return await work

    # a notebook, an async flow
    with ThreadPoolExecutor(1, thread_name_prefix="scot-endpoint") as thread:
        job = thread.submit(asyncio.run, stoppable())
        try:
            return job.result()
        except BaseException:
            for loop, task in begun:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(task.cancel)
            raise
