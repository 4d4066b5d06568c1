"""Many pictures to vectors: in order, decoded ahead, bounded, and an error is not lost in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scot_core.encoders import load
from scot_core.encoders.decoding import AHEAD, embed_pictures, open_file
from scot_core.encoders.preprocessing import Pixels
from scot_core.encoders.spec import EncoderSpec, TakesPixels
from scot_core.errors import DataError
from scot_core.vectors import Vectors


class Plain:
    """An encoder of the bare protocol: the mean colour, and how many pictures wait when it is asked."""

    spec = EncoderSpec(name="plain", revision="1", dim=3, image_size=4, preprocessing="none", pooling="mean")

    def __init__(self) -> None:
        self.opened = self.embedded = self.most_waiting = 0
        self.lock = threading.Lock()

    def opener(self, colour: tuple[int, int, int]) -> Image.Image:
        with self.lock:
            self.opened += 1
            self.most_waiting = max(self.most_waiting, self.opened - self.embedded)
        return Image.new("RGB", (4, 4), colour)

    def embed_images(self, images: Sequence[Image.Image]) -> Vectors:
        self.embedded += len(images)
        return np.stack([np.asarray(image, dtype=np.float32).mean((0, 1)) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return np.zeros((len(texts), 3), np.float32)


class InPixels(Plain):
    """The same in two halves."""

    def pixels(self, image: Image.Image) -> Pixels:
        return np.asarray(image)

    def embed_pixels(self, pixels: Pixels) -> Vectors:
        self.embedded += len(pixels)
        vectors: Vectors = pixels.astype(np.float32).mean((1, 2))
        return vectors


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Plain, InPixels]), st.integers(0, 90), st.integers(1, 40), st.integers(1, 5))
def test_vectors_come_in_order_and_memory_is_bounded(
    kind: Callable[[], Plain], count: int, batch_size: int, workers: int
) -> None:
    encoder, ticks = kind(), list[int]()
    colours = [(row % 256, row // 256, 7) for row in range(count)]
    vectors = embed_pictures(
        encoder,
        [partial(encoder.opener, colour) for colour in colours],
        batch_size=batch_size,
        workers=workers,
        tick=ticks.append,
    )
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.array(colours, np.float32).reshape(count, 3))
    assert sum(ticks) == encoder.opened == encoder.embedded == count
    assert encoder.most_waiting <= (AHEAD + 1) * batch_size


def test_which_encoders_are_decoded_for_in_threads() -> None:
    assert isinstance(InPixels(), TakesPixels) and isinstance(load("catalogue"), TakesPixels)
    assert not isinstance(Plain(), TakesPixels)


@pytest.mark.parametrize("kind", [Plain, InPixels])
def test_the_first_broken_picture_ends_the_work(kind: Callable[[], Plain]) -> None:
    encoder = kind()

    def broken(row: int) -> Image.Image:
        raise DataError(f"image {row} does not decode")

    openers = [partial(encoder.opener, (row, 0, 0)) for row in range(500)]
    openers[30] = partial(broken, 30)
    openers[31] = partial(broken, 31)
    with pytest.raises(DataError, match="image 30 does not decode"):
        embed_pictures(encoder, openers, batch_size=8, workers=3)
    assert encoder.opened < 100  # what was not begun is not done


def test_files_of_a_folder(tmp_path: Path) -> None:
    encoder = load("catalogue")
    images = [Image.new("RGB", (50 + row, 40), (row * 20, 90, 10)) for row in range(10)]
    for row, image in enumerate(images):
        image.save(tmp_path / f"{row}.png")
    openers = [partial(open_file, tmp_path / f"{row}.png") for row in range(10)]
    vectors = embed_pictures(encoder, openers, batch_size=4)
    np.testing.assert_allclose(vectors, encoder.embed_images(images), atol=1e-5)


@pytest.mark.parametrize(("content", "said"), [(None, "there is no image"), (b"", "does not decode"), (b"GIF", "not")])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "odd.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"(?s){said}.*") as failure:
        embed_pictures(load("catalogue"), [partial(open_file, path)], batch_size=4)
    assert str(path) in str(failure.value)
