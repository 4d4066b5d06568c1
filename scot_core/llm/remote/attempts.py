"""One request at a time: as many attempts as it takes, at the endpoint's pace."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import openai
import stamina

from scot_core.config import ServerConfig
from scot_core.llm import Reply
from scot_core.llm.remote.chat import Request
from scot_core.llm.remote.failures import NO_ANSWER, Failures, RetryableError, tries, unanswered, wait_for
from scot_core.llm.remote.limits import Pace

logger = logging.getLogger(__name__)


class Sender:
    """Sends requests to one endpoint, each again until it is answered or turned down.

    Attributes:
        answered: replies that the server really wrote.
        retries: attempts after the first.
        on_the_wire: tasks whose request is being answered, and so paid for.
        stopping: set where everything ends; nothing is tried again after it.
        last_words: what the server said when it last turned a request down.
    """

    def __init__(self, server: ServerConfig, client: openai.AsyncOpenAI, failures: Failures) -> None:
        """Made inside the event loop it works in."""
        self._server, self._client, self._failures = server, client, failures
        self._pace = Pace(server.requests_per_minute, server.tokens_per_minute)
        self._open_at = 0.0  # loop time before which the server asked to be left alone
        self._takes_format = True
        self.answered = self.retries = 0
        self.on_the_wire: set[asyncio.Task[None]] = set()
        self.stopping = False
        self.last_words = ""

    async def reply(self, request: Request) -> Reply:
        """The reply to one request; "error:<kind>" where the server turns it down, though it answers others.

        Raises:
            EndpointError: the endpoint answers nothing.
            RetryableError: `stopping` was set while the request failed.
        """
        # Replies to other requests when this one failed last, and the time before that.
        answered = before = self.answered
        try:
            async for attempt in stamina.retry_context(on=self._wait_for, **tries(self._server)):
                with attempt:
                    self.retries += attempt.num > 1
                    try:
                        return await self._attempt(request)
                    except RetryableError:
                        before, answered = answered, self.answered
                        raise
        except RetryableError as failure:
            if self.stopping:
                raise
            # Others were answered while this one kept failing: it is the request, not the server.
            if failure.status != 429 and self.answered > before:
                return Reply("", f"error:{failure.kind}", 0, 0)
            raise self._failures.gone(failure) from None
        raise AssertionError("a retry context ends by returning or raising")

    def _wait_for(self, error: Exception) -> bool | float:
        wait = not self.stopping and wait_for(error)
        if not isinstance(wait, bool):  # the whole endpoint is meant, not this request alone
            self._open_at = max(self._open_at, asyncio.get_running_loop().time() + wait)
        return wait

    async def _attempt(self, request: Request) -> Reply:
        clock = asyncio.get_running_loop().time
        while (closed_for := self._open_at - clock()) > 0:
            await asyncio.sleep(closed_for)
        set_aside = request.prompt_tokens + request.sampling.max_tokens
        await self._pace.acquire(set_aside)
        task = asyncio.current_task()
        assert task is not None
        self.on_the_wire.add(task)
        try:
            reply = request.read(await self._send(request))
        except openai.APIStatusError as error:
            reply, refused = None, error
        except NO_ANSWER as error:
            raise unanswered(error) from None
        finally:
            self.on_the_wire.discard(task)
        if reply is None:  # out of the handler: what the server said may hold the key, and must be in no traceback
            return self._turned_down(refused)
        self._pace.correct(set_aside, reply.prompt_tokens + reply.completion_tokens)
        self.answered += 1
        return self._failures.received(reply)

    async def _send(self, request: Request) -> Any:
        # Plain JSON both ways: the client's typed parameters and objects take longer than all else here.
        body = request.body(self._server.model)
        if not self._takes_format:
            body.pop("response_format", None)
        return await self._client.post(request.path, cast_to=object, body=body)

    def _turned_down(self, error: openai.APIStatusError) -> Reply:
        self.last_words = self._failures.quote(error)
        kind = self._failures.turned_down(error)
        # Several requests may be told so at once: each is sent again, without.
        if kind == "bad_request" and "response_format" in self.last_words:
            if self._takes_format:
                logger.warning("%s takes no response_format; asking without", self._failures.where)
            self._takes_format = False
            raise RetryableError("response_format", error.status_code, 0.0)
        return Reply("", f"error:{kind}", 0, 0)
