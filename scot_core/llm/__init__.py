"""Language models that write edits: remote endpoints and local weights answer with the same record."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a language model said to one request, before anything is parsed.

    Attributes:
        text: the reply as it came, unstripped.
        finish_reason: "stop", "length", "refusal", or "error:<kind>" when the request itself was turned down.
        prompt_tokens: tokens of the prompt, as counted by whoever answered.
        completion_tokens: tokens of the reply, as counted by whoever answered.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
