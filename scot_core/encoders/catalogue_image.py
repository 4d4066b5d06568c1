"""Image side of the catalogue encoder: any PIL image to a small tensor, and the convolutional tower."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from scot_core.errors import DataError

CHANNELS = (16, 32, 64, 128)
PREPROCESSING = "RGB (alpha over white), bicubic to a square, (x / 255 - 0.5) * 3"


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB: transparency over white, 16-bit and float greys scaled instead of clipped."""
    if image.mode == "RGB":
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


def pixels(images: Sequence[Image.Image], size: int) -> Tensor:
    """(n, size, size, 3) uint8. Raises `DataError` that names the position of an image that does not decode."""
    out = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for row, image in enumerate(images):
        try:
            rgb = to_rgb(image)
            if rgb.size != (size, size):
                rgb = rgb.resize((size, size), Image.Resampling.BICUBIC)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
            where = getattr(image, "filename", "") or f"number {row} of the batch"
            raise DataError(f"image {where} does not decode ({error}); replace it or leave it out") from error
        out[row] = np.asarray(rgb)
    return torch.from_numpy(out)


def normalise(batch: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) float32 in [-1.5, 1.5], channels last in memory."""
    floats = batch.permute(0, 3, 1, 2).float().div_(255).sub_(0.5).mul_(3)
    return floats.contiguous(memory_format=torch.channels_last)


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = _convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.convolution(x))


class ImageTower(nn.Module):
    """Four halvings with residual blocks between, pooled as one mean and four quarter maxima."""

    def __init__(self, dim: int, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, channels[0], 2), nn.ReLU()]
        for inputs, outputs in pairwise(channels):
            layers += [_convolution(inputs, outputs, 2), nn.ReLU(), _Residual(outputs)]
        self.layers = nn.Sequential(*layers)
        self.project = nn.Sequential(nn.Linear(5 * channels[-1], 256), nn.ReLU(), nn.Linear(256, dim))

    def forward(self, batch: Tensor) -> Tensor:
        """(n, 3, H, W) float -> (n, dim), not normalised."""
        features = self.layers(batch)
        quarters = functional.adaptive_max_pool2d(features, 2).flatten(1)
        projected: Tensor = self.project(torch.cat([features.mean((2, 3)), quarters], 1))
        return projected
