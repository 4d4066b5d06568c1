"""SQL over the lake: through `query`, and with a plain DuckDB on the files."""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Identity, Lake, Reference, Usage
from scot_core.lake.schema import COLUMNS, TABLES, VECTORS
from scot_core.lake.storage import Storage
from scot_core.lake.views import NAMES
from scot_core.query import SharedFile, connect, named_in, query

Rows = Callable[..., dict[str, Any]]
Identify = Callable[..., Identity]
Commit = Callable[..., Dataset]

VIEWS = [*TABLES, *(f"{table}_all" for table in TABLES), *(f'promoted"."{table}' for table in TABLES), "runs"]
EXAMPLES = {"string": "text", "int8": 1, "int32": 2, "int64": 3, "float64": 0.5}


def _example(table: str) -> dict[str, Any]:
    """One row of a table."""
    columns: dict[str, Any] = {name: [EXAMPLES.get(kind)] for name, kind in COLUMNS[table].items() if name != "key"}
    if "image" in columns:
        columns["image"] = [{"bytes": b"\x89PNG", "path": "a.png"}]
    if "vector" in columns:
        columns["vector"] = _vectors(1, 3)
    return columns


def _vectors(rows: int, dim: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array([1.0] + [0.0] * (rows * dim - 1), pa.float32()), dim)


def _embeddings(dim: int, encoder: str) -> dict[str, Any]:
    texts: dict[str, Any] = {name: [name, name] for name in ("item_id", "source", "kind", "text")}
    return {**texts, "encoder": [encoder] * 2, "vector": _vectors(2, dim)}


def _types(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    return {name: str(kind) for name, kind, *_ in connection.sql(f'describe "{view}"').fetchall()}


# ------------------------------------------------------------------------------------- views


def test_views_have_the_same_columns_whether_there_are_rows_or_not(
    lake: Lake, identify: Identify, commit: Commit
) -> None:
    with connect(lake) as empty:
        assert all(empty.sql(f'from "{view}"').fetchall() == [] for view in VIEWS)
        assert empty.sql("select count(*), avg(value) from benchmarks").fetchall() == [(0, None)]
        types = {view: _types(empty, view) for view in VIEWS}
    for table in TABLES:
        assert list(types[table]) == list(COLUMNS[table])
        commit(lake, identify(table), _example(table))
    with connect(lake) as full:
        assert {view: _types(full, view) for view in VIEWS} == types
        for table in TABLES:
            expected = {**_example(table), "key": [identify(table).key]}
            if table in VECTORS:
                expected["vector"] = [[1.0, 0.0, 0.0]]
            (row,) = full.sql(f'from "{table}"').to_arrow_table().to_pylist()
            assert row == {name: values[0] for name, values in expected.items()}


def test_views_show_the_newest_key_of_each_source_and_stage(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    commit(lake, identify(version=1), triplets(1))
    newest = commit(lake, identify(version=2), triplets(2), triplets(1, first=2))
    commit(lake, identify(source="other"), triplets(4, source="other"))
    commit(lake, identify(stage="generate"), triplets(5))
    lake.draft(identify(version=9)).write_part(0, triplets(100))
    counts = "select source, key, count(*)::int as n from {} group by all order by n"
    assert [row["n"] for row in query(lake, counts.format("triplets")).to_pylist()] == [3, 4, 5]
    assert [row["n"] for row in query(lake, counts.format("triplets_all")).to_pylist()] == [1, 3, 4, 5]
    assert query(lake, "from triplets where source = 'shop'")["key"].to_pylist()[0] == newest.key
    runs = query(lake, "select stage, rows_out::int as n, newest from runs order by created_at").to_pylist()
    assert [(r["stage"], r["n"], r["newest"]) for r in runs] == [
        ("seed", 1, False),
        ("seed", 3, True),
        ("seed", 4, True),
        ("generate", 5, True),
    ]


def test_runs_say_what_was_made_from_what_and_its_cost(lake: Lake, triplets: Rows) -> None:
    inputs = [Reference("captions", "c-1"), Reference("replies", "r-2")]
    draft = lake.draft(Identity("triplets", "shop", "it's", "0123456789abcdef" * 2, {}, inputs))
    draft.write_part(0, triplets(2))
    draft.commit(1, rows_in=5, rejected=3, usage=Usage(seconds=1e-7, prompt_tokens=10, completion_tokens=20, usd=0.25))
    (run,) = query(
        lake, "select * exclude (created_at), created_at > now() - interval 1 hour as new from runs"
    ).to_pylist()
    assert run == {
        "table": "triplets",
        "key": "shop-it-s-0123456789ab",
        "source": "shop",
        "stage": "it's",
        "newest": True,
        "promoted": False,
        "rows_in": 5,
        "rows_out": 2,
        "rejected": 3,
        "seconds": 1e-7,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "usd": 0.25,
        "characters": [
            ("caption", 38),
            ("image_id", 14),
            ("key", 44),
            ("kind", 8),
            ("model", 14),
            ("modification", 24),
            ("modified_caption", 40),
            ("pair_id", 64),
            ("source", 8),
        ],
        "inputs": ["captions/c-1", "replies/r-2"],
        "new": True,
    }


def test_embeddings_of_different_widths_live_in_one_view(lake: Lake, identify: Identify, commit: Commit) -> None:
    commit(lake, identify("embeddings", stage="small"), _embeddings(4, "small"))
    commit(lake, identify("embeddings", stage="large"), _embeddings(8, "large"), _embeddings(8, "large"))
    widths = "select encoder, len(vector)::int, count(*)::int from embeddings group by all order by 2"
    cosine = "array_cosine_similarity(vector::float[8], vector::float[8])"
    with connect(lake) as connection:
        assert connection.sql(widths).fetchall() == [("small", 4, 2), ("large", 8, 4)]
        assert connection.sql(widths.replace("from embeddings", "from embeddings_all")).fetchall() == [
            ("small", 4, 2),
            ("large", 8, 4),
        ]
        of_one = connection.sql(f"select {cosine} from embeddings where encoder = 'large' and vector[1] = 1")
        assert of_one.fetchall() == [(1.0,), (1.0,)]


@pytest.mark.parametrize(
    "name", ["it's", "a[1]b", "star*", "who?", "year=2024", "with space", "100%20", "naïve", "[!x]"]
)
def test_any_folder_name_will_do(tmp_path: Path, triplets: Rows, identify: Identify, commit: Commit, name: str) -> None:
    for decoy in ("a1b", "starry", "whom", "y"):
        commit(Lake(tmp_path / decoy), identify(), triplets(50))
    lake = Lake(tmp_path / name)
    commit(lake, identify(), triplets(2), triplets(1, first=2))
    table = query(lake, "from triplets")
    assert table.schema.names == list(COLUMNS["triplets"])
    assert table.num_rows == 3


# ------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select * from nothing", "nothing does not exist"),
        ("selec 1", "syntax error"),
        ("select colour from triplets", "colour"),
        ("select 'x'::int", "Could not convert string 'x'"),
        ("select caption::int from triplets", "Could not convert string"),
        ("", "the query is empty"),
        ("-- only a comment", "the query is empty"),
    ],
)
def test_wrong_sql_is_told_in_duckdbs_words(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, sql: str, message: str
) -> None:
    commit(local_lake, identify(), triplets(1))
    with pytest.raises(ConfigError, match=message):
        query(local_lake, sql)


def test_a_damaged_lake_is_not_blamed_on_the_query(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    part = Path(local_lake.storage.path(commit(local_lake, identify(), triplets(9)).paths[0]))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(LakeError, match=f"{part} does not have the size"):
        query(local_lake, "from triplets")


# ----------------------------------------------------------------------- views that a query can see


def test_only_what_a_query_names_is_opened(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(local_lake, identify(), triplets(3))
    commit(local_lake, identify("captions"), _example("captions"))
    opened, opening = set[str](), Storage.open_one_of_many

    def open_one(storage: Storage, name: str, inside: set[str]) -> Any:
        opened.add(name.partition("/")[0])
        return opening(storage, name, inside)

    monkeypatch.setattr(Storage, "open_one_of_many", open_one)
    for sql, tables in (
        ("select 1 as one", set()),
        ('select count(*) from "TRIPLETS"', {"triplets"}),
        ("select max(created_at) from runs", set()),
        ("from triplets_all join captions using (pair_id)", {"triplets", "captions"}),
        ("show tables", {"triplets", "captions"}),
    ):
        opened.clear()
        query(local_lake, sql)
        assert opened == tables, sql


def test_a_query_that_may_list_the_views_has_all_of_them() -> None:
    """Functions and views of DuckDB's own that say what views there are, without being told their names."""
    names = (
        "select '\"' || function_name || '\"()' from duckdb_functions() "
        "where function_type in ('table', 'table_macro') and len(parameters) = 0 union "
        "select '\"' || schema_name || '\".\"' || view_name || '\"' from duckdb_views() where internal"
    )
    with duckdb.connect() as bare, duckdb.connect() as full:
        full.execute("create schema promoted; create view one as select 1 as a; create view promoted.two as select 2")

        def said(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
            try:
                return sorted(map(repr, connection.sql(sql).fetchall()))
            except duckdb.Error as error:
                return [repr(error)]

        asked = [f"from {name}" for (name,) in bare.sql(names).fetchall()]
        asked += [
            "show",
            "from (show tables)",
            "from (desc)",
            "with x as (describe) from x",
            "from query('show all tables')",
        ]
        listing = [sql for sql in asked if said(bare, sql) != said(full, sql)]
    assert len(listing) > 20 and {sql for sql in listing if named_in(sql) != NAMES} == set()
    assert named_in("select kind, count(*) as n from triplets group by 1 order by n desc, max(key) DESC") == {
        "triplets"
    }
    for desc in ("desc", "(desc)", "select 1 union all desc", "summarize desc", "-- a comment\ndesc", "/* a */ desc"):
        assert named_in(desc) == NAMES, desc


def test_what_is_wrong_with_a_table_concerns_who_names_it(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    commit(local_lake, identify(), triplets(3))
    Path(local_lake.storage.path(commit(local_lake, identify("captions"), _example("captions")).paths[0])).unlink()
    assert query(local_lake, "from triplets order by pair_id desc").num_rows == 3
    with pytest.raises(ConfigError, match="pair_idd"):
        query(local_lake, "select pair_idd from triplets")
    for sql in ("from captions", "show tables"):
        with pytest.raises(LakeError, match="captions"):
            query(local_lake, sql)


def test_a_name_that_a_query_gets_wrong_is_answered_with_those_that_there_are(local_lake: Lake) -> None:
    with pytest.raises(ConfigError, match=r'tripletz does not exist[^"]*"triplets'):
        query(local_lake, "from tripletz")


# ------------------------------------------------------------------------------------- plain DuckDB


def test_plain_duckdb_reads_the_files_and_the_views(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(local_lake, identify(version=1), triplets(2))
    commit(local_lake, identify(version=2), triplets(3), triplets(1, first=3))
    commit(local_lake, identify("embeddings"), _embeddings(4, "small"))
    local_lake.write_views()
    monkeypatch.chdir(local_lake.url)
    with duckdb.connect() as plain:
        by_key = plain.sql("select key, count(*) from 'triplets/*/part-*.parquet' group by 1 order by 2").fetchall()
        assert by_key == [(identify(version=1).key, 2), (identify(version=2).key, 4)]
        plain.execute(Path("views.sql").read_text())
        assert plain.sql("select count(*) from triplets").fetchall() == [(4,)]
        assert plain.sql("select count(*) from triplets_all").fetchall() == [(6,)]
        assert plain.sql("select count(*) from runs").fetchall() == [(3,)]
        assert plain.sql("select len(vector) from embeddings").fetchall() == [(4,), (4,)]
        assert plain.sql("select * from rejects").fetchall() == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_threads_that_read_one_file_do_not_move_each_other(
    on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DuckDB does: it goes to a place and reads there in two calls."""
    data = bytes(range(251)) * 400
    (tmp_path / "file").write_bytes(data)
    read_some = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, place: read_some(file, min(size, 1000), place))  # a system may
    file = SharedFile(lambda: io.FileIO(tmp_path / "file") if on_disk else io.BytesIO(data))

    def read(seed: int) -> bool:
        rng = random.Random(seed)
        for _ in range(200):
            place = rng.randrange(len(data) - 64)
            file.seek(place)
            time.sleep(0)  # another thread's turn
            if file.read(32) + file.read(32) != data[place : place + 64] or file.tell() != place + 64:
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(8)))
    assert file.seek(-5, os.SEEK_END) == len(data) - 5 and file.read() == data[-5:]
    file.seek(3)
    assert file.seek(4, os.SEEK_CUR) == 7 and file.read(1) == data[7:8]
    file.seek(0)
    assert file.read() == data and file.read(5) == b""
    file.seek(9)
    assert file.read(5000) == data[9:5009]
    file.close()


def test_a_connection_is_for_more_than_one_question(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    commit(lake, identify(), triplets(3))
    with connect(lake) as connection:
        assert connection.sql("select count(*) from triplets").fetchall() == [(3,)]
        assert connection.sql('select "table", newest from runs').fetchall() == [("triplets", True)]
