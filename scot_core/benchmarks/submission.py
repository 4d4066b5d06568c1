"""Checks of files for evaluation servers, made before anything is written."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from scot_core.errors import DataError

SIZE_LIMIT = 5 * 1000 * 1000
"""Bytes; CIRR's server takes no larger file."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the list of one query must be: so many distinct images, all allowed, the reference not among them."""

    count: int
    allowed: Collection[Any]
    excluded: Any


def check_lists(file: str, lists: Mapping[str, Any], expected: Mapping[str, Expected]) -> None:
    """DataError naming the first query that is missing, unknown, or whose list is not as expected."""
    if missing := [query for query in expected if query not in lists]:
        raise DataError(f"{file}: query {missing[0]} is missing ({len(missing)} in all)")
    if unknown := [query for query in lists if query not in expected]:
        raise DataError(f"{file}: {unknown[0]!r} is no query of this split ({len(unknown)} in all)")
    for query, wanted in expected.items():
        names = lists[query]
        if not isinstance(names, list) or len(names) != wanted.count:
            found = len(names) if isinstance(names, list) else type(names).__name__
            raise DataError(f"{file}: query {query} must list {wanted.count} images, not {found}")
        if len(set(names)) < len(names):
            raise DataError(f"{file}: query {query} lists an image more than once")
        if strangers := [name for name in names if name not in wanted.allowed]:
            raise DataError(f"{file}: query {query} lists {strangers[0]!r}, which is not among its candidates")
        if wanted.excluded in names:
            raise DataError(f"{file}: query {query} lists its own reference image {wanted.excluded!r}")


def to_bytes(file: str, content: Mapping[str, Any]) -> bytes:
    """A submission file as it is sent: compact JSON, the same bytes every time. DataError above SIZE_LIMIT."""
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    if len(data) > SIZE_LIMIT:
        raise DataError(f"{file} would have {len(data):,} bytes; the server takes {SIZE_LIMIT:,}")
    return data
