"""SQL over the lake with DuckDB, core features only."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from io import FileIO
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import duckdb
from fsspec import AbstractFileSystem

from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Lake
from scot_core.lake.promotion import members_in_use, members_known, views
from scot_core.lake.shown import Shown
from scot_core.lake.storage import Storage
from scot_core.lake.views import NAMES, render_views

if TYPE_CHECKING:
    import pyarrow as pa

Answer = TypeVar("Answer")
Fetch = Callable[[duckdb.DuckDBPyRelation, list[str]], Callable[[], Answer]]
"""Has DuckDB compute an answer, whose columns have these names, and returns what makes values of it: the one in another
thread, where DuckDB hears of Ctrl-C, the other in the one that asks, where Python does.
"""

MEMORY_LIMIT: Final = "2GB"  # of a query; what needs more is spilled to a folder of its own
ROOT: Final = "lake://"  # of DuckDB's only files
LOCK: Final = f"""
SET autoload_known_extensions = false; SET python_enable_replacements = false; SET allowed_directories = ['{ROOT}'];
SET enable_external_access = false; SET lock_configuration = true;
"""
LISTING: Final = ("show", "desc", "pragma", "_schema", "duckdb_", "pg_", "sqlite_", "privilege", "query", "serial")
"""Of words with which a query, or SQL that it holds as text, may list views without naming them."""
_DESCENDING = re.compile(r"""(?<=[\w"')\]])\s+desc\b""")
_BEFORE_DESC: Final = ("--", "/*", "union", "except", "intersect", "summarize")  # where DESC stands for DESCRIBE
_INTERRUPT_EVERY_S = 0.05


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with a view for every table of the lake (see `scot_core.lake.views`), for one's own Python.

    Datasets that cannot be read are left out of the views: `Lake.damaged` says which and why. The connection is open:
    beside the lake it reads and writes whatever this process may, other databases, files of one's own, data frames, and
    with `COPY ... TO` the files of the lake itself. Only extensions are never downloaded. `query` is for SQL that
    somebody else wrote.
    """
    connection = _connection()
    if lake.storage.is_local:
        root = f"{lake.storage.root}/"
    else:
        protocol = lake.storage.fs.protocol
        connection.register_filesystem(SharedFiles(lake.storage.fs))
        root = f"{protocol if isinstance(protocol, str) else protocol[0]}://{lake.storage.root.lstrip('/')}/"
    connection.execute(views(lake, lake.shown()[0], root=root))
    return connection


def query(lake: Lake, sql: str) -> pa.Table:
    """The result of one SELECT (or FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE) over the lake's views, and nothing else.

    DuckDB sees the committed parts of the lake, to read, and no other file, host, extension or variable; it has
    `MEMORY_LIMIT` and a folder to spill into, which goes with it. Ctrl-C ends it. Columns of one name are numbered.

    Raises ConfigError with DuckDB's own words where it is wrong or not allowed, LakeError where a file it reads is not
    there.
    """
    return query_and_damage(lake, sql, _as_arrow)[0]


def _as_arrow(answer: duckdb.DuckDBPyRelation, columns: list[str]) -> Callable[[], pa.Table]:
    table = answer.to_arrow_table()
    return lambda: table.rename_columns(columns)


def query_and_damage(lake: Lake, sql: str, fetch: Fetch[Answer]) -> tuple[Answer, list[LakeError]]:
    """What `query` answers, as `fetch` reads it, and why datasets are left out of it."""
    with (
        tempfile.TemporaryDirectory(prefix="scot-query-") as spill,
        _beginning(memory_limit=MEMORY_LIMIT, temp_directory=spill) as (worker, begun),
    ):
        datasets, damaged = lake.shown()
        files = CommittedFiles(lake.storage, datasets)
        make = partial(render_views, datasets, ROOT, members_known(lake, datasets))
        try:
            # in the other thread: while DuckDB is at work here, this one would not hear of Ctrl-C
            values = worker.submit(_answer, begun.result(), files, make, sql, fetch).result()
            return values(), damaged
        except duckdb.Error as error:
            if files.refused:
                raise ConfigError(files.refused) from error
            for dataset in lake.datasets():
                if dataset.table in named_in(sql):
                    dataset.check()
            if "promoted" in sql:
                members_in_use(lake, datasets)
            beyond = isinstance(error, duckdb.PermissionException)
            raise ConfigError(f"the query failed: {error}{'; it reads the lake alone' if beyond else ''}") from error


def named_in(sql: str) -> frozenset[str]:
    """The tables, and `runs`, whose views a query can tell from none: those that it names, or all, where it may list
    what there is. (A name that it puts together fails without its view, and is then asked for with all of them.)
    """
    asked = sql.lower()
    if not any(word in asked for word in _BEFORE_DESC):
        asked = _DESCENDING.sub("", asked)
    if any(word in asked for word in LISTING):
        return NAMES
    return frozenset(name for name in NAMES if name in asked)


class CommittedFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """The committed parts of a lake as DuckDB's only files, to read.

    DuckDB has no mode in which files are only read, and a COPY that writes may stand inside a SELECT.
    """

    protocol: ClassVar[str] = ROOT.removesuffix("://")
    cachable = False

    def __init__(self, storage: Storage, datasets: Sequence[Shown]) -> None:
        super().__init__()
        self._storage = storage
        self._names = {part: size for d in datasets for part, size in zip(d.parts, d.sizes, strict=True)}
        self._inside: set[str] = set()
        self.refused = ""

    def glob(self, path: str, **_: Any) -> list[str]:
        pattern = self._strip_protocol(path)
        exact = re.sub(r"\[([*?[])\]", r"\1", pattern)  # as the views name a part
        if exact in self._names:
            return [exact]
        return sorted(name for name in self._names if fnmatchcase(name, pattern))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        if name not in self._names:
            raise FileNotFoundError(name)
        return {"name": name, "size": self._names[name], "type": "file"}  # where it has another, reading it fails

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        name = self._strip_protocol(path)
        if mode != "rb" or name not in self._names:
            self.refused = f"the query would write {name}: the lake is only read here"
            raise PermissionError(self.refused)
        return SharedFile(lambda: self._storage.open_one_of_many(name, self._inside))

    def modified(self, path: str) -> datetime:
        """What is committed stays as it is."""
        return datetime(2000, 1, 1, tzinfo=UTC)


class SharedFile:
    """A file that threads read side by side, each at a place of its own; it is opened when it is first read.

    DuckDB goes to a place and reads there in two calls, from several threads and with no lock around both: of one
    place for all, a large query now and then reads what stands elsewhere. And it opens every file twice.
    """

    def __init__(self, opening: Callable[[], Any]) -> None:
        self._opening, self._opened = opening, None
        self._lock, self._mine = threading.Lock(), threading.local()

    @property
    def _file(self) -> Any:
        """To be asked for under the lock."""
        if self._opened is None:
            self._opened = self._opening()
        return self._opened

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = 0
        if whence == os.SEEK_END:
            with self._lock:
                end = self._file.seek(0, os.SEEK_END)
        self._mine.place = offset + (self.tell() if whence == os.SEEK_CUR else end)
        return self.tell()

    def tell(self) -> int:
        return int(getattr(self._mine, "place", 0))

    def read(self, size: int = -1) -> bytes:
        with self._lock:
            file = self._file
        if isinstance(file, FileIO):  # each call lets another of DuckDB's threads run, which takes long
            data = _read_at(file.fileno(), self.tell(), size)
        else:
            with self._lock:
                file.seek(self.tell())
                data = bytes(file.read(size))
        self._mine.place = self.tell() + len(data)
        return data

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _read_at(descriptor: int, place: int, size: int) -> bytes:
    """So many bytes, or all that there are; the system gives at most 2 GiB at once."""
    left, found = size if size >= 0 else max(0, os.fstat(descriptor).st_size - place), list[bytes]()
    while left and (data := os.pread(descriptor, left, place)):
        found.append(data)
        left, place = left - len(data), place + len(data)
    return found[0] if len(found) == 1 else b"".join(found)


class SharedFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """A file system that is as another one, but for its files that are read: they are shared."""

    cachable = False

    def __init__(self, fs: AbstractFileSystem) -> None:
        super().__init__()
        self._fs, self.protocol = fs, fs.protocol
        for name in ("exists", "glob", "info", "isdir", "isfile", "ls", "mkdir", "modified", "mv", "rm", "size"):
            setattr(self, name, getattr(fs, name))

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = self._fs.open(path, mode, **options)
        return SharedFile(lambda: file) if mode == "rb" else file


@contextmanager
def _beginning(**config: str) -> Iterator[tuple[ThreadPoolExecutor, Future[duckdb.DuckDBPyConnection]]]:
    """Another thread, and the connection that is begun there, which takes 20 ms and none of Python.

    The thread does one thing after the other: it closes the connection when what it was asked has ended, which an
    exception here, such as Ctrl-C, makes it do soon: it interrupts DuckDB.
    """
    with ThreadPoolExecutor(1) as other:
        connection = other.submit(_connection, **config)
        try:
            yield other, connection
        except BaseException:
            ended = other.submit(connection.result)
            while not ended.done():  # between two statements an interrupt is forgotten
                if connection.done() and connection.exception() is None:
                    connection.result().interrupt()
                wait([ended], _INTERRUPT_EVERY_S)
            raise
        finally:
            other.submit(_close, connection)


def _close(connection: Future[duckdb.DuckDBPyConnection]) -> None:
    connection.result().close()


def _connection(**config: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"autoinstall_known_extensions": False, **config})


def _answer(
    connection: duckdb.DuckDBPyConnection, files: CommittedFiles, make: Callable[[Collection[str]], str], sql: str,
    fetch: Fetch[Answer],
) -> Callable[[], Answer]:  # fmt: skip
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        what = "is empty" if not statements else f"holds {len(statements)} statements, not one"
        raise ConfigError(f"the query {what}; try: select * from runs")
    kind = statements[0].type
    if kind is not duckdb.StatementType.SELECT:
        raise ConfigError(
            f"the query is no SELECT but {kind.name}: the lake is only read here, by SELECT, FROM, VALUES, DESCRIBE, "
            "SHOW or SUMMARIZE (scot_core.query.connect, in Python, is open to everything else)"
        )
    connection.register_filesystem(files)
    connection.execute(LOCK)
    named = named_in(sql)
    connection.execute(make(named))
    try:
        answer = connection.sql(sql)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        if not NAMES - named:
            raise
        try:
            connection.execute(make(NAMES - named))
        except duckdb.Error:  # what it does not name is damaged
            raise error from None
        answer = connection.sql(sql)
    assert answer is not None, "a SELECT has rows, or none"
    return fetch(answer, _numbered(answer.columns))


def _numbered(columns: Sequence[str]) -> list[str]:
    """Columns of one name as a, a_1, a_2, so that none hides another."""
    names: list[str] = []
    for name in columns:
        others = (f"{name}_{number}" for number in count(1))
        names.append(name if name not in names else next(n for n in others if n not in {*names, *columns}))
    return names
