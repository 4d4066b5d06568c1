"""Replies that ask for the same of captions that are the same, in rows of any number.

Whether a reply repeats another depends on rows that lie anywhere, but only where two captions are the same. Replies to
these are read before all others, and what became of them waits on the disk.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from scot_core.lake import Dataset
from scot_core.stages.replies.join import Row, Rows, Tries
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
    some = _hashes([row["caption"] for row in captions])
    among: Flags = np.searchsorted(every, some, "right") > np.searchsorted(every, some)
    return among


def _hashes(texts: Sequence[str]) -> Hashes:
    return np.fromiter((hash(text) & 0xFFFFFFFFFFFFFFFF for text in texts), np.uint64, len(texts))


class Twins:
    """The replies to captions that stand in more than one row, and what became of them.

    Later rows that repeat an accepted modification for the same caption are duplicates; the rows of a try come after
    those of the tries before. In memory are 18 bytes for each of these replies, and a batch.
    """

    def __init__(self, captions: Rows, tries: Tries, often: Hashes, read: Reader, work: Path) -> None:
        """Reads them into a file in a folder in `work`, which goes with this object."""
        self._folder = Path(tempfile.mkdtemp(dir=work, prefix="twins-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._captions, self._tries, self._often, self._read = captions, tries, often, read
        self._path, self._ends = self._folder / "read.arrow", [0]  # batches of `OUTCOME`, of `AT_ONCE` places each
        self._repeats = self._write() if len(often) else np.empty(0, bool)

    def between(self, start: int, end: int) -> dict[int, tuple[Any, ...]]:
        """Of these places among all that were asked: the fields of the readings, without their captions."""
        if not len(self._often):
            return {}
        with pa.OSFile(str(self._path)) as file:
            batches = pa.ipc.open_file(file)
            found = range(start // AT_ONCE, min(-(-end // AT_ONCE), batches.num_record_batches))
            rows = (row for index in found for row in self._rows(index, batches.get_batch(index)))
            return {row[0]: row[1:] for row in rows if start <= row[0] < end}

    def _rows(self, index: int, batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        repeats = self._repeats[self._ends[index] : self._ends[index + 1]].tolist()
        for row, again in zip(rows, repeats, strict=True):
            yield (*row[:4], None, None, "duplicate") if again else row

    def _write(self) -> Flags:
        """Which of them repeat others."""
        good, settled, asked = list[Flags](), list[Flags](), list[Digests]()
        with pa.OSFile(str(self._path), "wb") as file, pa.ipc.new_file(file, OUTCOME) as writer:
            for start in range(0, len(self._tries), AT_ONCE):
                places, accepted, readings = self._readings(start)
                columns = [places, *([getattr(r, name) for r in readings] for name in OUTCOME.names[1:])]
                arrays = [pa.array(column, field.type) for column, field in zip(columns, OUTCOME, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=OUTCOME))
                self._ends.append(self._ends[-1] + len(places))
                good.append(np.array([r.reason is None for r in readings], bool))
                settled.append(np.array(accepted, bool))
                asked.append(_requests([r for r in readings if r.reason is None]))
        repeats = np.concatenate(good)
        repeats[repeats] = _repeated(np.concatenate(asked), first=np.concatenate(settled)[repeats])
        return repeats

    def _readings(self, start: int) -> tuple[list[int], list[bool], list[Reading]]:
        """Those of a batch: their places, whether each was accepted before, and what they say."""
        last = self._tries.last(start, start + AT_ONCE)
        captions = self._captions.of([reply["pair_id"] for _, _, reply in last])
        asked = [(place, *each) for place, each in enumerate(last, start) if each[-1]["pair_id"] in captions]
        among = are_among([captions[reply["pair_id"]] for *_, reply in asked], self._often).tolist()
        twins = [each for each, twin in zip(asked, among, strict=True) if twin]
        readings = [self._read(captions[r["pair_id"]], r, tries, accepted=was) for _, tries, was, r in twins]
        return [place for place, *_ in twins], [was for _, _, was, _ in twins], readings


def _repeated(requests: Digests, first: Flags) -> Flags:
    """Which of these were there before, where some come `first`."""
    order = np.argsort(~first, kind="stable")
    again = np.ones(len(requests), bool)
    again[order[np.unique(requests[order], return_index=True)[1]]] = False
    return again


def _requests(readings: Sequence[Reading]) -> Digests:
    """16 bytes of each caption and its normalised modification."""
    texts = (f"{reading.caption['caption']}\n{normalise(reading.modification or '')}" for reading in readings)
    return np.frombuffer(b"".join(blake2b(text.encode(), digest_size=16).digest() for text in texts), DIGEST)
