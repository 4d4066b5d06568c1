"""A folder of annotations or images, on the local disk or at any fsspec URL."""

from __future__ import annotations

import errno
import fnmatch
import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import fsspec
import ijson
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from scot_core.captions.entries import Reason
from scot_core.errors import DataError, ScotError
from scot_core.lake.fingerprint import stream_digest

LARGEST_IMAGE = 256 << 20  # bytes
LONGEST_LINE = 16 << 20  # characters of a line; one that is longer is cut, and so makes no entry
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, ijson.JSONError, pa.ArrowInvalid)
NOT_THERE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
NOWHERE = (errno.ENAMETOOLONG, errno.ELOOP)  # names that no file has
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Directory:
    """Names are relative to the root, with forward slashes. `setting` is what a person changes when it is wrong.

    An image is read where it really lies below one of the folders `inside`, themselves relative to the root: links are
    followed within them. Annotation files may be links to anywhere, since a person names them.
    """

    fs: fsspec.AbstractFileSystem
    root: str
    setting: str
    inside: tuple[str, ...] = ("",)

    @classmethod
    def at(cls, url: str, setting: str) -> Directory:
        """Raises DataError for a URL of an unknown kind."""
        try:
            fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)  # files come and go
        except (ImportError, ValueError) as error:
            raise DataError(f"{setting} is {url!r}, which cannot be opened: {error}") from error
        return cls(fs, root.rstrip("/"), setting)

    def folder(self, name: str) -> Directory:
        """A folder below this one."""
        return replace(self, root=self.path(name))

    def path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def is_file(self, name: str) -> bool:
        with self._failing(name):
            return bool(self.fs.isfile(self.path(name)))

    def is_folder(self, name: str = "") -> bool:
        with self._failing(name):
            return bool(self.fs.isdir(self.path(name)))

    def names(self, folder: str, *patterns: str) -> list[str]:
        """Files directly in a folder that fit one of the patterns, by name; none where there is no such folder."""
        with self._failing(folder):
            found = self.fs.ls(self.path(folder), detail=False) if self.is_folder(folder) else []
        names = sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found)
        prefix = f"{folder}/" if folder else ""
        return [prefix + name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]

    def digest(self, name: str) -> str:
        """blake2b of a file's bytes, 32 hex digits. Raises DataError where there is no such file."""
        with self._failing(name), self._opened(self.path(name)) as file:
            return stream_digest(file)

    @contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        """The bytes of a file, `.gz` unpacked. Whatever goes wrong inside is a DataError that names the file."""
        with self._failing(name), self._opened(self.path(name)) as file:
            if not name.endswith(".gz"):
                yield file
                return
            with gzip.open(file) as unpacked:
                yield cast(BinaryIO, unpacked)

    @contextmanager
    def text(self, name: str) -> Iterator[Iterator[str]]:
        r"""The lines of a file, ended by `\n` as they stand. Bytes that are not UTF-8 become lone surrogates."""
        with self.stream(name) as file:
            buffered = io.BufferedReader(cast(io.RawIOBase, file))
            if buffered.peek(2)[:2] in UTF_16:
                raise DataError(f"{self.path(name)} is UTF-16: save it as UTF-8")
            with io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
                yield _cut(lines)

    def read(self, name: str) -> bytes | Reason:
        """The bytes of an image file, or why there are none.

        Raises DataError where the place itself fails (rights, network): that is no reason to reject an image.
        """
        path = self.path(name)
        try:
            if self._is_local:
                path = os.path.realpath(path, strict=True)
                if not self._is_inside(path):
                    return Reason.IMAGE_OUTSIDE_FOLDER
            with self._opened(path) as file:
                data = file.read(LARGEST_IMAGE + 1)
        except _NotRegularError:
            return Reason.IMAGE_NOT_A_FILE
        except (*NOT_THERE, ValueError):  # ValueError: a name no file can have
            return Reason.IMAGE_MISSING
        except Exception as error:
            if getattr(error, "errno", None) in NOWHERE:
                return Reason.IMAGE_MISSING
            raise self._unreadable(name, error) from error
        return data if len(data) <= LARGEST_IMAGE else Reason.IMAGE_TOO_LARGE

    @property
    def _is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def _is_inside(self, path: str) -> bool:
        folders = (os.path.realpath(self.path(folder)) for folder in self.inside)
        return any(f"{path}/".startswith(folder.rstrip("/") + "/") for folder in folders)

    def _opened(self, path: str) -> BinaryIO:
        return _open_regular(os.path.realpath(path)) if self._is_local else cast(BinaryIO, self.fs.open(path, "rb"))

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """Object stores raise the errors of their own libraries, so everything is caught."""
        try:
            yield
        except ScotError:
            raise
        except _NotRegularError as error:
            raise DataError(f"{self.path(name)} is a pipe, a device or a socket, not a file") from error
        except NOT_THERE as error:
            raise DataError(f"{self.path(name)} is missing; {self.setting} says where it is looked for") from error
        except DAMAGED as error:
            what = str(error).split("\n")[0] or type(error).__name__
            raise DataError(f"{self.path(name)} is cut short or damaged ({what}): get it again") from error
        except Exception as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> DataError:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return DataError(f"cannot read {self.path(name)}: {what}; {self.setting} names this place")


class _NotRegularError(OSError):
    """What would hang or never end where it is read."""


def _open_regular(path: str) -> BinaryIO:
    """A file on this machine, looked at before it is opened (devices act on that) and after (it may be another now)."""
    _require_regular(Path(path).stat())
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    try:
        _require_regular(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise _NotRegularError


def _cut(file: TextIO) -> Iterator[str]:
    """The lines of a file, none longer than LONGEST_LINE."""
    while line := file.readline(LONGEST_LINE):
        yield line
        while line and not line.endswith("\n"):
            line = file.readline(LONGEST_LINE)
