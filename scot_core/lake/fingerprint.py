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
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, BinaryIO

KEY_DIGITS = 12
_hash = partial(hashlib.blake2b, digest_size=16)


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def fingerprint(stage: str, version: int, config: Mapping[str, Any], inputs: Iterable[str]) -> str:
    """32 hex digits of blake2b over stage, stage version, configuration and input fingerprints."""
    content = {"stage": stage, "version": version, "config": dict(config), "inputs": list(inputs)}
    return digest(canonical_json(content))


def key_of(prefix: str, identity: str) -> str:
    """A readable prefix and 12 hex digits; the prefix keeps it from being read as a number.

    A key is the name of a folder: what could mean something in a path or in SQL becomes a hyphen.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", prefix).lstrip("._")
    return f"{readable or 'x'}-{identity[:KEY_DIGITS]}"


def digest(data: bytes) -> str:
    """32 hex digits of blake2b over bytes: what manifests hold of a file, and what ids are made of."""
    return _hash(data).hexdigest()


def stream_digest(file: BinaryIO) -> str:
    """The same of everything that is left to read of a file, a MB at a time."""
    state = _hash()
    while block := file.read(1 << 20):
        state.update(block)
    return state.hexdigest()


def files_digest(paths: Iterable[Path], *, named: bool) -> str:
    """32 hex digits over the contents of files, in order, and over their names where these count, too.

    A file is read again when it changed.
    """
    total = _hash()
    for path in paths:
        stat = path.stat()
        total.update(f"{path.name}\0".encode() if named else b"")
        total.update(bytes.fromhex(_content(path, stat.st_size, stat.st_mtime_ns)))
    return total.hexdigest()


@lru_cache(maxsize=64)
def _content(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return stream_digest(file)
