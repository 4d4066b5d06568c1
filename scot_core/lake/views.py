"""SQL views over what is committed: plain text, so that any DuckDB can use them.

For every table a view of its newest dataset per (source, stage), `<table>_all` over every dataset, and
`promoted.<table>` over those of the generation in use. `runs` has a row for each committed dataset.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter

import pyarrow as pa

from scot_core.lake.fingerprint import digest
from scot_core.lake.names import Reference
from scot_core.lake.schema import SCHEMAS, VECTORS
from scot_core.lake.shown import Shown

HEADER = "-- views over committed data; written by scot, start DuckDB in this folder to use them"
RUNS_COLUMNS = (
    ("table", "VARCHAR"),
    ("key", "VARCHAR"),
    ("source", "VARCHAR"),
    ("stage", "VARCHAR"),
    ("newest", "BOOLEAN"),
    ("promoted", "BOOLEAN"),
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

_WILD = re.compile(r"([*?[])")

GROWN = ("galleries",)
"""Tables that have columns now which older datasets lack; there they are null."""


def render_views(datasets: Sequence[Shown], root: str, promoted: Collection[Reference] | None = ()) -> str:
    """SQL that makes the views. `datasets` is oldest first; `root` goes before every path.

    `promoted` are those of the generation in use; None where nobody can say, and then no view of them is made.
    """
    newest = {(d.table, d.source, d.stage): d.key for d in datasets}
    of_table: dict[str, list[Shown]] = {table: [] for table in SCHEMAS}
    for dataset in datasets:
        of_table[dataset.table].append(dataset)
    statements = []
    for table, mine in of_table.items():
        current = [d for d in mine if newest[table, d.source, d.stage] == d.key]
        statements.append(_view(table, _select(table, current, root)))
        statements.append(_view(f"{table}_all", _select(table, mine, root)))
        if promoted is not None:
            chosen = [d for d in mine if promoted and d.reference in promoted]
            statements.append(_view(table, _select(table, chosen, root), "promoted."))
    if promoted is not None:
        statements.insert(0, "CREATE SCHEMA IF NOT EXISTS promoted;")
    statements.append(_view("runs", _runs(datasets, newest, promoted)))
    body = "\n".join(statements) + "\n"
    return f"{_header(body.encode())}\n{body}"


def is_intact(views: bytes) -> bool:
    """Whether a file of views is as some Scot wrote it, as far as it says: those of the first Scots have no seal."""
    header, _, body = views.partition(b"\n")
    return header in (HEADER.encode(), _header(body).encode())


def _header(body: bytes) -> str:
    return f"{HEADER}; seal {digest(body)}"


def _view(name: str, select: str, schema: str = "") -> str:
    return f'CREATE OR REPLACE VIEW {schema}"{name}" AS {select};'


def _select(table: str, datasets: Sequence[Shown], root: str) -> str:
    sets = [[f"{root}{part}" for part in dataset.parts] for dataset in datasets if dataset.sizes]
    if not sets:
        nothing = ", ".join(f'CAST(NULL AS {_sql_type(f.type)}) AS "{f.name}"' for f in SCHEMAS[table])
        return f"SELECT {nothing} WHERE false"
    if table in VECTORS:  # widths differ from encoder to encoder: read as lists of any length
        names = SCHEMAS[table].names
        fields = ", ".join('"vector"::FLOAT[] AS "vector"' if name == "vector" else f'"{name}"' for name in names)
        return " UNION ALL ".join(f"SELECT {fields} FROM {parquet(paths)}" for paths in sets)
    options = ("union_by_name=true",) if table in GROWN else ()  # reads every footer
    return f"SELECT * FROM {parquet([path for paths in sets for path in paths], *options)}"


def parquet(paths: Sequence[str], *options: str) -> str:
    """Exactly these files: DuckDB would expand wildcards in a folder's name, and read `a=b` as a column."""
    names = ", ".join(_text(_WILD.sub(r"[\1]", path)) for path in paths)
    return f"read_parquet([{names}], {', '.join(('hive_partitioning=false', *options))})"


def _runs(
    datasets: Sequence[Shown], newest: Mapping[tuple[str, str, str], str], promoted: Collection[Reference] | None
) -> str:
    if not datasets:
        nothing = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in RUNS_COLUMNS)
        return f"SELECT {nothing} WHERE false"
    columns: dict[str, Iterable[str]] = {
        name: map(_quoted if kind == "VARCHAR" else repr, map(attrgetter(name), datasets))
        for name, kind in RUNS_COLUMNS
        if name not in ("newest", "promoted", "created_at", "inputs")
    }
    columns["newest"] = (_truth(newest[d.table, d.source, d.stage] == d.key) for d in datasets)
    columns["promoted"] = (_truth(None if promoted is None else bool(promoted) and d.reference in promoted)
                           for d in datasets)  # fmt: skip
    columns["created_at"] = (_quoted(d.created_at) for d in datasets)
    columns["inputs"] = (f"[{', '.join(map(_quoted, d.inputs))}]" for d in datasets)
    # One text a column, cast to a list: a hundred times cheaper to bind than a constant, with its cast, a cell.
    listed = {name: _text(f"[{', '.join(columns[name])}]") for name, _ in RUNS_COLUMNS}
    return "SELECT " + ", ".join(f'unnest({listed[name]}::{kind}[]) AS "{name}"' for name, kind in RUNS_COLUMNS)


def _quoted(value: str) -> str:
    """A text in a list, as DuckDB's cast from text takes it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _truth(value: bool | None) -> str:
    return "NULL" if value is None else str(value).lower()


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


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
