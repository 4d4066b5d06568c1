"""Whole files, written so that a reader sees either all of a file or none of it.

A lake lives under any fsspec URL. On a local disk a file is written to a temporary name, flushed to
the disk and renamed; on an object store one conditional put does the same.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from scot_core.errors import LakeError

logger = logging.getLogger(__name__)

TEMPORARY = ".tmp"  # how the name of a file ends while it is written
REMOTE_THREADS = 16
T = TypeVar("T")
R = TypeVar("R")
PLACE = "; SCOT_LAKE must name a folder or an object store"


Mark = tuple[int, int, int]  # of a file: bytes, inode, nanosecond of its last change


def cache_folder() -> Path:
    """SCOT_CACHE: the folder of this machine for what can be made again."""
    try:
        return Path(os.environ.get("SCOT_CACHE") or "~/.cache/scot").expanduser()
    except RuntimeError:  # nobody's home: a user without a name
        return Path(tempfile.gettempdir()) / f"scot-{os.getuid()}"


class Storage:
    """Files under one root URL; every name is relative to the root, with forward slashes."""

    def __init__(self, url: str) -> None:
        try:
            # other machines write too: a listing that is kept is a listing that is wrong
            self.fs, self.root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise LakeError(f"cannot open the lake {url!r}: {error}") from error
        self.root = self.root.rstrip("/")
        self.url = self.root if self.is_local else url.rstrip("/")
        # one call for a whole object: s3fs asks for its size first, to read large ones in pieces side by side
        self._whole = {"max_concurrency": 1} if "s3" in self.fs.protocol else {}

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """The path of a file as its file system knows it."""
        return f"{self.root}/{name}" if name else self.root

    def require_inside(self, name: str) -> None:
        """Raises LakeError where a path of a local lake leads out of it, over a link or `..`.

        The lake itself may be a link; a table on another disk may not, since a lake may come from anywhere.
        """
        if self.is_local and not self._is_straight(name):
            root, real = os.path.realpath(self.root), os.path.realpath(self.path(name))
            if os.path.commonpath([root, real]) != root:
                raise LakeError(f"{self.path(name)} leads out of the lake, to {real}: remove that link")

    def _is_straight(self, name: str) -> bool:
        """Whether there is neither a link nor `..` on the way from the root: far fewer questions than its real path."""
        below = name.split("/")
        if ".." in below:
            return False
        modes = (_mode("/".join([self.root, *below[: end + 1]]), follow=False) for end in range(len(below)))
        return not any(mode is not None and stat.S_ISLNK(mode) for mode in modes)

    def require_plain(self, *names: str) -> None:
        """The same for what is read: these must be regular files, too, or not be there at all."""
        if not self.is_local:
            return
        for folder in {_folder(name) for name in names}:
            self.require_inside(folder)
        for name in names:
            self._require_file(name)

    def _require_file(self, name: str) -> None:
        path = self.path(name)
        mode = _mode(path, follow=False)
        if mode is not None and stat.S_ISLNK(mode):
            self.require_inside(name)
            mode = _mode(path, follow=True)
        if mode is not None and not stat.S_ISREG(mode):
            raise LakeError(f"{path} is a folder or a special file, not one that was written here: remove it")

    def exists(self, name: str) -> bool:
        with _failing_as(f"look for {self.path(name)}", PLACE):
            return bool(self.fs.exists(self.path(name)))

    def size(self, name: str) -> int:
        self.require_plain(name)
        with _failing_as(f"look for {self.path(name)}", PLACE):
            return int(self.fs.size(self.path(name)))

    def mark(self, name: str) -> Mark | None:
        """What tells the file of a local disk from any that was or will be in its place; None where there is none."""
        with _failing_as(f"look for {self.path(name)}", PLACE):
            try:
                return _mark(os.stat(self.path(name))) if self.is_local else None  # noqa: PTH116 - a lake has many
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        """Names of the entries directly in a folder, sorted; empty where there is no such folder."""
        with _failing_as(f"list {self.path(folder)}", PLACE):
            try:
                found = self.fs.ls(self.path(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found)

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every file in a folder and those below it, by its name within: one call of an object store."""
        prefix = str(self.fs._strip_protocol(self.path(folder).rstrip("/"))) + "/"
        return {name.removeprefix(prefix): int(info["size"] or 0) for name, info in self._below(folder).items()}

    def changed(self, folder: str) -> datetime | None:
        """When a file in a folder, or below it, was last written; None where the store does not say."""
        found: list[datetime] = []
        for info in self._below(folder).values():
            moment = info.get("mtime") or info.get("LastModified") or info.get("created")
            if isinstance(moment, (int, float)):
                moment = datetime.fromtimestamp(moment, UTC)
            if not isinstance(moment, datetime):
                return None
            found.append(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        return max(found, default=None)

    def each(self, what: Callable[[T], R], names: Iterable[T]) -> list[R]:
        """Call something that reads for each name: of an object store, some at once."""
        names = list(names)
        if self.is_local or len(names) < 2:
            return [what(name) for name in names]
        with ThreadPoolExecutor(min(REMOTE_THREADS, len(names))) as threads:
            return list(threads.map(what, names))

    def _below(self, folder: str) -> dict[str, dict[str, Any]]:
        path = self.path(folder).rstrip("/")
        with _failing_as(f"list {path}", PLACE):
            return {str(name): info for name, info in self.fs.find(path, detail=True).items()}

    def read(self, name: str, last: int | None = None) -> bytes:
        """The bytes of a file, or only the `last` of them. Raises LakeError where there is none."""
        self.require_plain(name)
        with _failing_as(f"read {self.path(name)}"):
            return self._read(name, last)

    def read_if_there(self, name: str, last: int | None = None) -> bytes | None:
        """`read`; None where there is no such file, which costs no call of its own."""
        self.require_plain(name)
        with _failing_as(f"read {self.path(name)}", PLACE):
            try:
                return self._read(name, last)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def _read(self, name: str, last: int | None) -> bytes:
        limits: dict[str, int] = self._whole if last is None else {"start": -last}
        return bytes(self.fs.cat_file(self.path(name), **limits))

    def open(self, name: str) -> AbstractContextManager[Any]:
        """A file to read from anywhere in it. Raises LakeError where there is none."""
        self.require_plain(name)
        with _failing_as(f"read {self.path(name)}"):
            opened: AbstractContextManager[Any] = self.fs.open(self.path(name), "rb")
            return opened

    def open_one_of_many(self, name: str, inside: set[str]) -> AbstractContextManager[Any]:
        """`open` with few questions to a local disk, of which it is a `FileIO`: for who reads a little of each.

        `inside` are the folders that were looked at meanwhile, none at first.
        """
        if not self.is_local:
            return self.open(name)
        folder = _folder(name)
        if folder not in inside:
            self.require_inside(folder)
            inside.add(folder)
        self._require_file(name)
        with _failing_as(f"read {self.path(name)}"):
            return FileIO(self.path(name))

    def write(self, name: str, data: bytes) -> Mark | None:
        """Put a whole file in place, atomically; returns its `mark`. Raises LakeError where that cannot be done."""
        self.require_inside(_folder(name))
        with _writing(self.path(name)):
            if self.is_local:
                return _write_local(Path(self.path(name)), data)
            self.fs.pipe_file(self.path(name), data)
        return None

    def create(self, name: str, data: bytes) -> bool:
        """`write` a file that is not there yet; returns False, and changes nothing, where it is."""
        if not self.is_local:
            try:
                self.fs.pipe_file(self.path(name), data, mode="create")
                return True
            except FileExistsError:
                return False
            except Exception as error:  # a store that knows no conditional put says so in its own way
                logger.debug("no conditional put of %s: %r", self.path(name), error)
        if self.exists(name):
            return False
        self.write(name, data)
        return True

    def remove(self, name: str) -> None:
        """Remove a file or a folder and all in it, where there is one."""
        self.require_inside(_folder(name))
        with _writing(self.path(name)):
            if self.fs.exists(self.path(name)):
                with suppress(FileNotFoundError):  # another run may be removing it, too
                    self.fs.rm(self.path(name), recursive=True)

    def move(self, name: str, target: str) -> None:
        """Give a file another place. Raises LakeError where there is none, or it cannot be moved."""
        self.require_inside(_folder(name))
        self.require_inside(_folder(target))
        with _writing(self.path(target)):
            if self.is_local:
                Path(self.path(target)).parent.mkdir(parents=True, exist_ok=True)
                Path(self.path(name)).replace(self.path(target))
            else:
                self.fs.mv(self.path(name), self.path(target))

    def journal(self, folder: str) -> Journal:
        """The journal kept in a folder."""
        self.require_inside(folder)
        return LocalJournal(Path(self.path(folder))) if self.is_local else ObjectJournal(self, folder)


class Journal(Protocol):
    """Records that outlive a kill the moment they are appended, and the machine's once the journal is closed."""

    def append(self, record: Mapping[str, Any]) -> None: ...

    def records(self) -> Iterator[dict[str, Any]]: ...

    def alone(self) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...


class LocalJournal(Journal):
    """One line of JSON a record, with the kernel when `append` returns. A thread brings what came meanwhile to the
    disk, so that whoever appends many replies a second does not wait for it each time; `close` does.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.jsonl"
        self._file: BufferedWriter | None = None
        self._appended = self._on_disk = 0
        self._failed: OSError | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        with _writing(str(self._path)):
            if self._file is None:
                self._file, self._thread = self._open(), ThreadPoolExecutor(1, "scot-journal")
            if self._failed is not None:
                raise self._failed
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()
            self._appended += 1
            self._thread.submit(self._sync, self._file.fileno(), self._appended)

    def _sync(self, descriptor: int, record: int) -> None:
        """Nothing, where an earlier call has brought this record to the disk with others."""
        appended = self._appended
        if self._on_disk < record and self._failed is None:
            try:
                os.fsync(descriptor)
                self._on_disk = appended
            except OSError as error:  # told by `append`, or by `close`
                self._failed = error

    def _open(self) -> BufferedWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # a line cut short by a kill must not swallow the first line after it
        torn = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
        file = self._path.open("ab")
        if torn:
            file.write(b"\n")
        return file

    def records(self) -> Iterator[dict[str, Any]]:
        """Every whole record; a last line cut short by a kill was never acknowledged and is skipped."""
        if not self._path.exists():
            return
        for line in self._path.read_bytes().split(b"\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue
            yield record

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else's while it lasts: raises LakeError where another run holds it, or where there can be no lock.

        A run that dies gives it back.
        """
        path = self._path.parent / "lock"
        with _writing(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LakeError(
                    f"another run is at work on {path.parent}: wait until it ends, so that nothing is paid twice"
                ) from error
            except OSError as error:
                raise LakeError(
                    f"cannot lock {path}: {error.strerror}; set SCOT_LAKE to a disk that knows locks"
                ) from error
            yield

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._thread.shutdown()
            failed, self._failed = self._failed, None
            with _writing(str(self._path)):
                file.close()
                if failed is not None:
                    raise failed


class ObjectJournal(Journal):
    """One object a record, since objects cannot be appended to."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder

    def append(self, record: Mapping[str, Any]) -> None:
        data = json.dumps(record).encode()
        self._storage.write(f"{self._folder}/{uuid.uuid4().hex}.json", data)

    def records(self) -> Iterator[dict[str, Any]]:
        for name in self._storage.names(self._folder):
            yield json.loads(self._storage.read(f"{self._folder}/{name}"))

    def alone(self) -> AbstractContextManager[None]:
        """Objects know no lock that a run gives back when it dies: there, starting one run is the caller's part."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is held open."""


@contextmanager
def _failing_as(what: str, remedy: str = "") -> Iterator[None]:
    """Whatever a file system raises as a LakeError: fsspec's raise the errors of their own libraries, too."""
    try:
        yield
    except Exception as error:
        raise LakeError(f"cannot {what}: {getattr(error, 'strerror', None) or error}{remedy}") from error


def _writing(path: str) -> AbstractContextManager[None]:
    return _failing_as(f"write {path}", "; check the folder's rights and free space, or set SCOT_LAKE to another place")


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _mode(path: str, *, follow: bool) -> int | None:
    """What a path is; None where there is nothing."""
    with _failing_as(f"look for {path}", PLACE):
        try:
            return os.stat(path, follow_symlinks=follow).st_mode  # noqa: PTH116 - a lake has many
        except (FileNotFoundError, NotADirectoryError):
            return None


def _mark(found: os.stat_result) -> Mark:
    return found.st_size, found.st_ino, found.st_mtime_ns


def _write_local(path: Path, data: bytes) -> Mark:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            mark = _mark(os.fstat(file.fileno()))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return mark
