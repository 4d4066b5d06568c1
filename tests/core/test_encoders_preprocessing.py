"""Pictures and captions before the towers: the publishers' pixels, LAVIS's captions, pictures as viewers show them."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from scot_core.encoders.preprocessing import CAPTION_WORDS, ImagePreprocessing, blip_caption, upright_rgb
from scot_core.errors import DataError

SIDES = st.integers(1, 90)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 3), np.uint8))


def expected(processor: object, image: Image.Image) -> np.ndarray:
    batch = processor(images=image, do_rescale=False, do_normalize=False, return_tensors="np")  # type: ignore[operator]
    return np.asarray(batch["pixel_values"][0]).transpose(1, 2, 0)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES)
def test_a_square_has_the_pixels_of_transformers(width: int, height: int) -> None:
    image, size = noise(width, height), {"height": 24, "width": 24}
    blip, siglip = (
        transformers.BlipImageProcessorPil(size=size),
        transformers.SiglipImageProcessorPil(size=size, resample=2),
    )
    np.testing.assert_array_equal(ImagePreprocessing(24).pixels(image), expected(blip, image))
    np.testing.assert_array_equal(ImagePreprocessing(24, resample="bilinear").pixels(image), expected(siglip, image))


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES)
def test_a_centre_crop_has_the_pixels_of_transformers(width: int, height: int) -> None:
    image = noise(width, height)
    clip = transformers.CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    np.testing.assert_array_equal(ImagePreprocessing(24, crop=True).pixels(image), expected(clip, image))


def test_equal_descriptions_are_equal_definitions() -> None:
    variants = [
        ImagePreprocessing(224),
        ImagePreprocessing(364),
        ImagePreprocessing(224, crop=True),
        ImagePreprocessing(224, resample="bilinear"),
        ImagePreprocessing(224, mean=(0.5, 0.5, 0.5)),
        ImagePreprocessing(224, std=(0.5, 0.5, 0.5)),
    ]
    assert len({variant.describe() for variant in variants}) == len(variants)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(orientation: int) -> None:
    shown = Image.new("RGB", (40, 24), "blue")
    shown.paste("red", (0, 0, 20, 12))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    shown.save(file, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(file))
    assert upright_rgb(Image.open(file)).tobytes() == expected.tobytes()
    assert upright_rgb(Image.open(file)).size == expected.size
    assert (expected.size == shown.size) == (orientation < 5)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_tags_do_not_cost_the_picture() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 4), "red").save(file, "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff\0")
    assert upright_rgb(Image.open(file)).size == (8, 4)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_is_seen(mode: str) -> None:
    grey = Image.new("L", (6, 4), 255)
    image = Image.fromarray(np.full((4, 6), 65535, np.uint16)) if mode == "I;16" else grey.convert(mode)
    assert np.asarray(upright_rgb(image)).min() > 250


def test_what_is_transparent_is_white_also_where_a_colour_is_named_transparent() -> None:
    file = io.BytesIO()
    Image.new("RGB", (3, 3), (1, 2, 3)).save(file, "PNG", transparency=(1, 2, 3))
    assert upright_rgb(Image.open(file)).getpixel((1, 1)) == (255, 255, 255)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert upright_rgb(Image.open(file)).getpixel((0, 0)) == (255, 0, 0)


def test_what_does_not_decode_is_refused() -> None:
    file = io.BytesIO()
    noise(64, 64).save(file, "PNG")
    with pytest.raises(DataError, match="of 64 x 64 does not decode"):
        ImagePreprocessing(8).pixels(Image.open(io.BytesIO(file.getvalue()[:2000])))


def test_captions_are_cleaned_as_lavis_cleans_them() -> None:
    assert blip_caption('  A "Red" MUG (new)!! #1: 50%; ~*  ') == "a red mug new 1 50%"
    assert blip_caption("what's, it?") == "what's, it?"
    assert blip_caption("a\tb  \n c\n") == "a\tb c"
    assert blip_caption("word " * 60) == " ".join(["word"] * 50)
    assert blip_caption("") == blip_caption("...") == ""


@given(st.text(max_size=400))
def test_a_cleaned_caption_stays_as_it_is(text: str) -> None:
    cleaned = blip_caption(text)
    assert not re.search(r"[.!\"()*#:;~]|\s{2,}", cleaned)
    assert len(cleaned.split(" ")) <= CAPTION_WORDS
    assert blip_caption(cleaned).split() == cleaned.lower().split()
