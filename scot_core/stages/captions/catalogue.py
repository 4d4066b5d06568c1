"""Captioned images into the lake (§4.1), with the images of the source's own benchmark."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from types import TracebackType
from typing import Any

from scot_core.catalogue.drawing import render
from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.queries import CatalogueQueries, make
from scot_core.catalogue.world import Product, sample
from scot_core.config import CaptionsConfig
from scot_core.lake import Identity, Lake, Usage
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.schema import pair_id
from scot_core.orphans import leave_with_parent
from scot_core.stages.step import Step, Tick, shard_sizes

IMAGE_SEED = 10_000_000  # apart from the seeds of the benchmark's images, so no picture occurs in both
CHUNK = 50


def draw_png(product: Product, size: int, seed: int) -> bytes:
    """The PNG file of one drawn product."""
    buffer = io.BytesIO()
    render(product, size, seed).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


class DrawCatalogue(Step):
    """The drawn catalogue: captioned images of seen products, and the benchmark's references and gallery."""

    stage, name, unit = "captions", "draw the catalogue", "images"

    def __init__(self, lake: Lake, config: CaptionsConfig) -> None:
        super().__init__(lake)
        self.config = config

    @property
    def outputs(self) -> Sequence[Identity]:
        config = self.config.identity()
        identity = fingerprint("captions", CaptionsConfig.STAGE_VERSION, config, [])
        return [Identity(table, "catalogue", "captions", identity, config) for table in ("galleries", "captions")]

    def shards(self) -> Sequence[int]:
        return [*self._caption_sizes, *self._gallery_sizes]

    def is_done(self, shard: int) -> bool:
        galleries, captions = self.outputs
        first = len(self._caption_sizes)
        return self.draft(captions).has_part(shard) if shard < first else self.draft(galleries).has_part(shard - first)

    def work(self, shard: int, tick: Tick) -> None:
        galleries, captions = self.outputs
        first, start = len(self._caption_sizes), self.config.shard_rows
        if shard < first:
            rows = self._products[shard * start : shard * start + self._caption_sizes[shard]]
            self.draft(captions).write_part(shard, self._caption_columns(rows, shard * start, tick))
        else:
            begin = (shard - first) * start
            images = self._benchmark_images[begin : begin + self._gallery_sizes[shard - first]]
            self.draft(galleries).write_part(shard - first, self._gallery_columns(images, tick))

    def finish(self) -> None:
        galleries, captions = self.outputs
        usage = Usage(seconds=self.seconds)
        self.draft(galleries).commit(len(self._gallery_sizes), rows_in=sum(self._gallery_sizes), usage=usage)
        self.draft(captions).commit(len(self._caption_sizes), rows_in=self.config.count, usage=usage)

    def _caption_columns(self, products: Sequence[tuple[Product, str]], first: int, tick: Tick) -> dict[str, Any]:
        ids = [f"product-{first + offset:06d}" for offset in range(len(products))]
        seeds = [IMAGE_SEED + first + offset for offset in range(len(products))]
        images = self._draw([(product, seed) for (product, _), seed in zip(products, seeds, strict=True)], tick)
        return {
            "pair_id": [pair_id("catalogue", i, text) for i, (_, text) in zip(ids, products, strict=True)],
            "source": ["catalogue"] * len(ids),
            "image_id": ids,
            "caption": [text for _, text in products],
            "image": [{"bytes": data, "path": f"{i}.png"} for i, data in zip(ids, images, strict=True)],
        }

    def _gallery_columns(self, rows: Sequence[tuple[str, str, Product, int]], tick: Tick) -> dict[str, Any]:
        images = self._draw([(product, seed) for _, _, product, seed in rows], tick)
        return {
            "source": ["catalogue"] * len(rows),
            "image_id": [image_id for image_id, *_ in rows],
            "role": [role for _, role, *_ in rows],
            "image": [{"bytes": data, "path": f"{row[0]}.png"} for row, data in zip(rows, images, strict=True)],
        }

    def _draw(self, pictures: Sequence[tuple[Product, int]], tick: Tick) -> list[bytes]:
        products, seeds = zip(*pictures, strict=True)
        images: list[bytes] = []
        for data in self._pool.map(draw_png, products, [self.config.image_size] * len(seeds), seeds, chunksize=CHUNK):
            images.append(data)
            if len(images) % CHUNK == 0:
                tick(CHUNK)
        tick(len(images) % CHUNK)
        return images

    @cached_property
    def _products(self) -> list[tuple[Product, str]]:
        rng = random.Random(self.config.seed)
        drawn = []
        for _ in range(self.config.count):
            product = sample(rng, "seen")
            drawn.append((product, caption(product, mentioned(rng), rng.getrandbits(30))))
        return drawn

    @cached_property
    def _queries(self) -> CatalogueQueries:
        return make(self.config.queries_per_split, self.config.gallery)

    @cached_property
    def _benchmark_images(self) -> list[tuple[str, str, Product, int]]:
        references = [(q.reference_id, "reference", q.reference, q.reference_seed) for q in self._queries.queries]
        return references + [(item.image_id, "gallery", item.product, item.seed) for item in self._queries.gallery]

    @property
    def _caption_sizes(self) -> list[int]:
        return shard_sizes(self.config.count, self.config.shard_rows)

    @property
    def _gallery_sizes(self) -> list[int]:
        return shard_sizes(3 * self.config.queries_per_split + self.config.gallery, self.config.shard_rows)

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        # drawing holds the interpreter's lock; spawn, because the process that runs flows has many threads
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(os.cpu_count() or 1, mp_context=context, initializer=leave_with_parent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_pool" in self.__dict__:
            self._pool.shutdown(wait=error is None, cancel_futures=True)
