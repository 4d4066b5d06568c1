"""The drawn catalogue into the lake (§4.1): captioned images, and those of its benchmark."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scot_core.catalogue.drawing import draw_png
from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.queries import DRAWS, image_count, make
from scot_core.catalogue.stored import gallery_rows
from scot_core.catalogue.world import Product, sample
from scot_core.config import CaptionsConfig
from scot_core.lake import Identity, Lake
from scot_core.lake.fingerprint import digest
from scot_core.lake.schema import pair_id
from scot_core.orphans import leave_with_parent, starting_children
from scot_core.stages.progress import Stopped
from scot_core.stages.step import Step, Tick, identities, shard_sizes

IMAGE_SEED = 10_000_000  # images of the benchmark have digests of their names: no picture occurs in both
CHUNK = 50
FEW = 600  # are drawn here: two processes, which must start first, would save less than 0.1 s


@dataclass(frozen=True, slots=True)
class Picture:
    """A row to draw: `columns` are those that only its table has."""

    image_id: str
    product: Product
    seed: int
    columns: Mapping[str, str | None]


def draw_captions(lake: Lake, config: CaptionsConfig) -> Step:
    """Captioned images of seen products."""
    return Draw(lake, config, "captions", "draw the catalogue", config.count, captioned)


def draw_gallery(lake: Lake, config: CaptionsConfig) -> Step:
    """The references and the gallery of the catalogue's benchmark."""
    count = image_count(config.queries_per_split, config.gallery)
    return Draw(lake, config, "galleries", "draw the benchmark's images", count, benchmark_pictures)


def captioned(config: CaptionsConfig) -> list[Picture]:
    """What is captioned, in order."""
    rng = random.Random(config.seed)
    pictures = []
    for place in range(config.count):
        product, image_id = sample(rng, "seen"), f"product-{place:06d}"
        text = caption(product, mentioned(rng), rng.getrandbits(30))
        columns = {"pair_id": pair_id("catalogue", image_id, text), "caption": text}
        pictures.append(Picture(image_id, product, IMAGE_SEED + place, columns))
    return pictures


def benchmark_pictures(config: CaptionsConfig) -> list[Picture]:
    """References, then the gallery, of the test and of the development draw."""
    made = [(draw, make(config.queries_per_split, config.gallery, draw)) for draw in DRAWS]
    rows = [row for draw, drawn in made for row in gallery_rows(draw, drawn)]
    return [Picture(name, product, int(digest(name.encode())[:12], 16), columns) for name, product, columns in rows]


class Draw(Step):
    """Rows of one table with their images, drawn by processes of its own where they are many."""

    stage, unit = "captions", "images"

    def __init__(
        self, lake: Lake, config: CaptionsConfig, table: str, name: str, count: int,
        pictures: Callable[[CaptionsConfig], list[Picture]],
    ) -> None:  # fmt: skip
        super().__init__(lake)
        self.config, self._table, self.name, self._count, self._pictures_of = config, table, name, count, pictures
        self._pool: ProcessPoolExecutor | None = None
        self._over = False

    @property
    def outputs(self) -> Mapping[str, Identity]:
        return identities(
            self._table, source="catalogue", label="captions", sealed_as="captions",
            version=CaptionsConfig.STAGE_VERSION, config=self.config.identity(),
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return shard_sizes(self._count, self.config.shard_rows)

    def work(self, shard: int, tick: Tick) -> None:
        start = shard * self.config.shard_rows
        rows = self._pictures[start : start + self.config.shard_rows]
        images = self._draw([(row.product, row.seed) for row in rows], tick)
        columns: dict[str, Any] = {
            "source": ["catalogue"] * len(rows),
            "image_id": [row.image_id for row in rows],
            "image": [{"bytes": data, "path": f"{row.image_id}.png"} for row, data in zip(rows, images, strict=True)],
            **{name: [row.columns[name] for row in rows] for name in rows[0].columns},
        }
        self.drafts[self._table].write_part(shard, columns)

    @cached_property
    def _pictures(self) -> list[Picture]:
        return self._pictures_of(self.config)

    def _draw(self, pictures: Sequence[tuple[Product, int]], tick: Tick) -> list[bytes]:
        products, seeds = zip(*pictures, strict=True)
        drawing, images = (products, [self.config.image_size] * len(seeds), seeds), list[bytes]()
        if self._count <= FEW:
            drawn: Iterable[bytes] = map(draw_png, *drawing)
        else:
            with starting_children():  # when there is something to do
                drawn = self._open().map(draw_png, *drawing, chunksize=CHUNK)
        for data in drawn:
            images.append(data)
            if len(images) % CHUNK == 0:
                tick(CHUNK)
        tick(len(images) % CHUNK)
        return images

    def _open(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._over:  # a shard that was begun while the run was stopped
                raise Stopped(f"{self.name}: stopped")
            if self._pool is None:
                # drawing holds the interpreter's lock; spawn, because the process that runs flows has many threads
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(os.cpu_count() or 1, mp_context=context, initializer=leave_with_parent)
            return self._pool

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_pool": None}

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with self._lock:
            self._over, pool = True, self._pool
        if pool is not None:
            # also where it failed: the end of this process waits for its children, who then may never be told
            pool.shutdown(cancel_futures=True)
