"""The images that are searched, with vectors in memory: those of a lake, or those below a folder."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import pyarrow as pa
from PIL import Image

from scot_core.encoders import Encoder
from scot_core.encoders.decoding import open_file
from scot_core.lake import Dataset, Lake
from scot_core.lake.lineage import parents
from scot_core.search.cache import embed_folder
from scot_core.stages.embed.vectors import vectors_by_id
from scot_core.vectors import Vectors

KEPT_BYTES: Final = 1 << 28  # of images as files, at most, that stay in memory


class Shown(NamedTuple):
    """An image, opened and not decoded, and its caption where it has one."""

    caption: str | None
    image: Image.Image


class Searched(Protocol):
    """Images with their vectors; `ids[i]` is that of `vectors[i]`, (G, D) float32."""

    ids: list[str]
    vectors: Vectors
    left_out: Mapping[str, str]
    """Images that are not searched, by id, and why."""

    def shown(self, ids: Sequence[str]) -> list[Shown]: ...


class FolderImages:
    """All images below a folder. Raises DataError where there is none."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self._folder = folder
        self.ids, self.vectors, self.left_out = embed_folder(folder, encoder)

    def shown(self, ids: Sequence[str]) -> list[Shown]:
        """Raises DataError for an image that has gone since."""
        return [Shown(None, open_file(self._folder / image_id)) for image_id in ids]


class _Place(NamedTuple):
    pictures: int
    part: int
    row: int


class LakeImages:
    """Those of datasets of embeddings; files of images stay in memory, the last used, up to `KEPT_BYTES`."""

    left_out: Mapping[str, str] = {}

    def __init__(self, lake: Lake, embeddings: Sequence[Dataset]) -> None:
        row, vectors = vectors_by_id(embeddings)
        self.ids = list(row)
        self.vectors = vectors if len(row) == len(vectors) else vectors[list(row.values())]
        self._pictures = [parents(lake, dataset)[0] for dataset in embeddings]
        self._parts: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._bytes = 0

    def shown(self, ids: Sequence[str]) -> list[Shown]:
        """Raises LakeError where a part is damaged or gone."""
        return [self._shown(self._places[image_id]) for image_id in ids]

    def _shown(self, place: _Place) -> Shown:
        part = self._part(place.pictures, place.part)
        caption = part["caption"][place.row].as_py() if "caption" in part.column_names else None
        return Shown(caption, Image.open(io.BytesIO(part["image"][place.row]["bytes"].as_py())))

    @cached_property
    def _places(self) -> dict[str, _Place]:
        """Where each image stands: the first row of an id has its file, other captions of it follow."""
        return {place[0]: _Place(*place[1:]) for place in reversed(list(self._all_rows()))}

    def _all_rows(self) -> Iterable[tuple[str, int, int, int]]:
        for number, pictures in enumerate(self._pictures):
            for index in range(len(pictures.parts)):
                small = self._bytes + pictures.parts[index].bytes <= KEPT_BYTES
                part = self._part(number, index) if small else pictures.read_part(index, ["image_id"])
                yield from ((image_id, number, index, row) for row, image_id in enumerate(part["image_id"].to_pylist()))

    def _part(self, number: int, index: int) -> pa.Table:
        key = (number, index)
        if key not in self._parts:
            pictures = self._pictures[number]
            columns = ["image_id", "image", *(["caption"] if pictures.table == "captions" else [])]
            self._parts[key] = pictures.read_part(index, columns)
            self._bytes += self._parts[key].nbytes
            while self._bytes > KEPT_BYTES and len(self._parts) > 1:
                self._bytes -= self._parts.popitem(last=False)[1].nbytes
        self._parts.move_to_end(key)
        return self._parts[key]
