"""Chat completions as data: what is sent for one request, what comes back, what it costs.

The body of a request is the same whether it travels alone or as a line of a batch file, and so is the
completion that answers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scot_core.llm import Reply

# A token of English is four bytes of UTF-8 on average; three bound it from above in practice.
_BYTES_PER_TOKEN: Final = 3
_TOKENS_PER_MESSAGE: Final = 8  # role and separators, whatever the chat template


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One chat completion to ask for; `id` is handed back with the reply."""

    id: str
    messages: Sequence[Mapping[str, str]]
    seed: int


@dataclass(frozen=True)
class EndpointSettings:
    """An OpenAI-compatible server and how to treat it.

    Attributes:
        base_url: up to and including the version, such as https://api.openai.com/v1.
        model: as the server names it.
        temperature: of the sampling.
        max_tokens: of a reply.
        timeout_s: seconds to wait for a reply before it is asked for again.
        attempts: how often one request is sent at most.
        concurrency: requests in flight at once.
        requests_per_minute: None where nothing but the concurrency limits them.
        usd_per_million_prompt: price of a million prompt tokens.
        usd_per_million_completion: price of a million completion tokens.
        max_usd: no request starts that could cost more than what is left of it; None is no limit.
        backoff_s: the first wait after a failure without Retry-After; it doubles up to 60 times itself.
    """

    base_url: str
    model: str
    temperature: float = 1.0
    max_tokens: int = 256
    timeout_s: float = 60.0
    attempts: int = 6
    concurrency: int = 16
    requests_per_minute: int | None = None
    usd_per_million_prompt: float = 0.0
    usd_per_million_completion: float = 0.0
    max_usd: float | None = None
    backoff_s: float = 1.0


def body(
    settings: EndpointSettings, request: ChatRequest, response_format: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The JSON body of a request, as the chat completions endpoint takes it."""
    sent: dict[str, Any] = {
        "model": settings.model,
        "messages": list(request.messages),
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "seed": request.seed,
    }
    return sent if response_format is None else {**sent, "response_format": response_format}


def read_completion(completion: object, request: ChatRequest) -> Reply:
    """The reply in a chat completion.

    Raises:
        ValueError: not a chat completion.
    """
    try:
        choice = completion["choices"][0]  # type: ignore[index]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content") or "", message.get("refusal")
        usage = completion.get("usage") or {}  # type: ignore[attr-defined]
        # A server that does not count is not free: count for it.
        prompt = int(usage.get("prompt_tokens") or _prompt_tokens(request))
        written = int(usage.get("completion_tokens") or _tokens(text))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("not a chat completion") from error
    if not isinstance(text, str):
        raise ValueError("the content of the message is no text")
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate is valid JSON, but no text a file can hold
    if refusal or finish == "content_filter":
        return Reply(str(refusal or text), "refusal", prompt, written)
    return Reply(text, "length" if finish == "length" else "stop", prompt, written)


def price(settings: EndpointSettings, prompt_tokens: int, completion_tokens: int) -> float:
    """Cost in US dollars."""
    dollars = prompt_tokens * settings.usd_per_million_prompt + completion_tokens * settings.usd_per_million_completion
    return dollars / 1e6


def highest_price(settings: EndpointSettings, request: ChatRequest) -> float:
    """The most one request can cost in US dollars, in practice: a long prompt and a reply of `max_tokens`."""
    return price(settings, _prompt_tokens(request), settings.max_tokens)


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def _prompt_tokens(request: ChatRequest) -> int:
    return sum(_TOKENS_PER_MESSAGE + _tokens(message["content"]) for message in request.messages)
