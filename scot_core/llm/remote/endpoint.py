"""Client of any OpenAI-compatible server: many completions at once, each paid for once.

One retry layer (the openai client's own is off), one pace, one budget. Every reply is handed over as it
arrives; whatever goes wrong afterwards, it has been reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from scot_core.config import ServerConfig
from scot_core.errors import BudgetReached
from scot_core.llm import Reply
from scot_core.llm.remote.attempts import Sender
from scot_core.llm.remote.chat import Request, highest_price
from scot_core.llm.remote.connection import connect, run
from scot_core.llm.remote.failures import Failures
from scot_core.llm.remote.limits import Budget

__all__ = ["AskTotals", "OnReply", "ask"]

OnReply = Callable[[str, Reply, float], None]

_HOPELESS: Final = 8  # requests turned down in a row, none answered: it is not the requests
_BAD_REQUEST: Final = "error:bad_request"


@dataclass(frozen=True, slots=True)
class AskTotals:
    """What a call of `ask` used: replies reported, requests sent again, tokens and US dollars."""

    replies: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0


def ask(
    server: ServerConfig,
    api_key: str,
    requests: Sequence[Request],
    *,
    on_reply: OnReply,
    max_usd: float | None = None,
    spent_usd: float = 0.0,
) -> AskTotals:
    """Ask for completions and report each reply as it arrives, in no particular order.

    A request that the server turns down while it answers others is reported as a reply with the finish
    reason "error:<kind>" and costs nothing; kinds are content_filter, bad_request, server, timeout,
    connection, bad_body, too_large; and wrong_encoding and control_characters, which cost what they cost, of replies
    that are no plain text. A `response_format` is given up for servers that refuse it.

    Args:
        server: where, its model, pace and prices.
        api_key: sent to the server, and nowhere else.
        requests: ids should be unique.
        on_reply: called with id, reply and cost in US dollars, one call at a time.
        max_usd: no request starts that could cost more than what is left of it; None is no limit.
        spent_usd: what earlier calls spent of it.

    Raises:
        BudgetReached: the next request could exceed `max_usd`; replies in flight were reported.
        EndpointError: the server is down, keeps answering 429, refuses the key, or does not know the model.
    """
    client = _Client(server, api_key, on_reply, Budget(max_usd, spent_usd))
    if not requests:
        return AskTotals()
    return run(client.ask(requests))


class _Client:
    def __init__(self, server: ServerConfig, api_key: str, on_reply: OnReply, budget: Budget) -> None:
        self._server, self._budget = server, budget
        self._failures = Failures(server, api_key)
        self._on_reply = on_reply
        self._usage = AskTotals()
        self._held: list[tuple[Request, Reply]] = []
        self._failed: BaseException | None = None  # why everything is stopping

    async def ask(self, requests: Sequence[Request]) -> AskTotals:
        self._settled = asyncio.Event()
        waiting = iter(requests)
        count = min(self._server.concurrency, len(requests))
        async with connect(self._server, self._failures) as openai:
            self._sender = Sender(self._server, openai, self._failures)
            workers = [asyncio.create_task(self._work(waiting)) for _ in range(count)]
            try:
                _, busy = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                # What is on the wire is paid for: let it arrive. What only waits is dropped.
                for worker in busy - self._sender.on_the_wire:
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
        return replace(self._usage, retries=self._sender.retries)

    async def _work(self, waiting: Iterator[Request]) -> None:
        try:
            await self._work_through(waiting)
        except BaseException as error:
            if self._failed is None:  # what fails while the rest is stopped is a consequence
                self._failed = error
                self._sender.stopping = True
            raise

    async def _work_through(self, waiting: Iterator[Request]) -> None:
        for request in waiting:
            highest = await self._set_aside(request)
            usd = 0.0
            try:
                reply = await self._sender.reply(request)
                usd = self._server.usd(reply.prompt_tokens, reply.completion_tokens)
            finally:
                self._budget.settle(highest, usd)
                self._settled.set()
            self._receive(request, reply, usd)
            if self._failed is not None:
                return

    async def _set_aside(self, request: Request) -> float:
        highest = highest_price(self._server, request)
        while not self._budget.reserve(highest):
            if self._budget.is_idle:
                raise BudgetReached(
                    f"the budget of ${self._budget.max_usd:.2f} is reached: ${self._budget.spent_usd:.4f} are spent "
                    f"and the next request may cost ${highest:.4f}; raise max_usd to go on, all replies are kept"
                )
            self._settled.clear()
            await self._settled.wait()
        return highest

    def _receive(self, request: Request, reply: Reply, usd: float) -> None:
        """Report a reply; hold back refused requests until the server has answered any."""
        if reply.finish_reason == _BAD_REQUEST and not self._sender.answered:
            self._held.append((request, reply))
            if len(self._held) >= _HOPELESS:
                said = self._sender.last_words
                raise self._failures.error(f"turned down {_HOPELESS} requests and answered none: {said}")
            return
        self._report(request, reply, usd)  # first: it is paid for, those held back are not
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        for request, reply in held:
            self._report(request, reply, 0.0)

    def _report(self, request: Request, reply: Reply, usd: float) -> None:
        used = self._usage
        self._usage = replace(
            used,
            replies=used.replies + 1,
            prompt_tokens=used.prompt_tokens + reply.prompt_tokens,
            completion_tokens=used.completion_tokens + reply.completion_tokens,
            usd=used.usd + usd,
        )
        self._on_reply(request.id, reply, usd)
