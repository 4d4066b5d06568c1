"""Replies that ask for the same of captions that are the same, in rows of any number.

Whether a reply repeats another depends on rows that lie anywhere, but only where two captions are the same. Replies to
these are read before all others, and what became of them waits on the disk.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scot_core.lake import Dataset
from scot_core.stages.replies.join import Row, Rows, Verdicts, are_in
from scot_core.stages.replies.reading import Reader, Reading
from scot_core.triplets.reading import normalise

AT_ONCE: Final = 50_000  # rows of a batch
OUTCOME: Final = pa.schema(
    [
        ("place", pa.int64()),
        ("model", pa.string()),
        ("tries", pa.int64()),
        *((name, pa.string()) for name in ("raw", "modification", "modified_caption", "reason")),
    ]
)
DIGEST: Final = "V16"
Digests = npt.NDArray[np.void]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


def repeated(captions: Dataset) -> Hashes:
    """Hashes of the captions that stand in more than one row, in order: of all that do, and seldom of others.

    Eight bytes a caption are in memory.
    """
    every, at = np.empty(captions.rows, np.uint64), 0
    for part in captions.read_parts(["caption"]):
        every[at : at + len(part)] = _hashes(part["caption"].to_pylist())
        at += len(part)
    every.sort()
    return np.unique(every[1:][every[1:] == every[:-1]])


def are_among(captions: Sequence[Row], every: Hashes) -> Flags:
    """Which of these captions are among those of `repeated`."""
    return are_in(_hashes([row["caption"] for row in captions]), every)


def _hashes(texts: Sequence[str]) -> Hashes:
    return np.fromiter((hash(text) & 0xFFFFFFFFFFFFFFFF for text in texts), np.uint64, len(texts))


@dataclass(frozen=True, slots=True)
class _Try:
    """What became of the replies of one try: batches of `OUTCOME`, `AT_ONCE` places each, and which repeat others."""

    path: Path
    ends: list[int]
    repeats: Flags

    def between(self, start: int, end: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Of these places: the place, and the fields of a reading without its caption."""
        with pa.OSFile(str(self.path)) as file:
            batches = pa.ipc.open_file(file)
            for index in range(start // AT_ONCE, min(-(-end // AT_ONCE), batches.num_record_batches)):
                rows = zip(*(column.to_pylist() for column in batches.get_batch(index).columns), strict=True)
                repeats = self.repeats[self.ends[index] : self.ends[index + 1]].tolist()
                for (place, *fields), again in zip(rows, repeats, strict=True):
                    if start <= place < end:
                        yield place, (*fields[:3], None, None, "duplicate") if again else tuple(fields)


class Twins:
    """The replies to captions that stand in more than one row, and what became of them.

    Within a try, later rows that repeat an accepted modification for the same caption are duplicates; so are those of a
    later try. In memory are 17 bytes for each of these replies, and a batch.
    """

    def __init__(
        self, captions: Rows, attempts: Sequence[Rows], verdicts: Verdicts, often: Hashes, read: Reader, work: Path
    ) -> None:
        """Reads them into files in a folder in `work`, which goes with this object."""
        self._folder = Path(tempfile.mkdtemp(dir=work, prefix="twins-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._captions, self._asked, self._often, self._read = captions, attempts[0], often, read
        self._verdicts = verdicts
        self._tries: list[_Try] = []
        accepted = np.empty(0, DIGEST)
        for attempt in attempts if len(often) else ():
            accepted = self._add(attempt, accepted)

    def between(self, start: int, end: int) -> dict[int, tuple[Any, ...]]:
        """Of these places among all that were asked: the fields of the readings, without their captions."""
        return {place: fields for each in self._tries for place, fields in each.between(start, end)}

    def _add(self, attempt: Rows, accepted: Digests) -> Digests:
        """Read one more try; takes the requests that are accepted until now, and returns those that are then."""
        path, ends, good, asked = self._folder / f"{len(self._tries)}.arrow", [0], list[Flags](), [accepted]
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, OUTCOME) as writer:
            for start in range(0, len(self._asked), AT_ONCE):
                places, readings = self._readings(attempt, start)
                columns = [places, *([getattr(r, name) for r in readings] for name in OUTCOME.names[1:])]
                arrays = [pa.array(column, field.type) for column, field in zip(columns, OUTCOME, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=OUTCOME))
                ends.append(ends[-1] + len(places))
                good.append(np.array([r.reason is None for r in readings], bool))
                asked.append(_requests([r for r in readings if r.reason is None]))
        every = np.concatenate(asked)
        first = np.zeros(len(every), bool)
        first[np.unique(every, return_index=True)[1]] = True
        repeats = np.concatenate(good)
        repeats[repeats] = ~first[len(accepted) :]
        self._tries.append(_Try(path, ends, repeats))
        return every[first]

    def _readings(self, attempt: Rows, start: int) -> tuple[list[int], list[Reading]]:
        """Those of a batch of places that wait for this try, and what it says."""
        rows = self._asked.between(start, start + AT_ONCE)
        before = self.between(start, start + len(rows))
        if self._tries:
            waiting = {rows[place - start]["pair_id"]: place for place, fields in before.items() if fields[-1]}
            replies = attempt.of(waiting)
        else:
            waiting = {row["pair_id"]: place for place, row in enumerate(rows, start)}
            replies = {row["pair_id"]: row for row in rows}
        captions = self._captions.of([pair for pair in waiting if pair in replies])
        tried = [pair for pair in waiting if pair in captions]
        if not self._tries:
            among = are_among([captions[pair] for pair in tried], self._often)
            tried = [pair for pair, twin in zip(tried, among.tolist(), strict=True) if twin]
        places = [waiting[pair] for pair in tried]
        known = [
            Reading(captions[p], *before[at]) if at in before else None for p, at in zip(tried, places, strict=True)
        ]
        verdicts = self._verdicts.of(len(self._tries), places)
        each = zip(tried, known, verdicts, strict=True)
        return places, [self._read(captions[p], replies[p], was, accepted) for p, was, accepted in each]


def _requests(readings: Sequence[Reading]) -> Digests:
    """16 bytes of each caption and its normalised modification."""
    texts = (f"{reading.caption['caption']}\n{normalise(reading.modification or '')}" for reading in readings)
    return np.frombuffer(b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts), DIGEST)
