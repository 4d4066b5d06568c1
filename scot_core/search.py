"""Composed search over a lake: a reference image and a modification text in, images out (§3.4)."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageOps

from scot_core.benchmarks.own import gallery_of
from scot_core.encoders.decoding import embed_pictures, open_file
from scot_core.encoders.preprocessing import UNDECODABLE
from scot_core.errors import DataError, LakeError
from scot_core.lake import Lake
from scot_core.lake.lineage import parents
from scot_core.methods import Method, Queries, Ready, method
from scot_core.methods.combiners import by_combiner
from scot_core.retrieval import top_k
from scot_core.stages.embed.vectors import vectors_by_id
from scot_core.stages.methods.ground import Ground, LakeKnown
from scot_core.stages.train import combiners_in
from scot_core.vectors import Vectors

TILE = 160
ALIKE = 0.999  # cosine similarity from which an image may be the reference itself
COMPARED = 64  # images whose pixels are looked at for that, at most
AT_ONCE = 256  # images of a folder that are embedded in a batch


@dataclass(frozen=True)
class Answer:
    """The best images, best first: dicts of rank, image_id, score, caption."""

    reference: Image.Image
    modality_weight: float | None
    """How much the text weighed to a Combiner."""
    hits: list[dict[str, Any]]
    images: list[Image.Image]
    method: str = "scot"

    def picture(self) -> Image.Image:
        """Reference and hits side by side."""
        tiles = [self.reference, *self.images]
        sheet = Image.new("RGB", (TILE * len(tiles) + 12, TILE), "white")
        for place, tile in enumerate(tiles):
            shown = ImageOps.contain(tile.convert("RGB"), (TILE - 8, TILE - 8), Image.Resampling.LANCZOS)
            sheet.paste(shown, (place * TILE + 4 + (12 if place else 0), 4))
        return sheet

    def save(self, path: Path) -> None:
        """Write `picture`. Raises DataError where it cannot be, such as for an ending that names no picture."""
        try:
            self.picture().save(path)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot write the picture {path}: {error}") from error


class Searcher:
    """A method over the images that the Combiner in use was trained on and those of its source's benchmark.

    Or over the images below a folder, which are embedded once for all searches. Without a name the method is that
    Combiner: the promoted one, else the newest. Of several seeds the first is asked.
    """

    def __init__(self, lake: Lake, gallery: Path | None = None, name: str | None = None) -> None:
        """Raises LakeError where the lake lacks what the method needs, ConfigError for a method that there is not or
        that the encoder does not know, DataError for an image that is broken.
        """
        self._lake, self._gallery = lake, gallery
        ground = Ground.of(lake)
        if name is None and ground.combiners is None:
            raise LakeError(f"{lake.url} holds no Combiner: run `scot run` first, or name a method that needs none")
        self._known = LakeKnown(ground, seeds=(0,))
        self._combiner = None
        if name is None or (ground.combiners is not None and ground.combiners.config["loss"] == name):
            assert ground.combiners is not None
            with tempfile.TemporaryDirectory() as folder:
                self._combiner = next(iter(combiners_in(ground.combiners, Path(folder)).values()))
            self._method, self._compose = str(ground.combiners.config["loss"]), by_combiner(self._combiner)
        else:
            ready = _ready(method(name), self._known)
            self._method, self._compose = ready.shown, next(iter(ready.runs.values()))
        self._embeddings = [ground.images, *([ground.benchmark_images] if ground.benchmark_images else [])]
        self._encoder = self._known.encoder

    def search(self, image: Path, text: str, k: int, *, with_reference: bool = False) -> Answer:
        """The k images nearest to the composed embedding; the reference image is none of them unless it may be.

        Raises DataError for a file that is no image, and for a text without a word.
        """
        if not text.strip():
            raise DataError("the text is empty: say what should be different, such as --text 'in red instead'")
        reference = _open(image)
        v = self._encoder.embed_images([reference])
        asked = Queries([str(image)], v, [(text,)], lambda: self._encoder.embed_texts([text]))
        query = self._compose(asked)
        ids, vectors = self._searched
        if not with_reference:
            same = self._same(reference, ids, vectors @ v[0])
            kept = [place for place, image_id in enumerate(ids) if image_id not in same]
            if not kept:
                raise DataError("no image is searched but the reference itself")
            ids, vectors = [ids[place] for place in kept], vectors[kept]
        scores, indices = top_k(query, vectors, k)
        found = [ids[int(index)] for index in indices[0]]
        known = self._images(found)
        hits = [
            {"rank": place + 1, "image_id": image_id, "score": round(float(score), 4), "caption": known[image_id][0]}
            for place, (image_id, score) in enumerate(zip(found, np.asarray(scores)[0], strict=True))
        ]
        weight = self._weight(asked)
        return Answer(reference, weight, hits, [known[image_id][1] for image_id in found], self._method)

    def _weight(self, asked: Queries) -> float | None:
        if self._combiner is None:
            return None
        with torch.inference_mode():
            return float(self._combiner.modality_weight(torch.from_numpy(asked.images), torch.from_numpy(asked.texts)))

    @cached_property
    def _searched(self) -> tuple[list[str], Vectors]:
        """Ids and vectors of the images, (G, D)."""
        if self._gallery is None:
            row, vectors = vectors_by_id(self._embeddings)
            return list(row), vectors
        ids = gallery_of(self._gallery)
        openers = [partial(open_file, self._gallery / image_id) for image_id in ids]
        return ids, embed_pictures(self._encoder, openers, batch_size=AT_ONCE)

    def _same(self, reference: Image.Image, ids: list[str], similarity: Vectors) -> set[str]:
        """The ids of images with the very pixels of the reference, among those that are as good as its vector."""
        best = np.argsort(-similarity)[:COMPARED]
        near = [ids[place] for place in best if similarity[place] > ALIKE]
        seen = reference.convert("RGB")
        found = self._images(near).items() if near else ()
        return {
            image_id
            for image_id, (_, image) in found
            if image.size == seen.size and image.convert("RGB").tobytes() == seen.tobytes()
        }

    def _images(self, ids: list[str]) -> dict[str, tuple[str | None, Image.Image]]:
        if self._gallery is not None:
            return {image_id: (None, open_file(self._gallery / image_id)) for image_id in ids}
        wanted = set(ids)
        found: dict[str, tuple[str | None, Image.Image]] = {}
        for embeddings in self._embeddings:
            pictures = parents(self._lake, embeddings)[0]
            columns = ["image_id", "image", *(["caption"] if pictures.table == "captions" else [])]
            for part in pictures.read_parts(columns):
                places = [i for i, image_id in enumerate(part["image_id"].to_pylist()) if image_id in wanted]
                for row in part.take(pa.array(places, pa.int64())).to_pylist():
                    if row["image"]["bytes"] is None:  # another caption of an image that stands above
                        continue
                    found[row["image_id"]] = (row.get("caption"), Image.open(io.BytesIO(row["image"]["bytes"])))
        return found


def _ready(one: Method, known: LakeKnown) -> Ready:
    """The method, loaded. Raises LakeError with the command that makes what it lacks."""
    try:
        return one.ready(known)
    except LakeError as error:
        raise LakeError(f"{error}: {'; '.join(need.made_by for need in one.needs)}") from error


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except UNDECODABLE as error:
        raise DataError(f"{path} is not an image that can be read: {error}") from error
    return image
