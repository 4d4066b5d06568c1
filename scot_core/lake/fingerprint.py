"""The identity of a dataset: what was asked for, and from what.

A fingerprint covers what is *sent* (configuration, prompt text, model, sampling, parser version) and the
fingerprints of the inputs, never the source of a function. So a change makes new keys downstream of it
and everything else is found and reused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

KEY_DIGITS = 12


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def fingerprint(stage: str, version: int, config: Mapping[str, Any], inputs: Iterable[str]) -> str:
    """32 hex digits of blake2b over stage, stage version, configuration and input fingerprints."""
    content = {"stage": stage, "version": version, "config": dict(config), "inputs": list(inputs)}
    return hashlib.blake2b(canonical_json(content), digest_size=16).hexdigest()


def key_of(prefix: str, identity: str) -> str:
    """A readable prefix and 12 hex digits; the prefix keeps it from being read as a number.

    A key is the name of a folder: what could mean something in a path or in SQL becomes a hyphen.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", prefix).lstrip("._")
    return f"{readable or 'x'}-{identity[:KEY_DIGITS]}"


def digest(data: bytes) -> str:
    """Digest of a file's bytes, as manifests hold it."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
