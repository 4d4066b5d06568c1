"""A frozen image tower: pictures to features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from scot_core.encoders.fitting import Fitting
from scot_core.encoders.preprocessing import ImagePreprocessing, Pixels
from scot_core.encoders.spec import EncoderSpec
from scot_core.errors import ConfigError
from scot_core.vectors import Vectors

See = Callable[[Tensor], Tensor]  # normalised pixels (n, 3, S, S) -> features (n, D)
_AT_ONCE: Final = {"cpu": 8, "cuda": 256}  # small batches stay in a core's cache
_DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class ImageTower:
    """Features of pictures, each of length one. No call changes it."""

    def __init__(self, spec: EncoderSpec, preprocessing: ImagePreprocessing, see: See, device: torch.device) -> None:
        self._spec, self._preprocessing, self._see, self._device = spec, preprocessing, see, device
        self._mean, self._std = (
            torch.tensor(numbers, device=device).view(1, 3, 1, 1) for numbers in (preprocessing.mean, preprocessing.std)
        )
        self._images = Fitting("image", _AT_ONCE[device.type])

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    def pixels(self, image: Image.Image) -> Pixels:
        """(size, size, 3) uint8. Raises `DataError` naming an image that does not decode."""
        return self._preprocessing.pixels(image)

    @torch.inference_mode()
    def embed_pixels(self, pixels: Pixels) -> Vectors:
        """(n, size, size, 3) uint8 as `pixels` gives them -> (n, dim) float32, L2-normalised."""
        out = np.empty((len(pixels), self._spec.dim), dtype=np.float32)
        return self._images.fill(out, lambda rows: self._features(pixels[rows]))

    def embed_images(self, images: Sequence[Image.Image]) -> Vectors:
        """(n, dim) float32, L2-normalised. Raises `DataError` naming an image that does not decode."""
        return self.embed_pixels(self._preprocessing.batch(images))

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Raises `ConfigError`: half an encoder."""
        raise ConfigError(f"{self._spec.name} sees pictures and reads no texts: fit an encoder (embed.encoder=fitted)")

    def _features(self, pixels: Pixels) -> Vectors:
        batch = torch.from_numpy(pixels).to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        normalised = batch.float().div_(255).sub_(self._mean).div_(self._std)
        dtype = _DTYPES.get(self._spec.precision)
        with torch.autocast(self._device.type, dtype, enabled=dtype is not None):
            seen = self._see(normalised.contiguous(memory_format=torch.channels_last))
        features: Vectors = functional.normalize(seen.float(), dim=1).cpu().numpy()
        return features
