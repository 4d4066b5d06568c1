"""Frozen encoders over everything that is compared (§3.1, eq. 3): images once, unique texts once."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from scot_core.config import EmbedConfig
from scot_core.encoders import Encoder, load
from scot_core.errors import DataError
from scot_core.fingerprint import fingerprint
from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.schema import text_id
from scot_core.stages.step import Step, Tick, shard_sizes


class Embed(Step):
    """Vectors of the images of one dataset, or of the texts of one."""

    stage, unit = "embed", "vectors"

    def __init__(self, lake: Lake, config: EmbedConfig, given: Dataset) -> None:
        super().__init__(lake)
        self.config, self.given = config, given
        self._source = str(given.manifest["source"])

    what: str

    @property
    def outputs(self) -> Sequence[Identity]:
        config = {**self.config.identity(), "spec": self.encoder.spec.model_dump(mode="json"), "what": self.what}
        identity = fingerprint("embed", EmbedConfig.STAGE_VERSION, config, [self.given.fingerprint])
        return [Identity("embeddings", self._source, f"embed-{self.what}", identity, config, [self.given.name])]

    def finish(self) -> None:
        sizes = self.shards()
        self.draft(self.outputs[0]).commit(len(sizes), rows_in=sum(sizes), usage=Usage(seconds=self.seconds))

    @cached_property
    def encoder(self) -> Encoder:
        return load(self.config.encoder)

    @abstractmethod
    def shards(self) -> Sequence[int]: ...

    def _write(
        self, shard: int, kind: str, ids: Sequence[str], texts: Sequence[str | None], vectors: np.ndarray
    ) -> None:
        flat = pa.array(vectors.astype(np.float32, copy=False).ravel())
        columns: Mapping[str, Any] = {
            "item_id": ids,
            "source": [self._source] * len(ids),
            "kind": [kind] * len(ids),
            "text": texts,
            "encoder": [self.config.encoder] * len(ids),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
        self.draft(self.outputs[0]).write_part(shard, columns)

    def _batches(self, rows: Sequence[Any], tick: Tick) -> Iterator[Sequence[Any]]:
        for start in range(0, len(rows), self.config.batch_size):
            batch = rows[start : start + self.config.batch_size]
            yield batch
            tick(len(batch))


class EmbedImages(Embed):
    """One vector for each image of `captions` or `galleries`; a shard is a part of it."""

    def __init__(self, lake: Lake, config: EmbedConfig, given: Dataset) -> None:
        super().__init__(lake, config, given)
        self.what = "images" if given.table == "captions" else "gallery"
        self.name = f"embed {given.table}"

    def shards(self) -> Sequence[int]:
        return [int(part["rows"]) for part in self.given.manifest["parts"]]

    def work(self, shard: int, tick: Tick) -> None:
        rows = self.given.read_part(shard, ["image_id", "image"]).to_pylist()
        batches = [self.encoder.embed_images([decode(row) for row in batch]) for batch in self._batches(rows, tick)]
        self._write(shard, "image", [row["image_id"] for row in rows], [None] * len(rows), np.concatenate(batches))


class EmbedTexts(Embed):
    """One vector for each different text of `triplets`: captions, modification texts, modified captions."""

    what, name = "texts", "embed texts"

    @cached_property
    def _texts(self) -> list[str]:
        columns = ["caption", "modification", "modified_caption"]
        table = self.given.read(columns)
        return sorted({text for column in columns for text in table[column].to_pylist()})

    def shards(self) -> Sequence[int]:
        return shard_sizes(len(self._texts), self.config.shard_rows)

    def work(self, shard: int, tick: Tick) -> None:
        size = self.config.shard_rows
        texts = self._texts[shard * size : (shard + 1) * size]
        batches = [self.encoder.embed_texts(batch) for batch in self._batches(texts, tick)]
        self._write(shard, "text", [text_id(text) for text in texts], texts, np.concatenate(batches))


def decode(row: Mapping[str, Any]) -> Image.Image:
    """The picture of a row of `captions` or `galleries`. Raises DataError where it does not decode."""
    try:
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"image {row['image_id']} does not decode ({error}): remove it from the captions") from error
    return image


def vectors_by_id(datasets: Sequence[Dataset]) -> tuple[dict[str, int], np.ndarray]:
    """All vectors of some datasets, (n, D) float32, and the row of each id."""
    ids: list[str] = []
    blocks = []
    for dataset in datasets:
        for part in dataset.read_parts(["item_id", "vector"]):
            ids += part["item_id"].to_pylist()
            column = part["vector"].combine_chunks()
            blocks.append(column.flatten().to_numpy(zero_copy_only=False).reshape(len(part), column.type.list_size))
    if not blocks:
        raise DataError(f"{', '.join(d.name for d in datasets)} holds no vectors; look at the table `rejects`")
    return {item: row for row, item in enumerate(ids)}, np.concatenate(blocks)
