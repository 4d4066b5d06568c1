"""Rows of captions and replies by pair id, part by part: a few parts are in memory, however many there are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from scot_core.errors import LakeError
from scot_core.lake import Dataset

Row = Mapping[str, Any]
Places = npt.NDArray[np.int64]


class Rows:
    """Some columns of a dataset, for those who ask in about the order in which its rows lie."""

    def __init__(self, dataset: Dataset, columns: Sequence[str]) -> None:
        self._dataset, self._columns = dataset, columns
        self._starts = list(accumulate((part.rows for part in dataset.parts), initial=0))
        self._at = 0  # the part that was read last
        self._kept: tuple[int, list[dict[str, Any]]] = (-1, [])

    def __len__(self) -> int:
        return self._starts[-1]

    def between(self, start: int, end: int) -> list[Row]:
        """The rows at these places, as far as there are any."""
        found: list[Row] = []
        end = min(end, len(self))
        while start < end:
            part = bisect_right(self._starts, start) - 1
            first = self._starts[part]
            found += self._part(part)[start - first : end - first]
            start = self._starts[part + 1]
        return found

    def of(self, wanted: Collection[str]) -> dict[str, Row]:
        """The rows of these pair ids, those that there are, looked for from where the last ones were found."""
        missing = set(wanted)
        found: dict[str, Row] = {}
        parts = len(self._dataset.parts)
        for part in [*range(self._at, parts), *range(self._at)]:
            if not missing:
                break
            self._at = part
            for row in self._part(part):
                if row["pair_id"] in missing:
                    found[row["pair_id"]] = row
            missing -= found.keys()
        return found

    def _part(self, part: int) -> list[dict[str, Any]]:
        if self._kept[0] != part:
            self._kept = part, self._dataset.read_part(part, self._columns).to_pylist()
        return self._kept[1]


class Tries:
    """The replies of one try or several, by the places of their captions among all that were asked first.

    A later try asks again about what was rejected until then, and about nothing else, in the same order. Eight bytes
    for each of its replies are in memory.
    """

    def __init__(self, attempts: Sequence[Dataset], columns: Sequence[str]) -> None:
        self._first, *later = (Rows(attempt, columns) for attempt in attempts)
        self._later = [(rows, places(attempt, attempts[0])) for rows, attempt in zip(later, attempts[1:], strict=True)]

    def __len__(self) -> int:
        return len(self._first)

    def last(self, start: int, end: int) -> list[tuple[int, bool, Row]]:
        """Of these places: the number of the last try, from 1, whether it is known that its reply was accepted, since
        nobody asked again, and that reply.
        """
        last = [(1, bool(self._later), row) for row in self._first.between(start, end)]
        for tries, (rows, places) in enumerate(self._later, 2):
            low, high = np.searchsorted(places, (start, end)).tolist()
            for place, row in zip(places[low:high].tolist(), rows.between(low, high), strict=True):
                last[place - start] = tries, tries <= len(self._later), row
        return last


def places(some: Dataset, of: Dataset) -> Places:
    """Where the pair ids of the one lie in the other, which has them in the same order.

    Raises LakeError where one is not there.
    """
    every = enumerate(_pairs(of))

    def place(wanted: str) -> int:
        found = next((number for number, pair in every if pair == wanted), None)
        if found is None:
            raise LakeError(
                f"{some.name} has the row {wanted}, which {of.name} lacks there: restore it, or make it anew"
            )
        return found

    return np.fromiter(map(place, _pairs(some)), np.int64)


def _pairs(dataset: Dataset) -> Iterator[str]:
    for part in dataset.read_parts(["pair_id"]):
        yield from part["pair_id"].to_pylist()


def require_all(found: Mapping[str, Row], wanted: Collection[str], dataset: Dataset, by: Dataset) -> None:
    """Raises LakeError where one is not there."""
    if len(found) < len(wanted):
        lost = next(pair for pair in wanted if pair not in found)
        raise LakeError(f"{dataset.name} has no row {lost}, which {by.name} names: restore it, or make that anew")
