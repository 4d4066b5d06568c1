"""Frozen encoders over everything that is compared (§3.1, eq. 3): images once, unique texts once."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from scot_core.config import EmbedConfig
from scot_core.encoders import Encoder, EncoderSpec, load, spec_of
from scot_core.encoders.pictures import embed_pictures
from scot_core.encoders.preprocessing import UNDECODABLE
from scot_core.errors import DataError, ModelError
from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.schema import text_id
from scot_core.stages.step import Step, Tick, shard_sizes


class Embed(Step):
    """Vectors of the images of one dataset, or of the texts of one.

    The key is known from the encoder's spec; weights are loaded when a shard is worked on.
    """

    stage, unit = "embed", "vectors"

    def __init__(self, lake: Lake, config: EmbedConfig, given: Dataset) -> None:
        super().__init__(lake)
        self.config, self.given = config, given
        self._source = given.source

    what: str

    @property
    def outputs(self) -> Sequence[Identity]:
        config = {**self.config.identity(), "spec": self.spec.model_dump(mode="json"), "what": self.what}
        identity = fingerprint("embed", EmbedConfig.STAGE_VERSION, config, [self.given.fingerprint])
        return [Identity("embeddings", self._source, f"embed-{self.what}", identity, config, [self.given.reference])]

    @cached_property
    def spec(self) -> EncoderSpec:
        return spec_for(self.config)

    @cached_property
    def encoder(self) -> Encoder:
        c = self.config
        return load(c.encoder, revision=c.revision, pooling=c.pooling, precision=c.precision, device=c.device)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__dict__.pop("encoder", None)  # the next step loads its own; a device may not hold two

    @abstractmethod
    def shards(self) -> Sequence[int]: ...

    def _write(
        self, shard: int, kind: str, sources: Sequence[str], ids: Sequence[str], texts: Sequence[str | None],
        vectors: np.ndarray,
    ) -> None:  # fmt: skip
        flat = pa.array(vectors.astype(np.float32, copy=False).ravel())
        columns: Mapping[str, Any] = {
            "item_id": ids,
            "source": sources,
            "kind": [kind] * len(ids),
            "text": texts,
            "encoder": [self.config.encoder] * len(ids),
            "vector": pa.FixedSizeListArray.from_arrays(flat, self.spec.dim),
        }
        self.draft(self.outputs[0]).write_part(shard, columns)


class EmbedImages(Embed):
    """One vector for each image of `captions` or `galleries`; a shard is a part of it.

    An image with several captions lies once in its part: its first row holds the bytes, the others none.
    """

    def __init__(self, lake: Lake, config: EmbedConfig, given: Dataset) -> None:
        super().__init__(lake, config, given)
        self.what = "images" if given.table == "captions" else "gallery"
        self.name = f"embed {given.table}"

    def shards(self) -> Sequence[int]:
        return [part.rows for part in self.given.parts]

    def work(self, shard: int, tick: Tick) -> None:
        table = self.given.read_part(shard, ["source", "image_id", "image"])
        rows = table.filter(pa.compute.is_valid(pa.compute.struct_field(table["image"], "bytes"))).to_pylist()
        _check_once(table.select(["source", "image_id"]), rows, f"{self.given.name}, part {shard}")
        vectors = embed_pictures(
            self.encoder,
            [partial(decode, row) for row in rows],
            batch_size=self.config.batch_size,
            workers=self.config.workers,
            tick=tick,
        )
        tick(len(table) - len(rows))
        ids = [row["image_id"] for row in rows]
        self._write(shard, "image", [row["source"] for row in rows], ids, [None] * len(rows), vectors)

    def finish(self) -> None:
        draft, parts = self.draft(self.outputs[0]), len(self.shards())
        images = sum(draft.read_part(shard).num_rows for shard in range(parts))  # `work` saw that none is left out
        draft.commit(parts, rows_in=images, usage=Usage(seconds=self.seconds))


class EmbedTexts(Embed):
    """One vector for each different text of `triplets`: captions, modification texts, modified captions."""

    what, name = "texts", "embed texts"

    @cached_property
    def _texts(self) -> list[str]:
        columns = ["caption", "modification", "modified_caption"]
        found: set[str] = set()
        for part in self.given.read_parts(columns):
            found.update(text for column in part.columns for text in column.to_pylist())
        return sorted(found)

    def shards(self) -> Sequence[int]:
        return shard_sizes(len(self._texts), self.config.shard_rows)

    def work(self, shard: int, tick: Tick) -> None:
        size = self.config.shard_rows
        texts = self._texts[shard * size : (shard + 1) * size]
        vectors = np.concatenate([self.encoder.embed_texts(batch) for batch in self._batches(texts, tick)])
        self._write(shard, "text", [self._source] * len(texts), [text_id(text) for text in texts], texts, vectors)

    def finish(self) -> None:
        sizes = self.shards()
        self.draft(self.outputs[0]).commit(len(sizes), rows_in=sum(sizes), usage=Usage(seconds=self.seconds))

    def _batches(self, rows: Sequence[str], tick: Tick) -> Iterator[Sequence[str]]:
        for start in range(0, len(rows), self.config.batch_size):
            batch = rows[start : start + self.config.batch_size]
            yield batch
            tick(len(batch))


def spec_for(config: EmbedConfig) -> EncoderSpec:
    """The spec of the encoder that a configuration names. Raises what `scot_core.encoders.spec_of` raises."""
    return spec_of(config.encoder, revision=config.revision, pooling=config.pooling, precision=config.precision)


def made_by(dataset: Dataset) -> EncoderSpec:
    """The spec of the encoder that made a dataset of embeddings."""
    return EncoderSpec.model_validate(dataset.config["spec"])


def require_made_by(dataset: Dataset, here: EncoderSpec) -> None:
    """Raises `ModelError` where the encoder that is here would give other vectors than the dataset's."""
    made = made_by(dataset)
    if here != made:
        pairs = [(name, value, getattr(here, name)) for name, value in made]
        other = [f"{name} {now!r}, not {then!r}" for name, then, now in pairs if now != then]
        raise ModelError(
            f"{dataset.name} was made by another encoder {made.name}: here it has {'; '.join(other)}. Embed again, or "
            "use the Scot and the weights that made it"
        )


def encoder_of(dataset: Dataset, *, device: str | None = None) -> Encoder:
    """The encoder that made a dataset of embeddings, for more vectors in their space.

    Raises `ModelError` where its weights are not here, or what is here would give other vectors.
    """
    config = dataset.config
    made = made_by(dataset)
    encoder = load(
        made.name,
        revision=config.get("revision") or made.revision,
        pooling=config.get("pooling"),
        precision=config.get("precision"),
        device=device,
    )
    require_made_by(dataset, encoder.spec)
    return encoder


def decode(row: Mapping[str, Any]) -> Image.Image:
    """The picture of a row of `captions` or `galleries`. Raises DataError where it does not decode."""
    try:
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        image.load()
    except UNDECODABLE as error:
        raise DataError(f"image {row['image_id']} does not decode ({error}): remove it from the captions") from error
    return image


def _check_once(part: pa.Table, rows: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raises DataError where an image has no bytes at all, or has them twice."""
    named = set(zip(part["source"].to_pylist(), part["image_id"].to_pylist(), strict=True))
    held = [(row["source"], row["image_id"]) for row in rows]
    if len(held) != len(named) or set(held) != named:
        odd = sorted(named - set(held)) or sorted({image for image in held if held.count(image) > 1})
        what = "has no bytes in the part that names it" if named - set(held) else "is stored more than once"
        raise DataError(f"{where}: image {odd[0][1]} of {odd[0][0]} {what}; delete the dataset and run captions again")


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
