"""Composed-retrieval benchmarks: FashionIQ, CIRR, CIRCO and the embedded catalogue.

`load` reads the files as their authors publish them; `missing_files` says what is not there yet, and
`SOURCES` where to get it. Images are needed to embed, never to load or to score.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scot_core.benchmarks import catalogue, circo, cirr, fashioniq
from scot_core.benchmarks.base import Benchmark, MetricRow, Query
from scot_core.errors import ConfigError

__all__ = ["SOURCES", "Benchmark", "MetricRow", "Query", "Source", "load", "missing_files", "names"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a benchmark comes from and how its root is laid out."""

    splits: tuple[str, ...]
    annotations: str
    images: str
    layout: tuple[str, ...]


SOURCES = {
    "fashioniq": Source(
        splits=("val", "train", "test"),
        annotations="github.com/XiaoxiaoGuo/fashion-iq",
        images="the links in github.com/XiaoxiaoGuo/fashion-iq, image_url",
        layout=(
            "captions/cap.<dress|shirt|toptee>.<split>.json",
            "image_splits/split.<dress|shirt|toptee>.<split>.json",
            "images/<id>.jpg",
        ),
    ),
    "cirr": Source(
        splits=("val", "test1", "train"),
        annotations="github.com/Cuberick-Orion/CIRR, branch cirr_dataset",
        images="NLVR2's, as github.com/Cuberick-Orion/CIRR describes",
        layout=("captions/cap.rc2.<split>.json", "image_splits/split.rc2.<split>.json", "dev/, test1/, train/"),
    ),
    "circo": Source(
        splits=("val", "test"),
        annotations="github.com/miccunifi/CIRCO; COCO's list of unlabeled images at cocodataset.org",
        images="2017 Unlabeled images at cocodataset.org",
        layout=(
            "annotations/<split>.json",
            f"{circo.COCO_FOLDERS[0]}/{circo.COCO_FILE}",
            "COCO2017_unlabeled/unlabeled2017/<12 digits>.jpg",
        ),
    ),
}


def names() -> tuple[str, ...]:
    """The benchmarks that `load` knows."""
    return (*SOURCES, catalogue.NAME)


def load(
    name: str,
    root: str | Path | None = None,
    *,
    split: str = "val",
    category: str | None = None,
    gallery: Iterable[str | int] | None = None,
) -> Benchmark:
    """A benchmark from its annotation root.

    category: dress, shirt or toptee of FashionIQ; None reads all three. gallery: image ids that replace the
    published list; targets outside it count as misses. The catalogue needs no root: it is drawn.
    Raises ConfigError for an unknown name, split or category and DataError for missing or damaged files.
    """
    if name not in names():
        raise ConfigError(f"there is no benchmark {name!r}; choose one of {', '.join(names())}")
    ids = None if gallery is None else [str(image) for image in gallery]
    if name == catalogue.NAME:
        return catalogue.load(split, ids)
    if split not in SOURCES[name].splits:
        raise ConfigError(f"{name} has no split {split!r}; it has {', '.join(SOURCES[name].splits)}")
    if root is None:
        raise ConfigError(f"{name} needs the folder of its annotation files; `scot doctor` says what goes there")
    reader = {"fashioniq": fashioniq.load, "cirr": cirr.load, "circo": circo.load}[name]
    return reader(Path(root), split, category, ids)


def missing_files(name: str, root: str | Path, split: str = "val") -> list[str]:
    """Annotation files of a split that are not under the root, as paths relative to it. ConfigError as in `load`."""
    if name not in SOURCES or split not in SOURCES[name].splits:
        raise ConfigError(f"there is no benchmark {name!r} with a split {split!r}")
    root = Path(root)
    if name == "fashioniq":
        parts = [("captions/cap", c) for c in fashioniq.CATEGORIES]
        parts += [("image_splits/split", c) for c in fashioniq.CATEGORIES]
        wanted = [f"{part}.{category}.{split}.json" for part, category in parts]
    elif name == "cirr":
        root = root / "cirr" if (root / "cirr").is_dir() else root
        wanted = [f"captions/cap.rc2.{split}.json", f"image_splits/split.rc2.{split}.json"]
    else:
        wanted = [f"annotations/{split}.json"]
        if circo.coco_path(root) is None:
            wanted.append(f"{circo.COCO_FOLDERS[0]}/{circo.COCO_FILE}")
            return [file for file in wanted[:1] if not (root / file).is_file()] + wanted[1:]
    return [file for file in wanted if not (root / file).is_file()]
