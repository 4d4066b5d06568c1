"""Language models that write edits: remote endpoints and local weights answer with the same record."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a language model said to one request, before anything is parsed.

    Attributes:
        text: the reply as it came, unstripped.
        finish_reason: "stop", "length", "refusal", or "error:<kind>" when the request itself was turned down, or what
            came is no text that can be kept (`scot_core.llm.plain`).
        prompt_tokens: tokens of the prompt, as counted by whoever answered.
        completion_tokens: tokens of the reply, as counted by whoever answered.
        counted: False where nobody counted, or the counts could not be, and they are estimates.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    counted: bool = True
