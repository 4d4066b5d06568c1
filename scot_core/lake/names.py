"""Names in a lake: keys, references to datasets, parts, and files beside them.

Manifests may come from anywhere, and their names become paths: one that could lead out of its dataset's folder, or
hide in it, is refused when it is read and when it is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,249}")
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LONGEST = 255  # bytes of one component, as file systems have it


def is_key(name: str) -> bool:
    """Whether this can be a key: one plain component of a path (see `fingerprint.key_of`)."""
    return KEY.fullmatch(name) is not None


def part_name(index: int) -> str:
    """Of the part at this place, from 0."""
    return f"part-{index:05d}.parquet"


def plain(text: str) -> str:
    """The text, where it is one line that can stand in a message, a path or SQL. Raises ValueError."""
    if not text or not text.isprintable():
        raise ValueError(f"{text!r} is empty, or holds characters that cannot be printed")
    return text


def file_name(name: str) -> str:
    """The name, where it is a relative path with forward slashes that stays in its folder. Raises ValueError.

    Components that begin with a dot or an underscore are the lake's own: its manifest, journals, what is half written.
    """
    for component in plain(name).split("/"):
        if not component or component[0] in "._" or "\\" in component or len(component.encode()) > _LONGEST:
            raise ValueError(f"{name!r} is not the name of a file in its dataset's folder")
    return name


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """Which dataset, as manifests name their inputs: `<table>/<key>`."""

    table: str
    key: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for anything else."""
        table, _, key = text.partition("/")
        if not _TABLE.fullmatch(table) or not is_key(key):
            raise ValueError(f"{text!r} is not <table>/<key>")
        return cls(table, key)

    def __str__(self) -> str:
        return f"{self.table}/{self.key}"
