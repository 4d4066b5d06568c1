"""What it means when an endpoint does not answer: try again, give up this request, or give up."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import openai

from scot_core.config import ServerConfig
from scot_core.errors import EndpointError
from scot_core.llm import Reply
from scot_core.llm.plain import escaped
from scot_core.llm.remote.limits import retry_after

logger = logging.getLogger(__name__)

KEY_VARIABLE: Final = "SCOT_API_KEY"
_RETRYABLE: Final = frozenset({408, 409, 429})  # and 5xx
_ROW_STATUS: Final = frozenset({400, 413, 422})  # this request is turned down, another may not be
_LONGEST_WAIT_S: Final = 600.0
_LIKE_A_KEY: Final = 12  # characters: what is shorter (EMPTY, none) is a word that a reply may hold


def refusal(status: object, code: object) -> str | None:
    """Why a request alone was turned down, content_filter or bad_request; None where the status says another thing."""
    if not isinstance(status, int) or status not in _ROW_STATUS:
        return None
    word = str(code or "")
    filtered = "content" in word and ("filter" in word or "policy" in word)
    return "content_filter" if filtered else "bad_request"


class RetryableError(Exception):
    """An attempt that may be repeated. Carries no text of the server: retries are logged.

    Attributes:
        kind: rate_limit, server, timeout, connection, bad_body, too_large or response_format.
        status: of the response, None where there was none.
        wait_s: how long the server asks to be left alone, None where it does not say.
    """

    def __init__(self, kind: str, status: int | None = None, wait_s: float | None = None) -> None:
        super().__init__(kind if status is None else f"{kind} ({status})")
        self.kind, self.status, self.wait_s = kind, status, wait_s


NO_ANSWER: Final = (
    openai.APIConnectionError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
)  # fmt: skip


def unanswered(error: Exception) -> RetryableError:
    """What one of `NO_ANSWER` says of an attempt: no answer came, or one that cannot be read."""
    if isinstance(error, openai.APITimeoutError):
        return RetryableError("timeout")
    return RetryableError("connection" if isinstance(error, openai.APIConnectionError) else "bad_body")


def tries(server: ServerConfig) -> dict[str, Any]:
    """How often one request is sent, and how far apart, as `stamina.retry_context` takes it."""
    return {
        "attempts": server.attempts,
        "timeout": None,
        "wait_initial": server.backoff_s,
        "wait_max": 60 * server.backoff_s,
        "wait_jitter": server.backoff_s,
    }


def wait_for(error: Exception) -> bool | float:
    """Whether to try again: no, in the usual while, or in so many seconds."""
    if not isinstance(error, RetryableError):
        return False
    return True if error.wait_s is None else error.wait_s


class GoneError(EndpointError):
    """An endpoint that failed every attempt: it may be back later."""


class Failures:
    """Failures of one endpoint, in words that never hold its key."""

    def __init__(self, server: ServerConfig, api_key: str) -> None:
        self._server = server
        self.api_key = api_key.strip()
        self._spelled = _spellings(self.api_key)
        self._said_that_it_estimates = False

    def __repr__(self) -> str:
        return f"Failures({self.where})"

    @property
    def where(self) -> str:
        """The base URL, without credentials."""
        parts = urlsplit(self._server.base_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def error(self, what: str) -> EndpointError:
        """An error that says where, and that nothing is lost."""
        return EndpointError(self._said(what))

    def _said(self, what: str) -> str:
        return f"{self.where} {what} (replies that arrived are kept)"

    def turned_down(self, error: openai.APIStatusError) -> str:
        """The kind of failure of a request that the server will not answer, though it may answer others.

        Raises:
            RetryableError: it may answer the same request later.
            EndpointError: it will not answer any.
        """
        status, code = error.status_code, str(error.code or "")
        if (kind := refusal(status, code)) is not None:
            return kind
        if code == "insufficient_quota" or status == 402:
            raise self.error("says that the account has no money left: top it up, then run again")
        if status in (401, 403):
            raise self.error(f"refuses the key ({status}): set {KEY_VARIABLE} to one that may use this model")
        if status == 404:
            raise self.error(f"knows no model {self._server.model!r}, or the base URL is wrong (404)")
        if 300 <= status < 400:
            raise self.error(
                f"redirects to {_host(error.response.headers, self.where)} ({status}), which was asked for nothing: "
                "set base_url to it if that is whom you mean"
            )
        if status not in _RETRYABLE and status < 500:
            raise self.error(f"answered {status}: {self.quote(error)}")
        wait_s = retry_after(error.response.headers)
        if wait_s is not None and wait_s > _LONGEST_WAIT_S:
            raise self.error(f"answered {status} and asks to wait {wait_s:.0f} s: run again then")
        raise RetryableError("rate_limit" if status == 429 else "server", status, wait_s)

    def gone(self, failure: RetryableError) -> GoneError:
        """The error for an endpoint that failed every attempt."""
        times = f"{self._server.attempts} times in a row"
        waited = f"{self._server.timeout_s:g} s"
        what = {
            "rate_limit": f"answered 429 {times}: lower concurrency or requests_per_minute, or run again later",
            "connection": f"could not be reached or dropped the connection {times}: is it up, is base_url right?",
            "timeout": f"did not answer within {waited}, {times}: raise timeout_s, or run again later",
            "too_large": f"answered with more than any reply has, {times}: is base_url right?",
            "bad_body": f"answered with something else than what was asked for {times}: is base_url right?",
        }
        return GoneError(self._said(what.get(failure.kind, f"answered {failure.status} {times}: run again later")))

    def quote(self, error: openai.APIStatusError) -> str:
        """What the server said, without the key, shortened."""
        return self.spoken(error.body.get("message", "") if isinstance(error.body, dict) else error.body or "")

    def spoken(self, words: object) -> str:
        """Words of the server, without the key, shortened."""
        return " ".join(escaped(self._masked(str(words))).split())[:200]

    def received(self, reply: Reply) -> Reply:
        """A reply that never holds the key, whatever the server makes of its requests; says once if it is estimated."""
        if not reply.counted and not self._said_that_it_estimates:
            self._said_that_it_estimates = True
            logger.warning("%s does not say how many tokens its replies take, or says what cannot be: "
                           "tokens and cost are estimates", self.where)  # fmt: skip
        return replace(reply, text=self._masked(reply.text)) if len(self.api_key) >= _LIKE_A_KEY else reply

    def _masked(self, text: str) -> str:
        return self._spelled.sub("***", text) if self.api_key else text


def _spellings(key: str) -> re.Pattern[str]:
    r"""Finds a key in text, and in JSON however often it was packed: each character as it is, or as its escape."""
    return re.compile("".join(rf"(?:\\{{0,16}}{re.escape(c)}|\\{{1,16}}u(?i:{ord(c):04x}))" for c in key))


def _host(headers: Mapping[str, str], base: str) -> str:
    """Where a redirect leads, without what else stands in its address."""
    try:
        return escaped(urlsplit(urljoin(base, headers.get("location", ""))).hostname or "nowhere")[:100]
    except ValueError:
        return "nowhere"
