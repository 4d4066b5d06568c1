"""Configuration of stage captions (§4.1): where captioned images come from, and how many."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from scot_core.config.base import Config, Execution, Positive, StageConfig


class FolderConfig(Config):
    """One's own table of captioned images: how many pairs are drawn from it, None for all."""

    count: Positive | None = None


class PublishedPairs(Config):
    """Published captioned images: where they lie (None: in SCOT_DATA, in a folder of the source's name), as a folder
    or fsspec URL, and how many pairs are drawn (None for all).
    """

    root: str | None = Execution(None)
    count: Positive | None = None


class CocoConfig(PublishedPairs):
    """MS-COCO captions. Both years hold the same images, split differently; `all` is train and val."""

    year: Literal["2017", "2014"] = "2017"
    split: Literal["train", "val", "all"] = "train"


class Flickr30kConfig(PublishedPairs):
    """Flickr30K, from its token file, a CSV or Karpathy's JSON."""


class AboConfig(PublishedPairs):
    """Amazon Berkeley Objects. `language` is a tag such as en_GB, or the first half of one.

    Original images have about 3 MB each: give them fewer `shard_rows`, since a shard is held in memory.
    """

    language: str = "en"
    images: Literal["small", "original"] = "small"


class CaptionsConfig(StageConfig):
    """Captioned images (§4.1), and the images of the source's own benchmark where it has one.

    Source `catalogue` is drawn: `count`, `queries_per_split`, `gallery` and `image_size` are its own. `folder` reads
    the table `path` of (image, caption), or all tables in the folder `path`; `paper` is coco, flickr30k and abo in one
    dataset. A draw depends on `seed` and the pairs alone, and takes all captions of an image, or one.
    """

    STAGE: ClassVar[str] = "captions"
    source: Literal["catalogue", "folder", "coco", "flickr30k", "abo", "paper"] = "catalogue"
    path: str | None = Execution(None)
    folder: FolderConfig = FolderConfig()
    coco: CocoConfig = CocoConfig()
    flickr30k: Flickr30kConfig = Flickr30kConfig()
    abo: AboConfig = AboConfig()
    captions_per_image: Literal["all", "one"] = "all"
    count: Positive = 6000
    queries_per_split: Positive = 300
    gallery: Positive = 6000
    image_size: Positive = 64
    seed: int = 0
    shard_rows: Positive = 1000
    workers: int = Execution(8, gt=0)  # threads that read and check images

    def identity(self) -> dict[str, Any]:
        """Without the settings of sources that are not asked for."""
        used = {"source", "seed", "shard_rows"}
        if self.source == "catalogue":
            used |= {"count", "queries_per_split", "gallery", "image_size"}
        else:
            used |= {"captions_per_image"}
            used |= {"coco", "flickr30k", "abo"} if self.source == "paper" else {self.source}
        return {name: value for name, value in super().identity().items() if name in used}
