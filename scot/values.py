"""Rows that are shown: of an answer, whatever DuckDB's types, as values of Python and as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

PLAIN: Final = frozenset(
    ("boolean", "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint",
     "uhugeint", "float", "double", "varchar", "blob", "null")
)  # fmt: skip
"""DuckDB's types that have one of Python's for all their values. Others go by Arrow, which takes a while to load."""


FETCHED: Final = 10_000  # rows at once, for some milliseconds in which Python does not hear of Ctrl-C


class Rows(NamedTuple):
    """Names of columns, each another, and a value of each in every row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def of_records(records: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows that have the columns of the first; what one lacks is None."""
    columns = list(records[0]) if records else []
    return Rows(columns, [[record.get(name) for name in columns] for record in records])


def of_answer(answer: duckdb.DuckDBPyRelation, columns: Sequence[str]) -> Callable[[], Rows]:
    """The rows of an answer, in order, as `scot_core.query` fetches them; moments that Python has no type for are
    texts.
    """
    if {kind.id for kind in answer.types} <= PLAIN:
        rows = answer.iter_rows(FETCHED)
        first = list(islice(rows, 1))  # for which DuckDB computes all of them
        return lambda: Rows(columns, [*first, *rows])
    table = answer.to_arrow_table().rename_columns(columns)
    return lambda: of_table(table)


def of_table(table: pa.Table) -> Rows:
    """The same, of an Arrow table."""
    return Rows(table.column_names, list(zip(*(_values(column) for column in table.columns), strict=True)))


def as_json(shown: Rows) -> str:
    """A JSON list of one object a row.

    What JSON has no type for is text: bytes in base64, moments in ISO 8601, decimals with all their digits, and the
    numbers NaN, Infinity and -Infinity.
    """
    objects = [dict(zip(shown.columns, map(_plain, row), strict=True)) for row in shown.rows]
    return json.dumps(objects, allow_nan=False)


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    import pyarrow as pa

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
