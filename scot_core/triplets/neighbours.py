"""Captions of any number that differ in one span of up to three words, found in memory that does not grow.

Each caption is written down once for every span, under a 64-bit key of what stands around the span: captions that
share a key differ in that span alone. Of more than some thousand captions, keys are spread over files, so that each
file is sorted by itself. In a context of many captions each is led to the next few, in a circle, and not to all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scot_core.triplets.spans import Caption, is_content

SPAN: Final = 3  # words that come or go at most
LONGEST: Final = 64  # words of a caption
FILES: Final = 256
HELD: Final = 1 << 18  # spans, of seven thousand captions of ten words, for which there are no files
TRIED, KEPT = 8, 2  # captions that a caption is compared with, and led to, in one context

_MEMBER: Final = np.dtype(
    [
        ("key", "u8"),
        ("caption", "u4"),
        ("start", "u1"),
        ("end", "u1"),
        ("first", "u2"),
        ("middle", "u2"),
        ("last", "u2"),
    ]
)
PAIR: Final = np.dtype([("caption", "u4"), ("other", "u4"), ("start", "u1"), ("end", "u1"), ("other_end", "u1")])
_LEFT, _RIGHT, _MIX = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xFF51AFD7ED558CCD))
Words = NDArray[np.uint64]
Table = NDArray[Any]


@lru_cache(1 << 17)
def word_hash(word: str) -> int:
    """64 bits of blake2b; 0 stands for the end of a phrase."""
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def mixed(values: Words) -> Words:
    """Bits of a hash spread over the whole word."""
    values = (values ^ (values >> np.uint64(33))) * _MIX
    return values ^ (values >> np.uint64(29))


def edges(words: Sequence[Sequence[str]]) -> Table:
    """Every span of captions of one length with what stands around it, as rows of `_MEMBER`, `caption` by position.

    The key of a span is a hash of the words before it and of those after it. Where no word of content stands around
    a span, the rest of the caption says nothing about it, and there is no row.
    """
    count, length = len(words), len(words[0])
    hashes = np.array([[word_hash(word) for word in row] for row in words], np.uint64).reshape(count, length)
    spoken = np.array([[is_content(word) for word in row] for row in words], np.int64).reshape(count, length)
    said = np.concatenate([np.zeros((count, 1), np.int64), spoken.cumsum(1)], axis=1)
    before = np.full((count, length + 1), _MIX)
    after = np.full((count, length + 1), _RIGHT)
    for at in range(length):
        before[:, at + 1] = mixed(before[:, at] * _LEFT + hashes[:, at])
    for at in reversed(range(length)):
        after[:, at] = mixed(after[:, at + 1] * _LEFT + hashes[:, at])
    marks = (hashes & np.uint64(0xFFFF)) | np.uint64(1)  # 0 marks an empty span
    rows = []
    for width in range(min(SPAN, length - 1) + 1):
        for start in range(length - width + 1):
            end = start + width
            block = np.zeros(count, _MEMBER)
            block["key"] = mixed(before[:, start] * _RIGHT + after[:, end])
            block["caption"] = np.arange(count)
            block["start"], block["end"] = start, end
            if width:
                block["first"], block["last"] = marks[:, start], marks[:, end - 1]
            if width > 2:
                block["middle"] = marks[:, start + 1]
            rows.append(block[said[:, length] > said[:, end] - said[:, start]])
    return np.concatenate(rows)


class Contexts:
    """Collects the spans of captions, numbered from 0 as they come, and finds those that differ in one."""

    def __init__(self, folder: Path) -> None:
        """Beyond `HELD` spans it writes into an empty folder that is there."""
        self._folder = folder
        self._count = 0
        self._held = [np.zeros(0, _MEMBER)]
        self._on_disk = False

    def add(self, captions: Sequence[Caption]) -> None:
        """The next captions, of 2 to `LONGEST` words each, no two of the same words."""
        lengths = np.array([len(caption.words) for caption in captions])
        for length in np.unique(lengths):
            chosen = np.flatnonzero(lengths == length)
            rows = edges([captions[i].words for i in chosen.tolist()])
            rows["caption"] = chosen[rows["caption"]] + self._count
            self._held.append(rows)
            if self._on_disk or sum(map(len, self._held)) > HELD:
                self._write()
        self._count += len(captions)

    def _write(self) -> None:
        rows, self._held, self._on_disk = np.concatenate(self._held), [], True
        _spread(self._folder, "edges", rows, (rows["key"] % np.uint64(FILES)).astype(np.int64))

    def pairs(self) -> Iterator[tuple[range, Table]]:
        """Ranges of captions in order, and the rows of `PAIR` that lead from them, by caption."""
        if not self._on_disk:
            yield range(self._count), np.unique(_pairs(np.concatenate(self._held)))
            return
        for rows in _files(self._folder, "edges", _MEMBER):
            found = _pairs(rows)
            _spread(self._folder, "pairs", found, found["caption"].astype(np.int64) * FILES // max(1, self._count))
        for number, rows in enumerate(_files(self._folder, "pairs", PAIR)):
            begin, end = (-(-edge * self._count // FILES) for edge in (number, number + 1))
            yield range(begin, end), np.unique(rows)


def _pairs(rows: Table) -> Table:
    """Of all spans of some contexts; of each the shorter captions first, however they were divided into batches."""
    return ring(rows[np.lexsort((rows["caption"], rows["end"] - rows["start"], rows["key"]))])


def ring(rows: Table) -> Table:
    """Pairs of captions in one context each, from spans in the order of their keys.

    A caption is compared with the `TRIED` that follow it in its context, in a circle, and led to the first `KEPT` of
    those that differ from it in the first, the last and the middle word of the span: others differ in a smaller span,
    or in two.
    """
    starts = np.flatnonzero(np.r_[True, rows["key"][1:] != rows["key"][:-1]]) if len(rows) else np.zeros(0, np.int64)
    sizes = np.diff(np.r_[starts, len(rows)])
    rows, begin = rows[np.repeat(sizes > 1, sizes)], np.repeat(np.cumsum(sizes * (sizes > 1)) - sizes, sizes)
    size, begin = np.repeat(sizes, sizes)[np.repeat(sizes > 1, sizes)], begin[np.repeat(sizes > 1, sizes)]
    at, led = np.arange(len(rows)), np.zeros(len(rows), np.int64)
    found = [np.zeros(0, PAIR)]
    for step in range(1, TRIED + 1):
        active = np.flatnonzero((size > step) & (led < KEPT))
        here, there = rows[active], rows[begin[active] + (at[active] - begin[active] + step) % size[active]]
        tight = (here["first"] != there["first"]) & (here["last"] != there["last"])
        tight &= (here["middle"] != there["middle"]) | (here["middle"] == 0)
        here, there = here[tight], there[tight]
        led[active[tight]] += 1
        pairs = np.zeros(len(here), PAIR)
        pairs["caption"], pairs["start"], pairs["end"] = here["caption"], here["start"], here["end"]
        pairs["other"], pairs["other_end"] = there["caption"], there["end"]
        found.append(pairs)
    return np.concatenate(found)


def _spread(folder: Path, name: str, rows: Table, files: NDArray[np.int64]) -> None:
    """Append rows to the files of their numbers, in order."""
    order = np.argsort(files, kind="stable")
    ends = np.searchsorted(files[order], np.arange(FILES + 1))
    for number in range(FILES):
        if ends[number] < ends[number + 1]:
            with (folder / f"{name}-{number}").open("ab") as file:
                file.write(rows[order[ends[number] : ends[number + 1]]].tobytes())


def _files(folder: Path, name: str, dtype: np.dtype[Any]) -> Iterator[Table]:
    """The rows of each file, which is deleted."""
    for number in range(FILES):
        path = folder / f"{name}-{number}"
        rows = np.fromfile(path, dtype) if path.exists() else np.zeros(0, dtype)
        path.unlink(missing_ok=True)
        yield rows
