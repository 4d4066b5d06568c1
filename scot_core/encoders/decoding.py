"""Many pictures to vectors, decoded ahead of the encoder: for the embed stage and for benchmarks over image files.

    openers = [partial(open_file, folder / name) for name in names]
    vectors = embed_pictures(encoder, openers, batch_size=256)  # (n, dim) float32, in the order of the openers

Threads open, decode and resize (Pillow gives the interpreter's lock back meanwhile) into the uint8 batches that come
next while the encoder works on this one. `AHEAD` batches wait at most, so memory does not grow with the pictures.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from scot_core.encoders.preprocessing import UNDECODABLE, Pixels, upright_rgb
from scot_core.encoders.spec import Encoder, TakesPixels
from scot_core.errors import DataError

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

Opener = Callable[[], Image.Image]

AHEAD = 2
_TOGETHER = 16  # pictures of one task, so that small ones do not cost more in handing over than in decoding


def open_file(path: Path) -> Image.Image:
    """A picture of a folder, opened but not decoded. Raises `DataError` where it is missing or no picture."""
    try:
        return Image.open(path)
    except FileNotFoundError as error:
        raise DataError(f"there is no image {path}") from error
    except UNDECODABLE as error:
        raise DataError(f"image {path} does not decode ({error}); replace it or leave it out") from error


def embed_pictures(
    encoder: Encoder,
    openers: Sequence[Opener],
    *,
    batch_size: int,
    workers: int | None = None,
    tick: Callable[[int], object] = lambda _: None,
) -> Vectors:
    """(n, dim) float32, one unit vector for each opener, in order; `tick(n)` after every n pictures.

    Openers are called once each, in threads (`workers`, as many as cores by default). The first `DataError` that an
    opener or a picture raises ends the work and is raised here.
    """
    out = np.empty((len(openers), encoder.spec.dim), dtype=np.float32)
    threads = workers or os.cpu_count() or 1
    done = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="pictures") as pool:
        parts = (openers[start : start + batch_size] for start in range(0, len(openers), batch_size))
        begun = (_begin(pool, threads, encoder, part) for part in parts)
        waiting = deque(islice(begun, AHEAD))
        try:
            while waiting:
                batch = waiting.popleft().decoded()
                waiting.extend(islice(begun, 1))
                vectors = batch.embed()
                out[done : done + len(vectors)] = vectors
                done += len(vectors)
                tick(len(vectors))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return out


@dataclass(frozen=True, slots=True)
class _Batch:
    """Pictures that threads are decoding, and what to do with them then."""

    tasks: Sequence[Future[None]]
    embed: Callable[[], Vectors]

    def decoded(self) -> _Batch:
        for task in self.tasks:
            task.result()
        return self


def _begin(pool: ThreadPoolExecutor, threads: int, encoder: Encoder, part: Sequence[Opener]) -> _Batch:
    put: Callable[[int, Image.Image], None]
    if isinstance(encoder, TakesPixels):
        size = encoder.spec.image_size
        pixels = np.empty((len(part), size, size, 3), dtype=np.uint8)
        put, embed = partial(_put_pixels, encoder, pixels), partial(encoder.embed_pixels, pixels)
    else:
        images = [Image.new("RGB", (1, 1))] * len(part)
        put, embed = partial(_put_image, images), partial(encoder.embed_images, images)
    together = max(1, min(_TOGETHER, len(part) // threads))
    rows = [range(start, min(start + together, len(part))) for start in range(0, len(part), together)]
    return _Batch([pool.submit(_decode, put, part, some) for some in rows], embed)


def _decode(put: Callable[[int, Image.Image], None], part: Sequence[Opener], rows: range) -> None:
    for row in rows:
        with part[row]() as image:
            put(row, image)


def _put_pixels(encoder: TakesPixels, pixels: Pixels, row: int, image: Image.Image) -> None:
    pixels[row] = encoder.pixels(image)


def _put_image(images: list[Image.Image], row: int, image: Image.Image) -> None:
    images[row] = upright_rgb(image)
