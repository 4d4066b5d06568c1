"""Configuration of stage captions (§4.1): where captioned images come from, and how many."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scot_core.config.base import Config, Execution, Positive, StageConfig
from scot_core.errors import ConfigError

QUERY_SPLITS = 3  # of the catalogue's benchmark
IMAGES_PER_QUERY = 6  # that each of its queries brings into the gallery


class FolderConfig(Config):
    """One's own table of captioned images: how many pairs are drawn from it, None for all."""

    count: Positive | None = None
    """Pairs that are drawn from the table; none for all."""


class PublishedPairs(Config):
    """Published captioned images."""

    root: str | None = Execution(None)
    """Folder or fsspec URL where they lie; none for the folder of the source's name in SCOT_DATA."""
    count: Positive | None = None
    """Pairs that are drawn; none for all."""


class CocoConfig(PublishedPairs):
    """MS-COCO captions."""

    year: Literal["2017", "2014"] = "2017"
    """Release; both hold the same images, split differently."""
    split: Literal["train", "val", "all"] = "train"
    """Split that pairs are drawn from; `all` is train and val."""


class Flickr30kConfig(PublishedPairs):
    """Flickr30K, from its token file, a CSV or Karpathy's JSON."""


class AboConfig(PublishedPairs):
    """Amazon Berkeley Objects."""

    language: str = "en"
    """Language of the captions, a tag such as en_GB or the first half of one."""
    words: Annotated[int, Field(ge=0)] = 40
    """Bullet points of the listing follow the product's name while the caption has no more words than this; 0 for the
    name alone."""
    images: Literal["small", "original"] = "small"
    """Size of the images. Original ones have about 3 MB each: give them fewer `shard_rows`, a shard is in memory."""


class CaptionsConfig(StageConfig):
    """Captioned images (§4.1), and the images of the source's own benchmark where it has one.

    A draw of pairs depends on `seed` and the pairs alone.
    """

    STAGE_VERSION = 2  # the catalogue's benchmark: kinds of edit, wordings, a development draw

    source: Literal["catalogue", "folder", "coco", "flickr30k", "abo", "paper"] = "catalogue"
    """Where pairs come from: `catalogue` is drawn here, `paper` is coco, flickr30k and abo in one dataset."""
    path: str | None = Execution(None)
    """Source folder: its table of (image, caption), or a folder with such tables."""
    folder: FolderConfig = FolderConfig()
    """Source folder: how much of it."""
    coco: CocoConfig = CocoConfig()
    """Source coco, and its part of paper."""
    flickr30k: Flickr30kConfig = Flickr30kConfig()
    """Source flickr30k, and its part of paper."""
    abo: AboConfig = AboConfig()
    """Source abo, and its part of paper."""
    captions_per_image: Literal["all", "one"] = "all"
    """How many captions of an image may be drawn; the catalogue's have one."""
    count: Positive = 6000
    """Source catalogue: captioned images."""
    queries_per_split: Positive = 300
    """Source catalogue: queries in each of the three splits of its benchmark."""
    gallery: Positive = 6000
    """Source catalogue: images that the benchmark's queries search, at least six for each query."""
    image_size: Positive = 64
    """Source catalogue: width and height of the images in pixels."""
    seed: int = 0
    """Of the draw."""
    shard_rows: Positive = 1000
    """Pairs in a shard, which is done and kept as a whole, and held in memory."""
    workers: int = Execution(8, gt=0)
    """Threads that read and check images."""
    min_kept: float = Execution(0.0, ge=0, le=1)
    """A gate: stop where a smaller share of the entries than this is a captioned image, the others are rejects."""

    @model_validator(mode="after")
    def _a_gallery_holds_its_queries(self) -> CaptionsConfig:
        needed = QUERY_SPLITS * self.queries_per_split * IMAGES_PER_QUERY
        if self.is_drawn and self.gallery < needed:
            raise ConfigError(
                f"captions.queries_per_split={self.queries_per_split} needs captions.gallery of at least {needed} "
                f"images, {IMAGES_PER_QUERY} for each query of {QUERY_SPLITS} splits, not {self.gallery}"
            )
        return self

    @property
    def is_drawn(self) -> bool:
        """Whether the images are drawn here, with a benchmark of their own, not read from files."""
        return self.source == "catalogue"

    def identity(self) -> dict[str, Any]:
        """Without the settings of sources that are not asked for."""
        used = {"source", "seed", "shard_rows"}
        if self.is_drawn:
            used |= {"count", "queries_per_split", "gallery", "image_size"}
        else:
            used |= {"captions_per_image"}
            used |= {"coco", "flickr30k", "abo"} if self.source == "paper" else {self.source}
        return {name: value for name, value in super().identity().items() if name in used}
