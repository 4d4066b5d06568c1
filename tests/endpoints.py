"""Requests that the loopback teacher answers, and how it is treated, for the tests of the endpoint's clients."""

from __future__ import annotations

import random
from typing import Any

from scot_core.catalogue import language, world
from scot_core.catalogue.teacher import MODEL
from scot_core.config import ServerConfig
from scot_core.llm.remote.chat import ChatRequest, Sampling
from scot_core.triplets import chat_messages

KEY = "sk-canary-5f1d"


SAMPLING = Sampling(temperature=1.0, max_tokens=256, seed=0)


def server(url: str, **changes: Any) -> ServerConfig:
    usual: dict[str, Any] = {"timeout_s": 10, "attempts": 3, "concurrency": 8, "backoff_s": 0.002}
    prices = {"usd_per_million_prompt": 2.5, "usd_per_million_completion": 10.0}
    return ServerConfig(**{"base_url": url, "model": MODEL, **usual, **prices, **changes})


def captions(count: int) -> list[str]:
    rng = random.Random(3)
    unique: dict[str, None] = {}
    while len(unique) < count:
        product = world.sample(rng, "seen")
        unique[language.caption(product, language.mentioned(rng), rng.getrandbits(30))] = None
    return list(unique)


def request(content: str) -> ChatRequest:
    """A request of one message, which is its id, too."""
    return ChatRequest(content, [{"role": "user", "content": content}], SAMPLING)


def requests(
    count: int, response_format: dict[str, Any] | None = None, sampling: Sampling = SAMPLING
) -> list[ChatRequest]:
    return [ChatRequest(caption, chat_messages(caption), sampling, response_format) for caption in captions(count)]
