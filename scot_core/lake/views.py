"""SQL views over what is committed: plain text, so that any DuckDB can use them.

For every table a view of its newest dataset per (source, stage), and `<table>_all` over every dataset.
`runs` has a row for each committed dataset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from scot_core.lake.schema import SCHEMAS

RUNS_COLUMNS = (
    ("table", "VARCHAR"),
    ("key", "VARCHAR"),
    ("source", "VARCHAR"),
    ("stage", "VARCHAR"),
    ("newest", "BOOLEAN"),
    ("rows_in", "BIGINT"),
    ("rows_out", "BIGINT"),
    ("rejected", "BIGINT"),
    ("seconds", "DOUBLE"),
    ("prompt_tokens", "BIGINT"),
    ("completion_tokens", "BIGINT"),
    ("usd", "DOUBLE"),
    ("created_at", "TIMESTAMPTZ"),
    ("inputs", "VARCHAR[]"),
)


def render_views(datasets: Sequence[tuple[str, Mapping[str, Any]]], root: str) -> str:
    """SQL that makes the views. `datasets` is oldest first; `root` goes before every path."""
    newest = {(table, m["source"], m["stage"]): m["key"] for table, m in datasets}
    statements = []
    for table, schema in SCHEMAS.items():
        mine = [m for name, m in datasets if name == table]
        current = [m for m in mine if newest[table, m["source"], m["stage"]] == m["key"]]
        statements.append(_view(table, _select(table, schema, current, root)))
        statements.append(_view(f"{table}_all", _select(table, schema, mine, root)))
    statements.append(_view("runs", _runs(datasets, newest)))
    return (
        "-- views over committed data; written by scot, start DuckDB in this folder to use them\n"
        + "\n".join(statements)
        + "\n"
    )


def _view(name: str, select: str) -> str:
    return f'CREATE OR REPLACE VIEW "{name}" AS {select};'


def _select(table: str, schema: pa.Schema, manifests: Sequence[Mapping[str, Any]], root: str) -> str:
    paths = [f"{root}{table}/{m['key']}/{part['name']}" for m in manifests for part in m["parts"]]
    if not paths:
        nothing = ", ".join(f'CAST(NULL AS {_sql_type(f.type)}) AS "{f.name}"' for f in schema)
        return f"SELECT {nothing} WHERE false"
    if table == "embeddings":  # widths differ from encoder to encoder: read as lists of any length
        fields = ", ".join('"vector"::FLOAT[] AS "vector"' if f.name == "vector" else f'"{f.name}"' for f in schema)
        return " UNION ALL ".join(f"SELECT {fields} FROM {_parquet([path])}" for path in paths)
    return f"SELECT * FROM {_parquet(paths)}"


def _parquet(paths: Sequence[str]) -> str:
    """Exactly these files: DuckDB would expand wildcards in a folder's name, and read `a=b` as a column."""
    names = ", ".join(_text(re.sub(r"([*?[])", r"[\1]", path)) for path in paths)
    return f"read_parquet([{names}], hive_partitioning=false)"


def _runs(datasets: Sequence[tuple[str, Mapping[str, Any]]], newest: Mapping[tuple[str, str, str], str]) -> str:
    if not datasets:
        nothing = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in RUNS_COLUMNS)
        return f"SELECT {nothing} WHERE false"
    rows = []
    for table, m in datasets:
        values = (
            table, m["key"], m["source"], m["stage"], newest[table, m["source"], m["stage"]] == m["key"],
            m["rows"]["in"], m["rows"]["out"], m["rows"]["rejected"], m["usage"]["seconds"],
            m["usage"]["prompt_tokens"], m["usage"]["completion_tokens"], m["usage"]["usd"],
            m["created_at"], m["inputs"],
        )  # fmt: skip
        cells = zip(values, RUNS_COLUMNS, strict=True)
        rows.append("(" + ", ".join(f"{_literal(value)}::{kind}" for value, (_, kind) in cells) + ")")
    names = ", ".join(f'"{name}"' for name, _ in RUNS_COLUMNS)
    return f"SELECT * FROM (VALUES {', '.join(rows)}) AS runs({names})"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return repr(value)


def _sql_type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "STRUCT(" + ", ".join(f'"{f.name}" {_sql_type(f.type)}' for f in kind) + ")"
    if pa.types.is_fixed_size_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    names = {
        pa.string(): "VARCHAR", pa.binary(): "BLOB", pa.int8(): "TINYINT", pa.int32(): "INTEGER",
        pa.int64(): "BIGINT", pa.float32(): "FLOAT", pa.float64(): "DOUBLE",
    }  # fmt: skip
    return names[kind]
