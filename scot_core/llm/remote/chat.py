"""Completions as data: what is sent for one request, what comes back, what it costs.

The body of a request is the same whether it travels alone or as a line of a batch file, and so is the
completion that answers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from scot_core.config import ServerConfig
from scot_core.llm import Reply
from scot_core.llm.plain import is_count, plain

# A token of English is four bytes of UTF-8 on average; three bound it from above in practice.
_BYTES_PER_TOKEN: Final = 3
_TOKENS_PER_MESSAGE: Final = 8  # role and separators, whatever the chat template


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is drawn.

    Attributes:
        temperature: 0 takes the likeliest token.
        max_tokens: of the reply, at most.
        seed: of the draw, for servers that honour one.
    """

    temperature: float
    max_tokens: int
    seed: int

    def body(self, model: str) -> dict[str, Any]:
        """These fields of a request's body."""
        return {"model": model, "temperature": self.temperature, "max_tokens": self.max_tokens, "seed": self.seed}


class Request(Protocol):
    """One completion to ask for; `id` is handed back with the reply."""

    path: ClassVar[str]  # below the base URL

    @property
    def id(self) -> str: ...

    @property
    def sampling(self) -> Sampling: ...

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, bounded from above in practice."""
        ...

    def body(self, model: str) -> dict[str, Any]:
        """The JSON body, as the server takes it."""
        ...

    def read(self, answer: object) -> Reply:
        """The reply in an answer. Raises ValueError where the answer is none of the kind asked for."""
        ...


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion; `response_format` is a JSON schema for servers that honour one."""

    path: ClassVar[str] = "/chat/completions"

    id: str
    messages: Sequence[Mapping[str, str]]
    sampling: Sampling
    response_format: Mapping[str, Any] | None = None

    @property
    def prompt_tokens(self) -> int:
        return sum(_TOKENS_PER_MESSAGE + _tokens(message["content"]) for message in self.messages)

    def body(self, model: str) -> dict[str, Any]:
        sent = {**self.sampling.body(model), "messages": list(self.messages)}
        return sent if self.response_format is None else {**sent, "response_format": self.response_format}

    def read(self, answer: object) -> Reply:
        choice, usage = _first_choice(answer)
        try:
            message = choice["message"]
            text, refusal = _text(message.get("content") or ""), message.get("refusal")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a chat completion") from error
        finish = choice.get("finish_reason")
        if refusal or finish == "content_filter":
            return _reply(str(refusal or text), "refusal", usage, self)
        return _reply(text, "length" if finish == "length" else "stop", usage, self)


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A plain text completion, the kind that continues a prompt as a local causal model does."""

    path: ClassVar[str] = "/completions"

    id: str
    prompt: str
    sampling: Sampling
    stop: tuple[str, ...] = ()

    @property
    def prompt_tokens(self) -> int:
        return _tokens(self.prompt)

    def body(self, model: str) -> dict[str, Any]:
        # top_p is said aloud: servers may take another default from the model's own files
        sent = {**self.sampling.body(model), "prompt": self.prompt, "top_p": 1.0}
        return {**sent, "stop": list(self.stop)} if self.stop else sent

    def read(self, answer: object) -> Reply:
        choice, usage = _first_choice(answer)
        if "text" not in choice:
            raise ValueError("not a text completion")
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        return _reply(_text(choice["text"] or ""), finish, usage, self)


def highest_price(server: ServerConfig, request: Request) -> float:
    """The most one request can cost in US dollars, in practice: a long prompt and a reply of `max_tokens`."""
    return server.usd(request.prompt_tokens, request.sampling.max_tokens)


def _first_choice(answer: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The first choice and the usage. Raises ValueError where there is none."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ValueError("not a completion")
    usage = answer.get("usage")
    return choices[0], usage if isinstance(usage, dict) else {}


def _text(content: object) -> str:
    if not isinstance(content, str):
        raise ValueError("the content of the completion is no text")
    return content


def _reply(text: str, finish: str, usage: Mapping[str, Any], request: Request) -> Reply:
    # A server that does not count is not free, nor is one whose counts cannot be: count for it.
    prompt, known = _count(usage.get("prompt_tokens"), request.prompt_tokens)
    written, sure = _count(usage.get("completion_tokens"), _tokens(text))
    return plain(Reply(text, finish, prompt, written, counted=known and sure))


def _count(said: Any, estimate: int) -> tuple[int, bool]:
    """The tokens that a server says, else the estimate; and whether it is what the server says."""
    try:
        count = 0 if isinstance(said, bool) else int(said)
    except (TypeError, ValueError, OverflowError):
        return estimate, False
    return (count, True) if count > 0 and is_count(count) else (estimate, count == estimate)


def _tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)
