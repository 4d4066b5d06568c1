"""One's own captioned images: tables of (image, caption) and the image files they name.

A table is CSV (with a header), JSON lines or Parquet, with columns `image` and `caption`; `image` is a path relative
to the table's folder, and stays in it, links included. Several rows may name one image.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from scot_core.captions.directory import Directory
from scot_core.captions.entries import Entry, Reason, Refused, checked, refused, shown
from scot_core.captions.reader import Reader
from scot_core.captions.tables import TableRow, csv_rows, json_rows, parquet_rows
from scot_core.config import FolderConfig
from scot_core.errors import DataError

COLUMNS = ("image", "caption")
SUFFIXES = (".csv", ".jsonl", ".parquet")
SETTING = "captions.path"


class Folder(Reader):
    """The table at a path, or every table directly in a folder. The source is named after the folder."""

    def __init__(self, path: str, config: FolderConfig) -> None:
        there = Directory.at(path, SETTING)
        folder, _, name = there.root.rpartition("/")
        self._name = None if there.is_folder() else name
        self.place = there if self._name is None else Directory(there.fs, folder, SETTING)
        self.count = config.count
        label = self.place.root.rpartition("/")[2].lower()
        self.source = f"own-{''.join(c if c.isalnum() else '-' for c in label)}"

    @property
    def files(self) -> Sequence[str]:
        if self._name is None:
            found = self.place.names("", *(f"*{suffix}" for suffix in SUFFIXES))
            if not found:
                raise DataError(f"{self.place.root} holds no table ({', '.join(SUFFIXES)}); {SETTING} must name one")
            return found
        path = self.place.path(self._name)
        if not self.place.is_file(self._name):
            raise DataError(f"there is no file or folder {path}; {SETTING} names a table of (image, caption)")
        if not self._name.endswith(SUFFIXES):
            raise DataError(f"{path} is not one of {', '.join(SUFFIXES)}")
        return [self._name]

    def entries(self) -> Iterator[Entry | Refused]:
        for name in self.files:
            for row in self._rows(name):
                yield row if isinstance(row, Refused) else _entry(row)

    def _rows(self, name: str) -> Iterator[TableRow | Refused]:
        if name.endswith(".parquet"):
            return parquet_rows(self.place, name, COLUMNS)
        return csv_rows(self.place, name, COLUMNS) if name.endswith(".csv") else json_rows(self.place, name)


def _entry(row: TableRow) -> Entry | Refused:
    if any(column not in row.values for column in COLUMNS):
        return refused(Reason.MALFORMED_ENTRY, row.where, f"no {' or '.join(COLUMNS)} in {shown(dict(row.values))}")
    image, caption = (row.values[column] for column in COLUMNS)
    if not image:
        return refused(Reason.NO_IMAGE, row.where, shown(caption, str))
    if not isinstance(image, str):
        return refused(Reason.MALFORMED_ENTRY, row.where, shown(dict(row.values)))
    name = posixpath.normpath(image)  # ./a.png is a.png
    return checked(name, name, "" if caption is None else caption, row.where)
