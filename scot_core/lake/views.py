"""SQL views over what is committed: plain text, so that any DuckDB can use them.

For every table a view of its newest dataset per (source, stage), `<table>_all` over every dataset, and
`promoted.<table>` over those of the generation in use. `runs` has a row for each committed dataset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from scot_core.lake.fingerprint import digest
from scot_core.lake.names import Reference
from scot_core.lake.schema import COLUMNS, VECTORS, texts_of
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
    ("characters", "MAP(VARCHAR, BIGINT)"),
    ("created_at", "TIMESTAMPTZ"),
    ("inputs", "VARCHAR[]"),
)

NAMES: Final = frozenset({*COLUMNS, "runs"})
"""What views are made of: each table, and the list of what is committed."""

_SQL_TYPES: Final = {
    "string": "VARCHAR", "int8": "TINYINT", "int32": "INTEGER", "int64": "BIGINT", "float64": "DOUBLE",
    "image": 'STRUCT("bytes" BLOB, "path" VARCHAR)', "vector": "FLOAT[]",
}  # fmt: skip
_WILD = re.compile(r"([*?[])")

GROWN = ("galleries",)
"""Tables that have columns now which older datasets lack; there they are null."""


def render_views(
    datasets: Sequence[Shown],
    root: str,
    promoted: Collection[Reference] | None = (),
    names: Collection[str] = NAMES,
) -> str:
    """SQL that makes the views. `datasets` is oldest first; `root` goes before every path.

    `promoted` are those of the generation in use; None where nobody can say, and then no view of them is made. `names`
    are the tables, and `runs`, whose views are made.
    """
    root = _WILD.sub(r"[\1]", root)  # DuckDB would expand wildcards in a folder's name; a key has none
    newest = {(d.table, d.source, d.stage): d.key for d in datasets}
    of_table: dict[str, list[Shown]] = {table: [] for table in COLUMNS if table in names}
    for dataset in datasets:
        if dataset.table in of_table:
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
    if "runs" in names:
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
    datasets = [dataset for dataset in datasets if dataset.sizes]
    sets = [[f"{root}{part}" for part in dataset.parts] for dataset in datasets]
    if not sets:
        return _nothing((name, _SQL_TYPES[kind]) for name, kind in COLUMNS[table].items())
    if table in VECTORS:  # widths differ from encoder to encoder: read as lists of any length
        fields = ", ".join('"vector"::FLOAT[] AS "vector"' if n == "vector" else f'"{n}"' for n in COLUMNS[table])
        return " UNION ALL ".join(f"SELECT {fields} FROM {parquet(paths)}" for paths in sets)
    texts = set(texts_of(table))
    older = table in GROWN and not all(texts <= (dataset.characters or {}).keys() for dataset in datasets)
    options = ("union_by_name=true",) if older else ()  # reads every footer
    return f"SELECT * FROM {parquet([path for paths in sets for path in paths], *options)}"


def parquet(paths: Sequence[str], *options: str) -> str:
    """These files, and `a=b` in a folder's name is no column."""
    return f"read_parquet({_list(paths)}::VARCHAR[], {', '.join(('hive_partitioning=false', *options))})"


def _runs(
    datasets: Sequence[Shown], newest: Mapping[tuple[str, str, str], str], promoted: Collection[Reference] | None
) -> str:
    if not datasets:
        return _nothing(RUNS_COLUMNS)
    columns: dict[str, Iterable[Any]] = {
        "newest": (newest[d.table, d.source, d.stage] == d.key for d in datasets),
        "promoted": (None if promoted is None else bool(promoted) and d.reference in promoted for d in datasets),
    }
    listed = {name: _list(columns.get(name) or map(attrgetter(name), datasets)) for name, _ in RUNS_COLUMNS}
    return "SELECT " + ", ".join(f'unnest({listed[name]}::{kind}[]) AS "{name}"' for name, kind in RUNS_COLUMNS)


def _list(values: Iterable[Any]) -> str:
    """A constant to be cast to a list: as one text, which is a hundred times cheaper to bind than a constant a value.

    The cast takes what JSON says of texts, numbers, truth values, nulls and lists of them, and maps with `=`.
    """
    return _text(json.dumps(list(values), ensure_ascii=False, separators=(", ", "=")))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _nothing(columns: Iterable[tuple[str, str]]) -> str:
    """A SELECT of columns, by name and type, that has no rows."""
    return "SELECT " + ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in columns) + " WHERE false"
