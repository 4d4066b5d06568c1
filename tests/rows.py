"""Columns for datasets of tests."""

from __future__ import annotations

from typing import Any

from scot_core.lake.schema import schema_of


def no_rows(table: str) -> dict[str, list[Any]]:
    """Columns of a part without rows, for what lies beside it."""
    return {name: [] for name in schema_of(table).names if name != "key"}
