"""What is done to pictures and texts before the towers: definitions, each with the words that enter a spec.

Every encoder sees a picture as viewers show it: turned upright (EXIF), first frame, 8-bit RGB, transparency over
white. Resizing follows, to a square (BLIP-2, BLIP, SigLIP) or by the short side and then a centre crop (CLIP);
its pixels are those of transformers' `*ImageProcessorPil` and of LAVIS's evaluation processors. Normalisation is
left to the device. Loads neither torch nor transformers.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from scot_core.errors import DataError

Pixels = npt.NDArray[np.uint8]

UPRIGHT_RGB: Final = "upright (EXIF), RGB (alpha over white)"
CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)
CAPTION_WORDS: Final = 50
_RESAMPLE: Final = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_ORIENTATION: Final = 0x0112  # the EXIF tag, and what its values ask for
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow raises all of these for damaged files
UNDECODABLE: Final = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class ImagePreprocessing:
    """From any picture to the square of numbers an image tower was trained on."""

    size: int
    resample: Literal["bicubic", "bilinear"] = "bicubic"
    crop: bool = False  # short side to `size`, then the centre; else both sides to `size`
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def pixels(self, image: Image.Image) -> Pixels:
        """(size, size, 3) uint8, not normalised. Raises `DataError` where the picture does not decode."""
        rgb = upright_rgb(image)
        size = self._target(*rgb.size)
        if rgb.size != size:
            rgb = rgb.resize(size, _RESAMPLE[self.resample])
        if rgb.size != (self.size, self.size):
            left, top = (rgb.width - self.size) // 2, (rgb.height - self.size) // 2
            rgb = rgb.crop((left, top, left + self.size, top + self.size))
        return np.asarray(rgb)

    def batch(self, images: Sequence[Image.Image]) -> Pixels:
        """(n, size, size, 3) uint8."""
        out = np.empty((len(images), self.size, self.size, 3), dtype=np.uint8)
        for row, image in enumerate(images):
            out[row] = self.pixels(image)
        return out

    def describe(self) -> str:
        """One line for `EncoderSpec.preprocessing`; equal lines are equal definitions."""
        shape = f"short side to {self.size}, centre crop" if self.crop else f"to a {self.size} x {self.size} square"
        numbers = f"(x / 255 - {list(self.mean)}) / {list(self.std)}"
        return f"{UPRIGHT_RGB}, {self.resample} {shape}, {numbers}"

    def _target(self, width: int, height: int) -> tuple[int, int]:
        if not self.crop:
            return self.size, self.size
        short, long = min(width, height), max(width, height)
        other = int(self.size * long / short)  # transformers cuts the fraction off
        return (self.size, other) if width <= height else (other, self.size)


def upright_rgb(image: Image.Image) -> Image.Image:
    """The picture as viewers show it, 8-bit RGB. Raises `DataError` where it does not decode."""
    try:
        image.load()  # tags that follow the pixels are known only now
        turn = _TURNS.get(_orientation(image))
        return to_rgb(image if turn is None else image.transpose(turn))
    except UNDECODABLE as error:
        where = getattr(image, "filename", "") or f"of {image.width} x {image.height}"
        raise DataError(f"image {where} does not decode ({error}); replace it or leave it out") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (*UNDECODABLE, struct.error, KeyError, TypeError):
        return 1  # damaged tags: viewers show the picture as it lies, and so does this


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB: transparency over white, 16-bit and float greys scaled instead of clipped."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        grey = np.asarray(image, dtype=np.float64)
        deep = image.mode.startswith("I;16") or grey.max() > 255
        # "I" and "F" carry no range of their own: beyond 255 they are 16-bit, up to 1 they are fractions
        scale = 255 / 65535 if deep else 255.0 if image.mode == "F" and grey.max() <= 1 else 1.0
        return Image.fromarray((grey * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


BLIP_CAPTION: Final = f'lower case, .!"()*#:;~ to spaces, squeezed, trimmed, {CAPTION_WORDS} words'


def blip_caption(text: str) -> str:
    """LAVIS's `blip_caption`, for BLIP and BLIP-2: described by `BLIP_CAPTION`, and exactly it."""
    text = re.sub(r"\s{2,}", " ", re.sub(r"[.!\"()*#:;~]", " ", text.lower()))
    return " ".join(text.rstrip("\n").strip(" ").split(" ")[:CAPTION_WORDS])


AS_IT_IS: Final = "as it is"


def as_it_is(text: str) -> str:
    """For tokenizers that clean by themselves (CLIP's lower-cases and squeezes)."""
    return text


LOWER_CASE: Final = "lower case"


def lower_case(text: str) -> str:
    """SigLIP 2 was trained on lower-cased text, whatever its tokenizer class does."""
    return text.lower()
