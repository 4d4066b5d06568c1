"""Client of any OpenAI-compatible server: many chat completions at once, each paid for once.

One retry layer (the openai client's own is off), one pace, one budget. Every reply is handed over as it
arrives; whatever goes wrong afterwards, it has been reported.
"""

from __future__ import annotations

import asyncio
import json
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
from scot_core.llm.limits import Budget, pace, retry_after

__all__ = ["ChatRequest", "EndpointSettings", "OnReply", "Usage", "ask"]

logger = logging.getLogger(__name__)

OnReply = Callable[[str, Reply, float], None]

KEY_VARIABLE: Final = "SCOT_API_KEY"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_RETRYABLE: Final = frozenset({408, 409, 429})  # and 5xx
_ROW_STATUS: Final = frozenset({400, 413, 422})  # this request is turned down, another may not be
_HOPELESS: Final = 8  # requests turned down in a row, none answered: it is not the requests
_BAD_REQUEST: Final = "error:bad_request"
_LONGEST_WAIT_S: Final = 600.0


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


class _Retryable(Exception):
    """An attempt that may be repeated. Carries no text of the server: retries are logged."""

    def __init__(self, kind: str, status: int | None = None, wait_s: float | None = None) -> None:
        super().__init__(kind if status is None else f"{kind} ({status})")
        self.kind, self.status, self.wait_s = kind, status, wait_s


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
        self._key = api_key
        self._on_reply = on_reply
        self._format = response_format
        self._budget = Budget(settings.max_usd, spent_usd)
        self._usage = Usage()
        self._answered = 0  # replies that the server really wrote
        self._held: list[tuple[ChatRequest, Reply]] = []
        self._last_words = ""  # what the server said when it last turned a request down
        self._stopping = False
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
                done, busy = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                # What is on the wire is paid for: let it arrive. What only waits is dropped.
                self._stopping = bool(busy)
                for worker in busy - self._on_the_wire:
                    worker.cancel()
            except asyncio.CancelledError:
                for worker in workers:
                    worker.cancel()
                raise
            finally:
                await asyncio.gather(*workers, return_exceptions=True)
        for worker in [*done, *busy]:
            if not worker.cancelled() and (error := worker.exception()) is not None:
                raise error
        self._release()
        return self._usage

    def cancel(self) -> None:
        """Stop from another thread; what is in flight is dropped."""
        if self._running is not None and not self._running[0].is_closed():
            self._running[0].call_soon_threadsafe(self._running[1].cancel)

    def _connect(self) -> openai.AsyncOpenAI:
        # A proxy of the environment cannot reach this machine's loopback.
        local = urlsplit(self.settings.base_url).hostname in _LOOPBACK
        return openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.settings.base_url,
            timeout=self.settings.timeout_s,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(timeout=self.settings.timeout_s, trust_env=not local),
        )

    async def _work(self, waiting: Iterator[ChatRequest]) -> None:
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
            if self._stopping:
                return

    async def _set_aside(self, request: ChatRequest) -> float:
        highest = highest_price(self.settings, request)
        while not self._budget.reserve(highest):
            if self._budget.is_idle:
                raise BudgetReached(
                    f"the budget of ${self._budget.max_usd:.2f} is reached: ${self._budget.spent_usd:.4f} are spent and "
                    f"the next request may cost ${highest:.4f}; raise max_usd to go on, the replies so far are kept"
                )
            self._settled.clear()
            await self._settled.wait()
        return highest

    def _receive(self, request: ChatRequest, reply: Reply, usd: float) -> None:
        """Report a reply; hold back refused requests until the server has answered any."""
        if reply.finish_reason == _BAD_REQUEST and not self._answered:
            self._held.append((request, reply))
            if len(self._held) >= _HOPELESS:
                raise self._error(f"turned down {_HOPELESS} requests and answered none: {self._last_words}")
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
                    except _Retryable:
                        before, answered = answered, self._answered
                        raise
        except _Retryable as failure:
            if self._stopping:
                raise
            # Others were answered while this one kept failing: it is the request, not the server.
            if failure.status != 429 and self._answered > before:
                return Reply("", f"error:{failure.kind}", 0, 0)
            raise self._gone(failure) from None
        raise AssertionError("a retry context ends by returning or raising")

    def _wait_for(self, error: Exception) -> bool | float:
        if not isinstance(error, _Retryable) or self._stopping:
            return False
        return True if error.wait_s is None else error.wait_s

    async def _attempt(self, request: ChatRequest) -> Reply:
        loop = asyncio.get_running_loop()
        while (closed_for := self._open_at - loop.time()) > 0:
            await asyncio.sleep(closed_for)
        if self._pace is not None:
            await self._pace.acquire()
        task = asyncio.current_task()
        assert task is not None
        self._on_the_wire.add(task)
        try:
            reply = await self._send(request)
        except openai.APITimeoutError:
            raise _Retryable("timeout") from None
        except openai.APIConnectionError:
            raise _Retryable("connection") from None
        except openai.APIStatusError as error:
            return self._without_reply(error)
        except ValueError:
            raise _Retryable("bad_body") from None
        finally:
            self._on_the_wire.discard(task)
        self._answered += 1
        return reply

    async def _send(self, request: ChatRequest) -> Reply:
        # The raw response: building the client's typed objects takes longer than all else here.
        create: Any = self._openai.chat.completions.with_raw_response.create
        response = await create(**body(self.settings, request, self._format))
        return read_completion(json.loads(response.content), request)

    def _without_reply(self, error: openai.APIStatusError) -> Reply:
        """What a status other than 200 means: a row's failure is returned, everything else raised."""
        status, code = error.status_code, str(error.code or "")
        self._last_words = self._quote(error)
        if status in _ROW_STATUS:
            if self._format is not None and "response_format" in self._last_words:
                logger.warning("%s takes no response_format; going on without", self._where)
                self._format = None
            if "response_format" in self._last_words:
                raise _Retryable("response_format", status, 0.0)
            filtered = "content" in code and ("filter" in code or "policy" in code)
            return Reply("", "error:content_filter" if filtered else _BAD_REQUEST, 0, 0)
        if code == "insufficient_quota" or status == 402:
            raise self._error("says that the account has no money left: top it up, then run again")
        if status in (401, 403):
            raise self._error(f"refuses the key ({status}): set {KEY_VARIABLE} to one that may use {self.settings.model}")
        if status == 404:
            raise self._error(f"knows no model {self.settings.model!r}, or the base URL is wrong (404)")
        if status not in _RETRYABLE and status < 500:
            raise self._error(f"answered {status}: {self._last_words}")
        wait_s = retry_after(error.response.headers)
        if wait_s is not None:
            if wait_s > _LONGEST_WAIT_S:
                raise self._error(f"answered {status} and asks to wait {wait_s:.0f} s: run again then")
            # The whole endpoint is meant, not this request alone.
            self._open_at = max(self._open_at, asyncio.get_running_loop().time() + wait_s)
        raise _Retryable("rate_limit" if status == 429 else "server", status, wait_s)

    # ----------------------------------------------------------------------------------------- errors

    @property
    def _where(self) -> str:
        parts = urlsplit(self.settings.base_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def _error(self, what: str) -> EndpointError:
        return EndpointError(f"{self._where} {what} ({self._usage.replies} replies of this call are kept)")

    def _gone(self, failure: _Retryable) -> EndpointError:
        times = f"{self.settings.attempts} times in a row"
        what = {
            "rate_limit": f"answered 429 {times}: lower concurrency or requests_per_minute, or run again later",
            "connection": f"could not be reached or dropped the connection {times}: is it up, is base_url right?",
            "timeout": f"did not answer within {self.settings.timeout_s:g} s, {times}: raise timeout_s, or run again later",
            "bad_body": f"answered with something else than a chat completion {times}: is base_url right?",
        }
        return self._error(what.get(failure.kind, f"answered {failure.status} {times}: run again later"))

    def _quote(self, error: openai.APIStatusError) -> str:
        words = str(error.body.get("message", "") if isinstance(error.body, dict) else error.body or "")
        return (words.replace(self._key, "***") if self._key else words)[:200]
