"""Small JSON files that know when they are not what was written: their last field is the digest of what stands before.

Manifests, records of runs and the alias are such files. Nothing is secret in a seal: it finds damage, not forgery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from scot_core.lake.fingerprint import digest

SEAL = "seal"


def plain_json(content: Mapping[str, Any]) -> bytes:
    """As such files are laid out: fields in their order, one a line."""
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def seal_of(content: Mapping[str, Any]) -> str:
    """32 hex digits over everything but the seal."""
    return digest(plain_json({name: value for name, value in content.items() if name != SEAL}))


def is_sealed(data: bytes, seal: str) -> bool:
    """Whether these are the very bytes that `sealed` gave: the seal is of what stands before it."""
    end = f',\n "{SEAL}": "{seal}"\n}}'.encode()
    return data.endswith(end) and digest(data.removesuffix(end) + b"\n}") == seal


def sealed(content: Mapping[str, Any]) -> bytes:
    """The file."""
    return plain_json({**content, SEAL: seal_of(content)})


def unsealed(data: bytes) -> dict[str, Any]:
    """What was sealed. Raises ValueError for anything but the very bytes that `sealed` gave."""
    content = json.loads(data)
    if not isinstance(content, dict) or sealed(content) != data:
        raise ValueError("it is not what was written")
    del content[SEAL]
    return content
