"""The values of an Arrow table in Python and in JSON, whatever they are."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa


def rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows, in order; moments that Python has no type for are texts."""
    return zip(*(_values(column) for column in table.columns), strict=True)


def as_json(table: pa.Table) -> str:
    """A JSON list of one object a row.

    What JSON has no type for is text: bytes in base64, moments in ISO 8601, decimals with all their digits, and the
    numbers NaN, Infinity and -Infinity.
    """
    objects = [dict(zip(table.column_names, map(_plain, row), strict=True)) for row in rows(table)]
    return json.dumps(objects, allow_nan=False)


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        if isinstance(scalar, pa.StructScalar):
            return {name: _value(scalar[name]) for name in scalar}
        if pa.types.is_nested(scalar.type):
            return [_value(item) for item in scalar.values]
        return scalar.cast(pa.string()).as_py()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value.as_tuple().exponent == 0 else str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else str(value)
