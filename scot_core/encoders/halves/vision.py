"""Any image model of transformers as an image tower: DINOv2, ViT, ConvNeXt, a folder as `hf download` leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from scot_core.encoders.halves.folders import PREPROCESSOR, json_of
from scot_core.encoders.halves.models import config_of, model_of
from scot_core.encoders.halves.pictures import See
from scot_core.encoders.preprocessing import ImagePreprocessing
from scot_core.errors import ModelError

_BILINEAR: Final = 2  # PIL's number of it, as preprocessor_config.json has it
_IMAGENET: Final = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def preprocessing(folder: Path) -> ImagePreprocessing:
    """What preprocessor_config.json says: size, crop, mean, std. Raises ModelError where it names no size."""
    said = json_of(folder / PREPROCESSOR)
    crop = bool(said.get("do_center_crop"))
    size = said.get("crop_size" if crop else "size", said.get("size", 224))
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    if not isinstance(size, int):
        raise ModelError(f"{folder / PREPROCESSOR} names no size of the images: download it again")
    mean, std = (said.get(key, usual) for key, usual in zip(("image_mean", "image_std"), _IMAGENET, strict=True))
    resample: Literal["bicubic", "bilinear"] = "bilinear" if said.get("resample") == _BILINEAR else "bicubic"
    return ImagePreprocessing(size, resample, crop, tuple(mean), tuple(std))


def describe(folder: Path) -> dict[str, Any]:
    """Fields of the spec. Raises ModelError for a model that is not one of pictures."""
    config, prepared = config_of(folder), preprocessing(folder)
    width = getattr(config, "hidden_size", None) or (getattr(config, "hidden_sizes", None) or [0])[-1]
    if not width:
        raise ModelError(f"{folder} holds a {config.model_type}, which is no image model that gives features")
    pooling = "first token and mean of the others, or mean and maxima of the map"
    return {
        "dim": 2 * width, "image_size": prepared.size, "preprocessing": prepared.describe(), "pooling": pooling,
    }  # fmt: skip


def load(folder: Path, device: torch.device) -> See:
    """The frozen model. Raises ModelError where the weights do not load."""
    model = model_of(folder).to(device)

    def see(pixels: Tensor) -> Tensor:
        last = model(pixel_values=pixels).last_hidden_state
        if last.dim() == 4:  # a map (n, D, h, w)
            return torch.cat([last.mean((2, 3)), last.amax((2, 3))], 1)
        return torch.cat([last[:, 0], last[:, 1:].mean(1)], 1)

    return see
