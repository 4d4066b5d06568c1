"""A folder of annotations or images, on the local disk or at any fsspec URL."""

from __future__ import annotations

import errno
import fnmatch
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, TextIO, cast

import fsspec
import ijson
import pyarrow as pa

from scot_core.errors import DataError, ScotError

BLOCK = 1 << 20  # bytes read at a time for a digest
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, ijson.JSONError, pa.ArrowInvalid)
NOT_THERE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Place:
    """Names are relative to the root, with forward slashes. `setting` is what a person changes when it is wrong."""

    fs: fsspec.AbstractFileSystem
    root: str
    setting: str

    @classmethod
    def at(cls, url: str, setting: str) -> Place:
        """Raises DataError for a URL of an unknown kind."""
        try:
            fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)  # files come and go
        except (ImportError, ValueError) as error:
            raise DataError(f"{setting} is {url!r}, which cannot be opened: {error}") from error
        return cls(fs, root.rstrip("/"), setting)

    def folder(self, name: str) -> Place:
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
        state = hashlib.blake2b(digest_size=16)
        with self._failing(name), self.fs.open(self.path(name), "rb") as file:
            while block := file.read(BLOCK):
                state.update(block)
        return state.hexdigest()

    @contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        """The bytes of a file, `.gz` unpacked. Whatever goes wrong inside is a DataError that names the file."""
        with self._failing(name), self.fs.open(self.path(name), "rb") as file:
            if not name.endswith(".gz"):
                yield file
                return
            with gzip.open(file) as unpacked:
                yield cast(BinaryIO, unpacked)

    @contextmanager
    def text(self, name: str) -> Iterator[TextIO]:
        r"""The lines of a file, ended by `\n` as they stand. Bytes that are not UTF-8 become lone surrogates."""
        with self.stream(name) as file:
            buffered = io.BufferedReader(cast(io.RawIOBase, file))
            if buffered.peek(2)[:2] in UTF_16:
                raise DataError(f"{self.path(name)} is UTF-16: save it as UTF-8")
            with io.TextIOWrapper(buffered, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
                yield lines

    def read(self, name: str) -> bytes | None:
        """The bytes of an image file, None where there is none.

        Raises DataError where the place itself fails (rights, network): that is no reason to reject an image.
        """
        try:
            return bytes(self.fs.cat_file(self.path(name)))
        except (*NOT_THERE, ValueError):  # ValueError: a name no file can have
            return None
        except Exception as error:
            if getattr(error, "errno", None) == errno.ENAMETOOLONG:
                return None
            raise self._unreadable(name, error) from error

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """Object stores raise the errors of their own libraries, so everything is caught."""
        try:
            yield
        except ScotError:
            raise
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
