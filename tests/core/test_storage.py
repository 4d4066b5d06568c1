"""Files of a lake: whole or not there, on a disk and on an object store; journals that survive a kill."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from scot_core.errors import LakeError
from scot_core.lake.storage import Storage


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    place = Storage(str(tmp_path / "root") if request.param == "local" else f"memory://{uuid.uuid4().hex}")
    yield place
    place.remove("")


def test_what_is_written_is_read(storage: Storage) -> None:
    storage.write("folder/deep/b.bin", b"12345")
    storage.write("folder/a.bin", b"")
    assert storage.read("folder/deep/b.bin") == b"12345"
    assert storage.read("folder/deep/b.bin", last=2) == b"45"
    assert storage.read("folder/deep/b.bin", last=99) == b"12345"
    assert storage.size("folder/deep/b.bin") == 5
    assert storage.names("folder") == ["a.bin", "deep"]
    assert storage.names("no such folder") == []
    assert storage.exists("folder/a.bin")
    assert not storage.exists("folder/c.bin")


def test_writing_again_replaces_the_whole_file_and_leaves_nothing_else(storage: Storage) -> None:
    storage.write("folder/file", b"long" * 1000)
    storage.write("folder/file", b"short")
    assert storage.read("folder/file") == b"short"
    assert storage.names("folder") == ["file"]


def test_create_never_replaces(storage: Storage) -> None:
    assert storage.create("folder/file", b"first")
    assert not storage.create("folder/file", b"second")
    assert storage.read("folder/file") == b"first"


def test_a_moved_file_has_its_new_place_alone(storage: Storage) -> None:
    storage.write("folder/file", b"content")
    storage.move("folder/file", "aside/deep/folder/file")
    assert storage.read("aside/deep/folder/file") == b"content"
    assert not storage.exists("folder/file")
    with pytest.raises(LakeError, match="aside/nothing"):
        storage.move("folder/nothing", "aside/nothing")


def test_no_file_is_moved_over_a_link_out_of_the_lake(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "lake"))
    storage.write("in/folder/file", b"mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"somebody's")
    (tmp_path / "lake" / "in" / "link").symlink_to(tmp_path / "outside")
    for name, target in (("in/link/file", "in/folder/other"), ("in/folder/file", "in/link/other")):
        with pytest.raises(LakeError, match="in/link leads out of the lake"):
            storage.move(name, target)
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["file"]


def test_a_link_to_a_file_in_the_lake_is_read_and_one_to_anything_else_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "lake"))
    storage.write("folder/file", b"mine")
    links = {"inside": "file", "folder": ".", "nowhere": "nothing", "out": str(tmp_path)}
    for name, target in links.items():
        (tmp_path / "lake" / "folder" / name).symlink_to(target)
    assert storage.read("folder/inside") == storage.read_if_there("folder/inside") == b"mine"
    assert storage.size("folder/inside") == 4
    assert storage.read_if_there("folder/nowhere") is None
    for name, what in (("folder", "is a folder or a special file"), ("out", "leads out of the lake")):
        with pytest.raises(LakeError, match=f"folder/{name} {what}"):
            storage.read(f"folder/{name}")


def test_when_a_folder_was_changed_last_is_said_in_utc(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage.changed("folder") is None
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        storage.write("folder/deep/file", b"1")
        said, now = storage.changed("folder"), datetime.now(UTC)
        assert said is not None and timedelta(seconds=-1) < now - said < timedelta(minutes=10)
        later = now + timedelta(days=1)
        monkeypatch.setattr(Storage, "_below", lambda *_: {"a": {"LastModified": now}, "b": {"LastModified": later}})
        assert storage.changed("folder") == later  # as S3 says it
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_missing_file_is_named(storage: Storage) -> None:
    with pytest.raises(LakeError, match=r"cannot read .*folder/nothing"):
        storage.read("folder/nothing")
    storage.remove("folder/nothing")


def test_a_local_root_does_not_depend_on_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage("./lake")
    monkeypatch.chdir("/")
    storage.write("file", b"x")
    assert (tmp_path / "lake" / "file").read_bytes() == b"x"


def test_an_unknown_kind_of_url_is_a_lake_error() -> None:
    with pytest.raises(LakeError, match="gopher"):
        Storage("gopher://somewhere")


def test_a_place_that_cannot_be_written_is_a_lake_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for root in (tmp_path / "file" / "lake", Path("/proc/lake")):
        storage = Storage(str(root))
        with pytest.raises(LakeError, match=rf"cannot write {root}/a/b.*SCOT_LAKE"):
            storage.write("a/b", b"x")
        with pytest.raises(LakeError, match=rf"cannot write {root}/a/journal.jsonl.*SCOT_LAKE"):
            storage.journal("a").append({"id": 1})
    with pytest.raises(LakeError, match="cannot list"):
        Storage(str(tmp_path / "file")).names("captions")


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, synced, fsync = tmp_path / "deep" / "file", list[tuple[Path, int, bool]](), os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path, path.stat().st_size, target.exists()))

    monkeypatch.setattr(os, "fsync", record)
    Storage(str(tmp_path)).write("deep/file", b"12345")
    (file, size, named), (folder, _, there) = synced
    assert file.parent == target.parent and file != target and size == 5 and not named
    assert folder == target.parent and there


WRITE_FOREVER = """
import sys
from scot_core.lake.storage import Storage
storage = Storage(sys.argv[1])
while True:
    for letter in (b"a", b"b"):
        storage.write("file", letter * 3_000_000)
        print("written", flush=True)
"""


def test_a_kill_never_leaves_a_torn_file(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for delay in (0.0, 0.004, 0.011):
        process = _start(WRITE_FOREVER, tmp_path)
        _next_line(process)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        data = storage.read("file")
        assert len(data) == 3_000_000
        assert len(set(data)) == 1


# ------------------------------------------------------------------------------------- object stores


class NoCredentialsError(Exception):
    """What the library of an object store raises: no OSError."""


class Unreachable(MemoryFileSystem):
    protocol = "unreachable"

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise NoCredentialsError("unable to locate credentials")

    exists = ls = cat_file = pipe_file = info = rm = _fail


class Unconditional(MemoryFileSystem):
    """A store that knows no conditional put."""

    protocol = "unconditional"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the base class

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if mode == "create":
            raise NotImplementedError("If-None-Match")
        super().pipe_file(path, value, mode=mode, **kwargs)


class Racing(MemoryFileSystem):
    """A store where somebody writes between the question and the answer."""

    protocol = "racing"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the base class

    def exists(self, path: str, **kwargs: Any) -> bool:
        return False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if mode == "create" and path in self.store:
            raise FileExistsError(path)
        super().pipe_file(path, value, **kwargs)


for _store in (Unreachable, Unconditional, Racing):
    fsspec.register_implementation(_store.protocol, _store, clobber=True)


def test_errors_of_a_stores_own_library_become_lake_errors() -> None:
    storage = Storage("unreachable://bucket/lake")
    actions = (
        lambda: storage.exists("a"),
        lambda: storage.size("a"),
        lambda: storage.names("a"),
        lambda: storage.read("a"),
        lambda: storage.write("a", b""),
        lambda: storage.create("a", b""),
        lambda: storage.remove("a"),
        lambda: storage.journal("a").append({}),
    )
    for action in actions:
        with pytest.raises(LakeError, match="unable to locate credentials"):
            action()


def test_a_conditional_put_decides_between_two_writers() -> None:
    storage = Storage("racing://bucket/lake")
    assert storage.create("file", b"first")
    assert not storage.create("file", b"second")
    assert storage.read("file") == b"first"


def test_a_store_without_conditional_puts_is_written_all_the_same() -> None:
    storage = Storage("unconditional://bucket/lake")
    assert storage.create("file", b"first")
    assert not storage.create("file", b"second")
    assert storage.read("file") == b"first"


# ------------------------------------------------------------------------------------- journals


def test_a_journal_is_read_by_whoever_comes_next(storage: Storage) -> None:
    records: list[dict[str, Any]] = [
        {"id": "1", "text": "naïve\nsecond line"},
        {"id": "2", "text": "\ud800 half a pair"},
    ]
    assert list(storage.journal("j").records()) == []
    for record in records:
        journal = storage.journal("j")
        journal.append(record)
        journal.close()
        journal.close()
    assert sorted(storage.journal("j").records(), key=lambda record: str(record["id"])) == records


@pytest.mark.parametrize("torn", ['{"id": 2, "text": "hal', '{"id": 2}', '{"id": "ü'.encode()[:-1], "\0\0\0", '{"id"'])
def test_a_torn_last_line_is_skipped_and_does_not_swallow_the_next(tmp_path: Path, torn: str | bytes) -> None:
    storage = Storage(str(tmp_path))
    first = storage.journal("j")
    first.append({"id": 1})
    first.close()
    with (tmp_path / "j" / "journal.jsonl").open("ab") as file:
        file.write(torn if isinstance(torn, bytes) else torn.encode())
    whole = [{"id": 1}, {"id": 2}] if torn == '{"id": 2}' else [{"id": 1}]
    assert list(storage.journal("j").records()) == whole
    second = storage.journal("j")
    second.append({"id": 3})
    second.append({"id": 4})
    second.close()
    assert list(storage.journal("j").records()) == [*whole, {"id": 3}, {"id": 4}]


def test_a_journal_is_on_the_disk_when_it_is_closed_and_says_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync, path = list[int](), os.fsync, tmp_path / "j" / "journal.jsonl"

    def slow(descriptor: int) -> None:
        time.sleep(0.02)
        fsync(descriptor)
        synced.append(path.stat().st_size)

    monkeypatch.setattr(os, "fsync", slow)
    journal = Storage(str(tmp_path)).journal("j")
    for number in range(50):
        journal.append({"number": number})
        assert len(path.read_bytes().splitlines()) == number + 1, "with the kernel at once"
    journal.close()
    assert synced[-1] == path.stat().st_size and len(synced) < 50, "many at once"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    journal.append({"number": 50})
    with pytest.raises(LakeError, match=r"cannot write .*No space left on device"):
        journal.close()
    journal.close()


APPEND_FOREVER = """
import itertools, sys
from scot_core.lake.storage import Storage
journal = Storage(sys.argv[1]).journal("j")
for number in itertools.count():
    journal.append({"number": number, "text": "x" * 20_000})
    print(number, flush=True)
"""


def test_what_a_journal_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    process = _start(APPEND_FOREVER, tmp_path)
    acknowledged = [int(_next_line(process)) for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged += [int(line) for line in rest.splitlines() if line.strip()]
    kept = [record["number"] for record in Storage(str(tmp_path)).journal("j").records()]
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) <= len(acknowledged) + 1


def _start(script: str, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the process ended by itself"
    return line


def test_a_journal_is_one_run_s_at_a_time_and_a_dead_run_gives_it_back(tmp_path: Path) -> None:
    hold = "import sys, time; from scot_core.lake.storage import Storage"
    hold += "; lock = Storage(sys.argv[1]).journal('seed').alone()"
    hold += "; lock.__enter__(); print('held', flush=True); time.sleep(600)"
    other = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    journal = Storage(str(tmp_path)).journal("seed")
    with pytest.raises(LakeError, match=f"another run is at work on {tmp_path}/seed"), journal.alone():
        pass
    other.kill()
    other.wait()
    with journal.alone():
        journal.append({"id": "a"})
    assert list(journal.records()) == [{"id": "a"}]


def test_a_disk_without_locks_is_a_lake_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LakeError, match="cannot lock"), Storage(str(tmp_path)).journal("folder").alone():
        pass
