"""The image files of a published benchmark: where each one lies, and which are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scot_core.benchmarks.base import Benchmark
from scot_core.lake.fingerprint import digest

SUFFIXES = (".jpg", ".png", ".jpeg")
EMPTY = 0


@dataclass(frozen=True)
class ImageFiles:
    """Image id -> file, for the images that are there, in the benchmark's order; an empty file is not there."""

    paths: Mapping[str, Path]
    sizes: Mapping[str, int]
    missing: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Changes with the set of files and their sizes, not with their place: 32 hex digits."""
        lines = [f"{image} {size}" for image, size in sorted(self.sizes.items())]
        return digest("\n".join(lines).encode())


def find_images(benchmark: Benchmark, root: Path, images: Path | None = None) -> ImageFiles:
    """Look for every image that must be embedded (`image_ids`).

    An image is looked for under the published name below `images` (by default the annotation root and its folder
    `images`), then under its bare file name there, with each of SUFFIXES.
    """
    bases = [images] if images is not None else [root, root / "images"]
    paths: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for image in benchmark.image_ids:
        found = _find(bases, Path(benchmark.image_files.get(image, f"{image}.jpg")))
        if found is not None:
            paths[image], sizes[image] = found
    return ImageFiles(paths, sizes, tuple(image for image in benchmark.image_ids if image not in paths))


def _find(bases: list[Path], published: Path) -> tuple[Path, int] | None:
    for base in bases:
        for name in dict.fromkeys((published, Path(published.name))):
            for suffix in dict.fromkeys((published.suffix, *SUFFIXES)):
                path = base / name.with_suffix(suffix)
                try:
                    size = path.stat().st_size
                except OSError:
                    continue
                if size > EMPTY:
                    return path, size
    return None
