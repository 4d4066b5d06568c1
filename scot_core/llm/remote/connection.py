"""The openai client for any server: its own retries off, no proxy to this machine's loopback, keys checked."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

import openai

from scot_core.config import ServerConfig
from scot_core.errors import EndpointError
from scot_core.llm.remote.failures import KEY_VARIABLE, Failures

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def connect(server: ServerConfig, failures: Failures) -> openai.AsyncOpenAI:
    """A client for many requests at once. Raises EndpointError where base URL or key cannot be used."""
    options = _options(server, failures)
    return openai.AsyncOpenAI(**options, http_client=openai.DefaultAsyncHttpxClient(**_http(server)))


def connect_here(server: ServerConfig, failures: Failures) -> openai.OpenAI:
    """A client for one request after the other. Raises EndpointError where base URL or key cannot be used."""
    options = _options(server, failures)
    return openai.OpenAI(**options, http_client=openai.DefaultHttpxClient(**_http(server)))


def _options(server: ServerConfig, failures: Failures) -> dict[str, Any]:
    if not _is_address(server.base_url):
        raise EndpointError(f"the base URL {server.base_url!r} is none: it looks like https://api.openai.com/v1")
    key = failures.api_key
    if not key.isascii() or not key.isprintable():
        raise failures.error(f"takes no such key: {KEY_VARIABLE} holds characters that no key has")
    return {
        "api_key": key or "none",
        "base_url": server.base_url,
        "timeout": server.timeout_s,
        "max_retries": 0,
    }


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that are not closed, or a port that is none
        return False


def _http(server: ServerConfig) -> dict[str, Any]:
    parts = urlsplit(server.base_url)
    return {
        "timeout": server.timeout_s,
        "trust_env": parts.hostname not in _LOOPBACK,  # a proxy of the environment cannot reach it
        "verify": parts.scheme == "https",
    }
