"""Configuration of servers that are asked for replies: OpenAI-compatible ones, whoever runs them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from scot_core.config.base import Config, Execution, Positive
from scot_core.config.prices import BATCH_DISCOUNT, Price, price_of
from scot_core.errors import ConfigError

TEACHER = "catalogue-teacher-1"


class ServerConfig(Config):
    """An OpenAI-compatible server, one of its models, and how to treat them.

    Its identity is `name` where one is given, else `base_url`.
    """

    name: str | None = None
    """What stands for the address in keys, so that a server may move; none for the address itself."""
    base_url: str = ""
    """Address up to and including the version, such as https://api.openai.com/v1; empty for what the stage has here."""
    model: str
    """Model, as the server names it."""
    concurrency: Positive = Execution(16)
    """Requests in flight at once."""
    requests_per_minute: int | None = Execution(None, gt=0)
    """Limit of requests; none where nothing but the concurrency limits them."""
    tokens_per_minute: int | None = Execution(None, gt=0)
    """Limit of tokens, of prompts and replies together; none where nothing limits them."""
    timeout_s: float = Execution(60.0, gt=0)
    """Seconds that one attempt may take in all, to the last byte of its reply; a batch's files have 20 times that."""
    attempts: int = Execution(6, gt=0)
    """How often one request is sent at most."""
    backoff_s: float = Execution(1.0, gt=0)
    """Seconds of the first wait after a failure without Retry-After; it doubles up to 60 times itself."""
    usd_per_million_prompt: float | None = Execution(None, ge=0)
    """US dollars for a million tokens of prompts; none for the price in `scot_core.config.prices`."""
    usd_per_million_completion: float | None = Execution(None, ge=0)
    """US dollars for a million tokens of replies; none for the price in `scot_core.config.prices`."""

    @model_validator(mode="after")
    def _no_secret_in_the_address(self) -> ServerConfig:
        if "@" in self.base_url or "?" in self.base_url:
            raise ConfigError(
                "endpoint.base_url holds a user name, a password or a query, and would be shown in manifests: "
                "give the address alone, and the key in SCOT_API_KEY"
            )
        return self

    def identity(self) -> dict[str, Any]:
        sent = {name: value for name, value in super().identity().items() if name != "base_url"}
        return {**sent, "name": self.name or self.base_url.rstrip("/") or TEACHER}

    @property
    def price(self) -> Price | None:
        """US dollars for a million tokens; None where neither this configuration nor the table says."""
        prompt, written = price_of(self.model) or (None, None)
        if self.usd_per_million_prompt is not None:
            prompt = self.usd_per_million_prompt
        if self.usd_per_million_completion is not None:
            written = self.usd_per_million_completion
        return None if prompt is None or written is None else Price(prompt, written)

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost in US dollars. A model whose price nobody knows costs nothing here."""
        price = self.price
        return 0.0 if price is None else (prompt_tokens * price.prompt + completion_tokens * price.completion) / 1e6


class EndpointConfig(ServerConfig):
    """A server that is asked for chat completions. Without a base URL it is the loopback server of the catalogue."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Of the sampling; 0 takes the likeliest token."""
    max_tokens: Positive = 256
    """Longest reply, in tokens."""
    batch_discount: float = Execution(BATCH_DISCOUNT, ge=0, le=1)
    """Share of its prices that the server's Batch API asks for."""
