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


class Verdicts:
    """What became of the replies of earlier tries, as the next try tells it: what it asked again was rejected, and the
    rest accepted.

    Only where every try is newer than those before it: one that was made anew since, to repair it, may say something
    else than what the next went by. Eight bytes for each reply of a later try are in memory.
    """

    def __init__(self, attempts: Sequence[Dataset]) -> None:
        self._again = [asked_again(later, attempts[: number + 1]) for number, later in enumerate(attempts[1:])]

    def of(self, attempt: int, places: Sequence[int]) -> list[bool | None]:
        """Whether the replies of a try, counted from 0, at these places were accepted; None where nobody knows."""
        again = self._again[attempt] if attempt < len(self._again) else None
        if again is None:
            return [None] * len(places)
        return [not there for there in are_in(np.asarray(places, np.int64), again).tolist()]


def are_in(some: npt.NDArray[Any], every: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of these are among others, which are in order."""
    there: npt.NDArray[np.bool_] = np.searchsorted(every, some, "right") > np.searchsorted(every, some)
    return there


def asked_again(later: Dataset, earlier: Sequence[Dataset]) -> Places | None:
    """Where the rows of a dataset that was made from tries lie among all that were asked first, in their order.

    None where one of the tries is newer, or the rows are not there in this order.
    """
    if any(attempt.manifest.created_at >= later.manifest.created_at for attempt in earlier):
        return None
    every, found = enumerate(_pairs(earlier[0])), np.empty(later.rows, np.int64)
    for number, wanted in enumerate(_pairs(later)):
        place = next((place for place, pair in every if pair == wanted), None)
        if place is None:
            return None
        found[number] = place
    return found


def _pairs(dataset: Dataset) -> Iterator[str]:
    for part in dataset.read_parts(["pair_id"]):
        yield from part["pair_id"].to_pylist()


def require_all(found: Mapping[str, Row], wanted: Collection[str], dataset: Dataset, by: Dataset) -> None:
    """Raises LakeError where one is not there."""
    if len(found) < len(wanted):
        lost = next(pair for pair in wanted if pair not in found)
        raise LakeError(f"{dataset.name} has no row {lost}, which {by.name} names: restore it, or make that anew")
