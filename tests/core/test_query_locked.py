"""`query` answers over the committed lake and does nothing else: no other file, no write, no setting."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

import scot_core.query
from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.query import query, query_and_damage

Rows = Callable[..., dict[str, Any]]
Identify = Callable[..., Identity]
Commit = Callable[..., Dataset]

ENDLESS = "select count(*) from range(1000000000) a, range(1000000000) b where a.range <> b.range + 1"
ONE_SELECT, READ_ONLY, BEYOND = "no SELECT", "only read here", "reads the lake alone"
HOSTILE = [
    # other files
    ("select * from read_text('/etc/passwd')", BEYOND),
    ("select * from read_blob('/proc/self/environ')", BEYOND),
    ("select * from read_csv('/dev/stdin')", BEYOND),
    ("from sniff_csv('/etc/passwd')", BEYOND),
    ("from parquet_metadata('/etc/passwd')", BEYOND),
    ("from glob('/etc/*')", BEYOND),
    ("from read_text('{root}/secret')", BEYOND),
    ("from read_text('{root}/../secret')", BEYOND),
    ("from '/etc/passwd'", "does not exist"),
    ("from 'https://example.com/a.csv'", BEYOND),
    ("from duckdb_secrets()", BEYOND),
    ("select * from HIDDEN", "does not exist"),  # a variable of the caller
    # writes, on their own and inside what looks like a read
    ("copy (select 1) to '{part}'", ONE_SELECT),
    ("copy (select 1) to '/tmp/x'", ONE_SELECT),
    ("with x as (copy (select 1) to '{part}') select 1", BEYOND),
    ("with x as (copy (select 1 as a) to 'lake://{name}') select 1", READ_ONLY),
    ("with x as (copy (select 1 as a) to 'lake://triplets/new.parquet') select 1", READ_ONLY),
    (
        "with x as (copy (select 1 as a) to 'lake://new' (format parquet, partition_by (a))) select 1",
        "the query failed",
    ),
    ("from query('with x as (copy (select 1) to ''{part}'') select 1')", "must be at the top level"),
    ("with x as (insert into triplets values (1) returning *) from x", "not an table|not a table"),
    ("explain analyze copy (select 1) to '{part}'", ONE_SELECT),
    ("create table x as select 1", ONE_SELECT),
    ("drop view triplets", ONE_SELECT),
    ("delete from triplets", ONE_SELECT),
    ("export database '/tmp/x'", ONE_SELECT),
    # everything around
    ("attach '/tmp/x.db'", ONE_SELECT),
    ("attach ':memory:' as x", ONE_SELECT),
    ("install httpfs", ONE_SELECT),
    ("load httpfs", ONE_SELECT),
    ("set memory_limit = '900GB'", ONE_SELECT),
    ("reset lock_configuration", ONE_SELECT),
    ("set enable_external_access = true", ONE_SELECT),
    ("pragma enable_logging", ONE_SELECT),
    ("from enable_logging(storage = 'file', storage_config = {{'path': '/tmp/x'}})", "configuration has been locked"),
    ("call pragma_version()", ONE_SELECT),
    ("begin", ONE_SELECT),
    ("prepare x as select 1", ONE_SELECT),
    ("select 1; select 2", "holds 2 statements"),
    ("select 1; copy (select 1) to '{part}'", "holds 2 statements"),
    (";;", "is empty"),
]
HIDDEN = {"a": [1]}


@pytest.mark.parametrize(("sql", "words"), HOSTILE, ids=[sql[:60] for sql, _ in HOSTILE])
def test_what_is_no_read_of_the_lake_is_refused(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit, sql: str, words: str
) -> None:
    dataset = commit(lake, identify(), triplets(3))
    lake.storage.write("secret", b"not committed")
    name = next(name for name in lake.storage.names(dataset.name) if name.startswith("part-"))
    place = f"{dataset.name}/{name}"
    written = lake.storage.read(place)
    statement = sql.format(root=lake.storage.root, part=lake.storage.path(place), name=place)
    with pytest.raises(ConfigError, match=words):
        query(lake, statement)
    assert lake.storage.read(place) == written
    assert lake.storage.names("") == ["secret", "triplets"]
    assert lake.storage.names("triplets") == [dataset.key]


def test_reads_in_every_form_are_answered(lake: Lake, triplets: Rows, identify: Identify, commit: Commit) -> None:
    commit(lake, identify(), triplets(3))
    for sql in (
        "from triplets",
        "table triplets",
        "with x as (from triplets) select * from x",
        "select unnest([1, 2, 3])",
        "values (1), (2), (3)",
        "select * from (pivot triplets on kind in ('seed') using count(*) group by image_id)",
        "select strptime('2026', '%Y') < now() as past from triplets -- with a comment",
    ):
        assert query(lake, sql).num_rows == 3, sql
    lake.storage.write("secret", b"not committed")
    assert query(lake, "from glob('lake://*')").num_rows == 1  # the committed part, and no other file
    for name in ("secret", "triplets/../secret", "triplets", "../*"):
        assert query(lake, f"from read_blob('lake://{name}')").num_rows == 0
    for sql in ("describe triplets", "summarize triplets", "show tables"):
        assert query(lake, sql).num_rows > 3, sql


def test_columns_of_one_name_are_all_there(local_lake: Lake) -> None:
    assert query(local_lake, "select 1 as a, 2 as a, 3 as a_1, 4 as a").to_pylist() == [
        {"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}
    ]


def test_memory_is_limited_and_what_spills_is_gone_afterwards(
    local_lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    limit = "select value from duckdb_settings() where name = 'memory_limit'"
    assert query(local_lake, limit).to_pylist() == [{"value": "1.8 GiB"}]
    monkeypatch.setattr(scot_core.query, "MEMORY_LIMIT", "60MB")
    larger = "select count(*)::int as n from (from range(6000000) t(a) order by hash(a), a limit 5999999)"
    assert query(local_lake, larger).to_pylist() == [{"n": 5999999}]
    with pytest.raises(ConfigError, match="Out of Memory"):
        query(local_lake, "select list(a) from range(200000000) t(a)")
    assert list(scratch.iterdir()) == []


def ended(threads: int, limit_s: float = 20) -> bool:
    """Whether no more threads are left soon: whoever presses Ctrl-C again waits for none."""
    end = time.monotonic() + limit_s
    while threading.active_count() > threads and time.monotonic() < end:
        time.sleep(0.02)
    return threading.active_count() <= threads


@pytest.mark.parametrize("again_s", [(), (0.02,)], ids=["once", "twice"])
def test_ctrl_c_ends_a_query_that_would_take_for_ever(local_lake: Lake, again_s: tuple[float, ...]) -> None:
    before = threading.active_count()

    def press() -> None:
        for wait_s in (1, *again_s):
            time.sleep(wait_s)
            os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    with pytest.raises(KeyboardInterrupt):
        try:
            query(local_lake, ENDLESS)
        finally:
            pressing.join()  # what is pressed again may come when the first has done its work
    assert ended(before)


def test_ctrl_c_pressed_again_is_ctrl_c(local_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits for what reads a file of the lake, where DuckDB does not hear of it."""
    asked, read = threading.Event(), threading.Event()

    def slowly(*_: object, **__: object) -> list[str]:
        asked.set()
        read.wait(60)
        return []

    def press() -> None:
        asked.wait(60)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        read.set()

    monkeypatch.setattr(scot_core.query.CommittedFiles, "glob", slowly)
    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        query(local_lake, "from glob('lake://*')")


def test_ctrl_c_just_when_the_answer_is_begun_leaves_nothing_behind(
    local_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, submit, asked = threading.active_count(), ThreadPoolExecutor.submit, list[object]()

    def pressed(self: ThreadPoolExecutor, work: Callable[..., Any], *rest: Any, **named: Any) -> Future[Any]:
        begun = submit(self, work, *rest, **named)
        asked.append(work)
        if len(asked) == 2:  # after the connection
            time.sleep(0.2)
            raise KeyboardInterrupt
        return begun

    monkeypatch.setattr(ThreadPoolExecutor, "submit", pressed)
    with pytest.raises(KeyboardInterrupt):
        query(local_lake, ENDLESS)
    assert threading.active_count() <= before


def test_values_are_made_in_the_thread_that_hears_of_ctrl_c(local_lake: Lake) -> None:
    def fetch(answer: duckdb.DuckDBPyRelation, columns: list[str]) -> Callable[[], list[threading.Thread]]:
        computed = threading.current_thread()
        return lambda: [computed, threading.current_thread()]

    computed, made = query_and_damage(local_lake, "select 1", fetch)[0]
    assert made is threading.current_thread() is not computed


def test_a_lake_that_cannot_be_read_is_told_though_duckdb_fails_too(
    local_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: Exception, after_s: float) -> None:
        time.sleep(after_s)
        raise error

    monkeypatch.setattr(duckdb, "connect", lambda **_: fail(duckdb.IOException("no space left"), 0.2))
    monkeypatch.setattr(Lake, "shown", lambda _: fail(LakeError("cannot be read"), 0))
    with pytest.raises(LakeError, match="cannot be read"):
        query(local_lake, "select 1")
