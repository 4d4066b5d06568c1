"""A sample of captions, with their pictures: of a source that was not read yet, or of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, TypeVar

from scot_core.captions.entries import Entry
from scot_core.captions.images import Bad, load
from scot_core.captions.reader import Reader
from scot_core.captions.sources import readers_of
from scot_core.config import CaptionsConfig
from scot_core.errors import DataError
from scot_core.lake import Dataset

READ, IN_LAKE = 20_000, 2_000  # entries looked at, of a table and of a dataset
AT_ONCE, ENOUGH = 256, 512  # entries whose pictures are looked for together, and in all

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """Different captions in the order of a digest, and how to get their pictures: (caption, bytes), those that are.

    `pairs` were counted, or are asked for; `images` are the ids that were seen; `whole` where there are no more.
    `place` says where they lie.
    """

    place: str
    pairs: int
    whole: bool
    images: Sequence[str]
    captions: Sequence[str]
    pictures: Callable[[], Iterator[tuple[str, bytes]]]


def sample(config: CaptionsConfig) -> Sample:
    """Of a source. Raises DataError where the captions are not to be had, or none of them is one."""
    reader = readers_of(config)[0]
    read = list(islice(reader.entries(), READ))
    entries = [entry for entry in read if isinstance(entry, Entry)]
    if not entries:
        raise DataError(f"no entry of {reader.place.root} names an image and a caption; look at {reader.place.setting}")
    drawn = _different({(entry.image_id, entry.caption): entry for entry in entries})

    def pictures() -> Iterator[tuple[str, bytes]]:
        for some in _batches(drawn):
            paths = _paths(reader, some)
            for entry in some:
                data = load(reader.images, paths.get(entry.image_id))
                if not isinstance(data, Bad):
                    yield entry.caption, data

    pairs = min(len(entries), reader.count or len(entries))
    captions = [entry.caption for entry in drawn]
    images = [entry.image_id for entry in entries]
    return Sample(reader.place.root, pairs, len(read) < READ, images, captions, pictures)


def sample_in(captions: Dataset) -> Sample:
    """Of a dataset of captions."""
    rows = list(islice(_rows(captions), IN_LAKE))
    drawn = _different({(row["image_id"], row["caption"]): (row["caption"], row["image"]["bytes"]) for row in rows})
    pictures = [(caption, data) for caption, data in drawn if data is not None]
    images = [row["image_id"] for row in rows]
    return Sample(
        captions.name, captions.rows, len(rows) == captions.rows, images, [c for c, _ in drawn], lambda: iter(pictures)
    )


def _rows(captions: Dataset) -> Iterator[dict[str, Any]]:
    for part in captions.read_parts(["image_id", "caption", "image"]):
        yield from part.to_pylist()


def _different(found: Mapping[tuple[str, str], T]) -> list[T]:
    """One of (image id, caption) for each different caption, in the order of a digest."""
    each = {" ".join(caption.casefold().split()): (image, caption) for image, caption in found}
    return [found[pair] for pair in sorted(each.values(), key=_digest)]


def _digest(pair: tuple[str, str]) -> bytes:
    return hashlib.blake2b("\n".join(pair).encode("utf-8", "surrogatepass")).digest()


def _batches(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Some at a time: what is no picture is made up for by others."""
    edges = range(0, ENOUGH + 1, AT_ONCE)
    return (entries[start:end] for start, end in pairwise(edges))


def _paths(reader: Reader, entries: Sequence[Entry]) -> dict[str, str]:
    """Where the images of some entries lie; some sources list them apart."""
    known = {entry.image_id: entry.path for entry in entries}
    listed = dict(reader.pictures()) if None in known.values() else {}
    return {image_id: path for image_id, at in known.items() if (path := at or listed.get(image_id)) is not None}
