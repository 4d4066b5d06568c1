"""BLIP-2 by salesforce-lavis (§4.2), the library the paper's features came from: encoder `lavis-blip2`.

It runs only in the environment of `make lavis` (LAVIS needs transformers 4.26). Encoder `blip2` is the same model by
transformers, of which this takes the definitions; tests/lavis keeps the two together. `<SCOT_WEIGHTS>/lavis-blip2`
holds LAVIS's own files, under their own names:

    eva_vit_g.pth, blip2_pretrained.pth     the frozen ViT-g and the Q-Former, at 224 px; or
    blip2_finetune_coco.pth                 both, finetuned on COCO at 364 px
    bert-base-uncased/config.json, bert-base-uncased/vocab.txt

Checkpoints are read as tensors only: nothing in them is executed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from scot_core.encoders.fitting import Fitting
from scot_core.encoders.preprocessing import ImagePreprocessing, Pixels, upright_rgb
from scot_core.encoders.rows import ROWS
from scot_core.encoders.spec import EncoderSpec, Precision
from scot_core.encoders.weights import own_folder
from scot_core.errors import ConfigError, ModelError
from scot_core.lake.fingerprint import files_digest
from scot_core.vectors import Vectors

NAME: Final = "lavis-blip2"
SAME: Final = ROWS["blip2"]
VIT, PRETRAINED, COCO = "eva_vit_g.pth", "blip2_pretrained.pth", "blip2_finetune_coco.pth"
CHECKPOINTS: Final = ((VIT, PRETRAINED), (COCO,))  # the first set that is whole is taken; its later files win
BERT: Final = ("bert-base-uncased/config.json", "bert-base-uncased/vocab.txt")
SOURCE: Final = "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2/"
SHAPING: Final = (  # tensors that tell the model's shape
    "query_tokens",
    "vision_proj.weight",
    "visual_encoder.cls_token",
    "visual_encoder.pos_embed",
    "visual_encoder.patch_embed.proj.weight",
    "visual_encoder.blocks.0.mlp.fc1.weight",
)

_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 1024, 512  # at most; what does not fit the device is halved


def spec_of(
    name: str, *, revision: str | None = None, pooling: str | None = None, precision: Precision | None = None
) -> EncoderSpec:
    """What `load` would give, from the files; needs no LAVIS.

    Raises:
        ConfigError: a pooling that the encoder does not have.
        ModelError: files that are missing, damaged or not of this revision.
    """
    if pooling is not None and pooling not in SAME.poolings:
        raise ConfigError(f"encoder {name} has no pooling {pooling!r}; there is {', '.join(SAME.poolings)}")
    folder = own_folder(name)
    files = _files(folder)
    found = files_digest((*files, *(folder / part for part in BERT)), named=False)
    if revision not in (None, found):
        raise ModelError(f"{folder} holds the weights {found}, not {revision}: replace them or leave embed.revision")
    weights = _weights(files)
    size = image_size(weights)
    return EncoderSpec(
        name=name,
        revision=found,
        dim=weights["vision_proj.weight"].shape[0],
        image_size=size,
        preprocessing=f"image: {ImagePreprocessing(size).describe()}; text: {SAME.cleaning}, {SAME.tokens} tokens",
        pooling=pooling or SAME.poolings[0],
        precision=precision or "float32",
    )


def load(
    name: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    precision: Precision | None = None,
    device: str | None = None,
) -> LavisEncoder:
    """The encoder, frozen, on a device (the first CUDA device where there is one). Raises what `spec_of` raises, and
    `ModelError` where LAVIS is not installed or the weights do not fit each other.
    """
    lavis = _lavis()
    spec = spec_of(name, revision=revision, pooling=pooling, precision=precision)
    folder = own_folder(name)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    bert = (folder / BERT[0]).parent
    model = lavis.build(_weights(_files(folder)), bert, spec, SAME.tokens, place)
    return LavisEncoder(lavis, spec, model, place)


class LavisEncoder:
    """LAVIS's `extract_features`, frozen: its processors, its towers, its projections."""

    def __init__(self, lavis: ModuleType, spec: EncoderSpec, model: Any, device: str) -> None:
        """`lavis` is `scot_core.encoders.lavis_model`, `model` what its `build` gives."""
        self._spec, self._model, self._device = spec, model, device
        # LAVIS's evaluation transform: Resize, ToTensor, Normalize
        self._resize, _, self._normalise = lavis.BlipImageEvalProcessor(spec.image_size).transform.transforms
        self._caption = lavis.BlipCaptionProcessor()
        self._images, self._texts = Fitting("image", _IMAGES_AT_ONCE), Fitting("text", _TEXTS_AT_ONCE)

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    def pixels(self, image: Image.Image) -> Pixels:
        """(size, size, 3) uint8. Raises `DataError` naming an image that does not decode."""
        return np.asarray(self._resize(upright_rgb(image)))

    @torch.inference_mode()
    def embed_pixels(self, pixels: Pixels) -> Vectors:
        """(n, size, size, 3) uint8 as `pixels` gives them -> (n, dim) float32, L2-normalised."""
        return self._images.fill(self._empty(len(pixels)), lambda rows: self._image_vectors(pixels[rows]))

    def embed_images(self, images: Sequence[Image.Image]) -> Vectors:
        """(n, dim) float32, L2-normalised. Raises `DataError` naming an image that does not decode."""
        size = self.spec.image_size
        pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
        for row, image in enumerate(images):
            pixels[row] = self.pixels(image)
        return self.embed_pixels(pixels)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, L2-normalised. Words and tokens beyond the encoder's limits are not read."""
        captions = [self._caption(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda row: len(captions[row]))  # little padding in a batch
        vectors = self._empty(len(texts))
        vectors[order] = self._texts.fill(
            self._empty(len(texts)), lambda rows: self._text_vectors([captions[row] for row in order[rows]])
        )
        return vectors

    def _image_vectors(self, pixels: Pixels) -> Vectors:
        batch = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
        sample = {"image": self._normalise(batch.float().div_(255))}
        tokens = self._model.extract_features(sample, mode="image").image_embeds_proj  # (n, queries, dim), unit length
        return _unit(tokens.mean(1) if self._spec.pooling == "mean" else tokens[:, 0])

    def _text_vectors(self, captions: list[str]) -> Vectors:
        return _unit(self._model.extract_features({"text_input": captions}, mode="text").text_embeds_proj[:, 0])

    def _empty(self, rows: int) -> Vectors:
        return np.empty((rows, self._spec.dim), dtype=np.float32)


def image_size(weights: Mapping[str, Tensor]) -> int:
    """Side in pixels of the square the weights were trained on."""
    patches = weights["visual_encoder.pos_embed"].shape[1] - 1
    return isqrt(patches) * int(weights["visual_encoder.patch_embed.proj.weight"].shape[-1])


def _unit(vectors: Tensor) -> Vectors:
    array: Vectors = functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return array


def _lavis() -> ModuleType:
    try:
        from scot_core.encoders import lavis_model
    except ModuleNotFoundError as error:
        raise ModelError(
            f"encoder {NAME} needs {error.name}, which is not in this environment: run `make lavis` and embed with "
            "deployment scot/embed-lavis. Encoder blip2 is the same model and runs here"
        ) from error
    return lavis_model


def _files(folder: Path) -> tuple[Path, ...]:
    """The checkpoints, in the order in which they are laid over each other."""
    lacking = [name for name in BERT if not (folder / name).is_file()]
    for names in CHECKPOINTS:
        if not lacking and all((folder / name).is_file() for name in names):
            return tuple(folder / name for name in names)
    choice = ", or ".join(" and ".join(names) for names in CHECKPOINTS)
    raise ModelError(
        f"weights of encoder {NAME} are missing in {folder}: it must hold {choice} (from {SOURCE}), "
        f"and {' and '.join(BERT)} (from google-bert/bert-base-uncased)"
    )


def _weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """All weights by the names LAVIS gives them, as they lie on the disk: pages are read when they are used."""
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
            prefix = "visual_encoder." if file.name == VIT else ""
            weights.update({prefix + name: value for name, value in content.get("model", content).items()})
        except (OSError, RuntimeError, EOFError, AttributeError, UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{file} is damaged, or holds more than tensors: fetch it again ({reason})") from error
    lacking = [name for name in SHAPING if name not in weights]
    if lacking:
        held = " and ".join(map(str, files))
        raise ModelError(f"{held} hold no {', '.join(lacking)}: these are not BLIP-2's weights")
    return weights
