"""Client of any OpenAI-compatible server: many chat completions at once, each paid for once.

One retry layer (the openai client's own is off), one pace, one budget. Every reply is handed over as it
arrives; whatever goes wrong afterwards, it has been reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import openai
import stamina

from scot_core.errors import BudgetReached, EndpointError
from scot_core.llm import Reply
from scot_core.llm.chat import ChatRequest, EndpointSettings, body, highest_price, price, read_completion
from scot_core.llm.failures import KEY_VARIABLE, Failures, RetryableError
from scot_core.llm.limits import Budget, pace

__all__ = ["ChatRequest", "EndpointSettings", "OnReply", "Usage", "ask"]

logger = logging.getLogger(__name__)

OnReply = Callable[[str, Reply, float], None]

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOPELESS: Final = 8  # requests turned down in a row, none answered: it is not the requests
_BAD_REQUEST: Final = "error:bad_request"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call of `ask` used: replies reported, requests sent again, tokens and US dollars."""

    replies: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0


def ask(
    settings: EndpointSettings,
    api_key: str,
    requests: Sequence[ChatRequest],
    *,
    on_reply: OnReply,
    spent_usd: float = 0.0,
    response_format: Mapping[str, Any] | None = None,
) -> Usage:
    """Ask for chat completions and report each reply as it arrives, in no particular order.

    A request that the server turns down while it answers others is reported as a reply with the finish
    reason "error:<kind>" and costs nothing; kinds are content_filter, bad_request, server, timeout,
    connection, bad_body.

    Args:
        settings: the server, sampling, pace, prices and budget.
        api_key: sent to the server, and nowhere else.
        requests: ids should be unique.
        on_reply: called with id, reply and cost in US dollars, one call at a time.
        spent_usd: what earlier calls spent of `settings.max_usd`.
        response_format: JSON schema for servers that honour one; given up for servers that refuse it.

    Raises:
        BudgetReached: the next request could exceed `settings.max_usd`; replies in flight were reported.
        EndpointError: the server is down, keeps answering 429, refuses the key, or does not know the model.
    """
    client = _Client(settings, api_key, on_reply, spent_usd, response_format)
    if not requests:
        return Usage()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(client.ask(requests))
    # A loop is running in this thread already (a notebook, an async flow): run another in a thread of its own.
    with ThreadPoolExecutor(1, thread_name_prefix="scot-endpoint") as thread:
        job = thread.submit(asyncio.run, client.ask(requests))
        try:
            return job.result()
        except BaseException:
            client.cancel()
            raise


class _Client:
    def __init__(
        self,
        settings: EndpointSettings,
        api_key: str,
        on_reply: OnReply,
        spent_usd: float,
        response_format: Mapping[str, Any] | None,
    ) -> None:
        self.settings = settings
        self._key = api_key.strip()
        self._failures = Failures(settings, self._key)
        self._on_reply = on_reply
        self._format, self._asks_for_format = response_format, response_format is not None
        self._budget = Budget(settings.max_usd, spent_usd)
        self._usage = Usage()
        self._answered = 0  # replies that the server really wrote
        self._held: list[tuple[ChatRequest, Reply]] = []
        self._last_words = ""  # what the server said when it last turned a request down
        self._failed: BaseException | None = None  # why everything is stopping
        self._on_the_wire: set[asyncio.Task[None]] = set()
        self._open_at = 0.0  # loop time before which the server asked to be left alone
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Usage]] | None = None

    # ---------------------------------------------------------------------------------- many requests

    async def ask(self, requests: Sequence[ChatRequest]) -> Usage:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._running = loop, task
        self._settled = asyncio.Event()
        self._pace = pace(self.settings.requests_per_minute)
        self._openai = self._connect()
        waiting = iter(requests)
        count = min(self.settings.concurrency, len(requests))
        async with self._openai:
            workers = [asyncio.create_task(self._work(waiting)) for _ in range(count)]
            try:
                _, busy = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                # What is on the wire is paid for: let it arrive. What only waits is dropped.
                for worker in busy - self._on_the_wire:
                    worker.cancel()
            except asyncio.CancelledError:
                for worker in workers:
                    worker.cancel()
                raise
            finally:
                await asyncio.gather(*workers, return_exceptions=True)
        if self._failed is not None:
            raise self._failed
        self._release()
        return self._usage

    def cancel(self) -> None:
        """Stop from another thread; what is in flight is dropped."""
        if self._running is not None and not self._running[0].is_closed():
            self._running[0].call_soon_threadsafe(self._running[1].cancel)

    def _connect(self) -> openai.AsyncOpenAI:
        if not self._key.isascii() or not self._key.isprintable():
            raise self._failures.error(f"takes no such key: {KEY_VARIABLE} holds characters that no key has")
        parts = urlsplit(self.settings.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(
                f"the base URL {self.settings.base_url!r} is none: it looks like https://api.openai.com/v1"
            )
        # A proxy of the environment cannot reach this machine's loopback.
        local = parts.hostname in _LOOPBACK
        http = openai.DefaultAsyncHttpxClient(
            timeout=self.settings.timeout_s, trust_env=not local, verify=parts.scheme == "https"
        )
        return openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.settings.base_url,
            timeout=self.settings.timeout_s,
            max_retries=0,
            http_client=http,
        )

    async def _work(self, waiting: Iterator[ChatRequest]) -> None:
        try:
            await self._work_through(waiting)
        except BaseException as error:
            if self._failed is None:  # what fails while the rest is stopped is a consequence
                self._failed = error
            raise

    async def _work_through(self, waiting: Iterator[ChatRequest]) -> None:
        for request in waiting:
            highest = await self._set_aside(request)
            usd = 0.0
            try:
                reply = await self._reply(request)
                usd = price(self.settings, reply.prompt_tokens, reply.completion_tokens)
            finally:
                self._budget.settle(highest, usd)
                self._settled.set()
            self._receive(request, reply, usd)
            if self._failed is not None:
                return

    async def _set_aside(self, request: ChatRequest) -> float:
        highest = highest_price(self.settings, request)
        while not self._budget.reserve(highest):
            if self._budget.is_idle:
                raise BudgetReached(
                    f"the budget of ${self._budget.max_usd:.2f} is reached: ${self._budget.spent_usd:.4f} are spent "
                    f"and the next request may cost ${highest:.4f}; raise max_usd to go on, all replies are kept"
                )
            self._settled.clear()
            await self._settled.wait()
        return highest

    def _receive(self, request: ChatRequest, reply: Reply, usd: float) -> None:
        """Report a reply; hold back refused requests until the server has answered any."""
        if reply.finish_reason == _BAD_REQUEST and not self._answered:
            self._held.append((request, reply))
            if len(self._held) >= _HOPELESS:
                raise self._failures.error(f"turned down {_HOPELESS} requests and answered none: {self._last_words}")
            return
        self._release()
        self._report(request, reply, usd)

    def _release(self) -> None:
        held, self._held = self._held, []
        for request, reply in held:
            self._report(request, reply, 0.0)

    def _report(self, request: ChatRequest, reply: Reply, usd: float) -> None:
        used = self._usage
        self._usage = replace(
            used,
            replies=used.replies + 1,
            prompt_tokens=used.prompt_tokens + reply.prompt_tokens,
            completion_tokens=used.completion_tokens + reply.completion_tokens,
            usd=used.usd + usd,
        )
        self._on_reply(request.id, reply, usd)

    # ------------------------------------------------------------------------------------ one request

    async def _reply(self, request: ChatRequest) -> Reply:
        """The reply to one request, after as many attempts as it takes and the settings allow."""
        backoff = self.settings.backoff_s
        retries = stamina.retry_context(
            on=self._wait_for,
            attempts=self.settings.attempts,
            timeout=None,
            wait_initial=backoff,
            wait_max=60 * backoff,
            wait_jitter=backoff,
        )
        # Replies to other requests when this one failed last, and the time before that.
        answered = before = self._answered
        try:
            async for attempt in retries:
                with attempt:
                    self._usage = replace(self._usage, retries=self._usage.retries + (attempt.num > 1))
                    try:
                        return await self._attempt(request)
                    except RetryableError:
                        before, answered = answered, self._answered
                        raise
        except RetryableError as failure:
            if self._failed is not None:
                raise
            # Others were answered while this one kept failing: it is the request, not the server.
            if failure.status != 429 and self._answered > before:
                return Reply("", f"error:{failure.kind}", 0, 0)
            raise self._failures.gone(failure) from None
        raise AssertionError("a retry context ends by returning or raising")

    def _wait_for(self, error: Exception) -> bool | float:
        if not isinstance(error, RetryableError) or self._failed is not None:
            return False
        if error.wait_s is None:
            return True
        # The whole endpoint is meant, not this request alone.
        self._open_at = max(self._open_at, asyncio.get_running_loop().time() + error.wait_s)
        return error.wait_s

    async def _attempt(self, request: ChatRequest) -> Reply:
        clock = asyncio.get_running_loop().time
        while (closed_for := self._open_at - clock()) > 0:
            await asyncio.sleep(closed_for)
        if self._pace is not None:
            await self._pace.acquire()
        task = asyncio.current_task()
        assert task is not None
        self._on_the_wire.add(task)
        try:
            reply = await self._send(request)
        except openai.APITimeoutError:
            raise RetryableError("timeout") from None
        except openai.APIConnectionError:
            raise RetryableError("connection") from None
        except openai.APIStatusError as error:
            return self._turned_down(error)
        except ValueError:
            raise RetryableError("bad_body") from None
        finally:
            self._on_the_wire.discard(task)
        self._answered += 1
        return reply

    async def _send(self, request: ChatRequest) -> Reply:
        # Plain JSON both ways: the client's typed parameters and objects take longer than all else here.
        sent = body(self.settings, request, self._format)
        completion = await self._openai.post("/chat/completions", cast_to=object, body=sent)
        return read_completion(completion, request)

    def _turned_down(self, error: openai.APIStatusError) -> Reply:
        self._last_words = self._failures.quote(error)
        kind = self._failures.turned_down(error)
        if kind == "bad_request" and "response_format" in self._last_words and self._asks_for_format:
            logger.warning("%s takes no response_format; asking without", self._failures.where)
            self._format = None
            raise RetryableError("response_format", error.status_code, 0.0)
        return Reply("", f"error:{kind}", 0, 0)
