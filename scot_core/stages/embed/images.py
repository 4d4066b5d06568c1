"""Images to vectors (§3.1, eq. 3): every one once, wherever they come from."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
from PIL import Image

from scot_core.config import EmbedConfig
from scot_core.encoders.decoding import Opener, embed_pictures
from scot_core.encoders.preprocessing import UNDECODABLE, upright_rgb
from scot_core.errors import DataError
from scot_core.lake import Dataset, Lake
from scot_core.lake.schema import pair_id
from scot_core.stages.embed.step import Embed, Identify
from scot_core.stages.embed.texts import of_dataset
from scot_core.stages.step import Committed, Tick

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

Refusal = tuple[str, str]  # reason and what was seen


@dataclass(frozen=True, slots=True)
class Item:
    """One image, and how to open it."""

    source: str
    image_id: str
    open: Opener


@dataclass(frozen=True)
class Shard:
    """Images to embed, and those, by id, that are known not to be had."""

    items: Sequence[Item]
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    others: int = 0
    """Rows without an image of their own."""


@dataclass(frozen=True)
class Images:
    """Where images come from.

    Attributes:
        sizes: rows of each shard.
        shard: what is in one.
        one_each: every row has an image of its own, so that rows in = vectors + rejects.
        rejects: images that are not to be had are rows of `rejects`; else the first is an error, at once.
        refusal: the error that all of them together are, instead of rejects; None where they may be missing.
        missing: images known to be missing before any work.
    """

    sizes: Callable[[], Sequence[int]]
    shard: Callable[[int], Shard]
    one_each: bool = False
    rejects: bool = False
    refusal: Callable[[Sequence[str], str], DataError] | None = None
    missing: Sequence[str] = ()


class EmbedImages(Embed):
    """One vector for each image."""

    def __init__(self, lake: Lake, config: EmbedConfig, name: str, identify: Identify, images: Images) -> None:
        super().__init__(lake, config, name, identify)
        self._images = images
        self.spreads = images.refusal is None  # else broken ones are gathered here
        self._broken: dict[int, list[str]] = {}

    def __enter__(self) -> Self:
        """Raises DataError, before any work, where images are missing that may not be."""
        if self._images.missing and self._images.refusal:
            raise self._images.refusal(self._images.missing, "missing or empty")
        return self

    def shards(self) -> Sequence[int]:
        return self._images.sizes()

    def work(self, shard: int, tick: Tick) -> None:
        images = self._images.shard(shard)
        items, refused = images.items, dict(images.refused)
        try:
            vectors = self._vectors(items, tick)
        except DataError:  # at least one is broken: find out which
            if not self._images.rejects:
                raise
            refused |= {item.image_id: why for item in items if (why := _why_broken(item.open)) is not None}
            items = [item for item in items if item.image_id not in refused]
            vectors = self._vectors(items, lambda _: None)
        if refused and self._images.refusal:
            self._broken[shard] = list(refused)  # no part is written: what is mended is embedded by the next run
            return
        tick(images.others + len(refused))
        if self._images.rejects:
            source = self.outputs["rejects"].source
            self.drafts["rejects"].write_part(shard, _reject_columns(source, refused))
        sources, ids = [item.source for item in items], [item.image_id for item in items]
        self.write(shard, "image", sources, ids, [None] * len(items), vectors)

    def finish(self) -> Committed:
        """Raises DataError where images are broken that may not be."""
        broken = [image for shard in sorted(self._broken) for image in self._broken[shard]]
        if broken and self._images.refusal:
            raise self._images.refusal(broken, "broken")
        return super().finish()

    def rows_in(self) -> int | None:
        return super().rows_in() if self._images.one_each else None  # else `work` sees that none is left out

    def _vectors(self, items: Sequence[Item], tick: Tick) -> Vectors:
        c, openers = self.config, [item.open for item in items]
        return embed_pictures(self.encoder, openers, batch_size=c.batch_size, workers=c.workers, tick=tick)


def embed_images(lake: Lake, config: EmbedConfig, given: Dataset) -> EmbedImages:
    """The images of a dataset of `captions` or `galleries`; a shard is a part of it."""
    what = "images" if given.table == "captions" else "gallery"
    return EmbedImages(lake, config, f"embed {given.table}", of_dataset(lake, config, given, what), images_of(given))


def images_of(given: Dataset, altered: Callable[[Image.Image, str], Image.Image] | None = None) -> Images:
    """The images of a dataset of `captions` or `galleries`, or what is made of each of them and its id.

    An image with several captions lies once in its part: its first row holds the bytes, the others none.
    """

    def opened(row: Mapping[str, Any]) -> Image.Image:
        picture = stored_picture(row)
        return picture if altered is None else altered(picture, row["image_id"])

    def shard(index: int) -> Shard:
        import pyarrow.compute as pc  # is slow to load

        table = given.read_part(index, ["source", "image_id", "image"])
        rows = table.filter(pc.is_valid(pc.struct_field(table["image"], "bytes"))).to_pylist()
        _check_once(table.select(["source", "image_id"]), rows, f"{given.name}, part {index}")
        items = [Item(row["source"], row["image_id"], partial(opened, row)) for row in rows]
        return Shard(items, others=len(table) - len(rows))

    return Images(lambda: [part.rows for part in given.parts], shard)


def stored_picture(row: Mapping[str, Any]) -> Image.Image:
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


def _reject_columns(source: str, refused: Mapping[str, Refusal]) -> dict[str, Any]:
    return {
        "pair_id": [pair_id(source, image, "") for image in refused],
        "source": [source] * len(refused),
        "stage": ["embed"] * len(refused),
        "reason": [reason for reason, _ in refused.values()],
        "raw": [f"{image}: {what}" for image, (_, what) in refused.items()],
        "tries": [1] * len(refused),
    }


def _why_broken(opener: Opener) -> Refusal | None:
    try:
        upright_rgb(opener())
    except (DataError, *UNDECODABLE) as error:
        return "image_broken", str(error)
    return None
