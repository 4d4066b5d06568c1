"""The published encoders of the paper and after it, frozen, through transformers; `rows` has a row for each.

BLIP-2 (the paper's, §3.1), BLIP and the two CLIPs are what §4.2 names; SigLIP 2 is newer. Images are decoded and
resized as uint8 by whoever calls, normalised on the device; the vision tower runs in the precision of the spec under
autocast, whose residual stream stays float32 as LAVIS's does; everything after it, and all of the text tower, is
float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from scot_core.encoders import weights
from scot_core.encoders.fitting import Fitting
from scot_core.encoders.preprocessing import Pixels
from scot_core.encoders.rows import Pretrained, meant, shapes, sized
from scot_core.encoders.spec import EncoderSpec, Precision
from scot_core.errors import ModelError
from scot_core.vectors import Vectors

_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 1024, 512  # at most; what does not fit the device is halved
_DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    precision: Precision | None = None,
    device: str | None = None,
) -> PretrainedEncoder:
    """The encoder, frozen, on a device (the first CUDA device where there is one).

    Raises:
        ConfigError: a pooling that the encoder does not have.
        ModelError: weights or their files that are missing, damaged, of another kind or of another revision.
    """
    row, place, spec = meant(name, revision, pooling, precision)
    folder = weights.fetched(place)
    _check(folder, row, spec)
    model, tokenizer = _from(folder, row)
    return PretrainedEncoder(row, spec, model, tokenizer, device or ("cuda" if torch.cuda.is_available() else "cpu"))


class PretrainedEncoder:
    """A frozen encoder of transformers. No call changes it."""

    def __init__(self, row: Pretrained, spec: EncoderSpec, model: Any, tokenizer: Any, device: str) -> None:
        """`model` is of the row's family, `tokenizer` a tokenizer of transformers."""
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self._row, self._spec, self._device = row, spec, torch.device(device)
        self._preprocessing = sized(row, spec.image_size)
        self._mean, self._std = (
            torch.tensor(numbers, device=device).view(1, 3, 1, 1)
            for numbers in (self._preprocessing.mean, self._preprocessing.std)
        )
        self._images, self._texts = Fitting("image", _IMAGES_AT_ONCE), Fitting("text", _TEXTS_AT_ONCE)

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    def pixels(self, image: Image.Image) -> Pixels:
        """(size, size, 3) uint8. Raises `DataError` naming an image that does not decode."""
        return self._preprocessing.pixels(image)

    @torch.inference_mode()
    def embed_pixels(self, pixels: Pixels) -> Vectors:
        """(n, size, size, 3) uint8 as `pixels` gives them -> (n, dim) float32, L2-normalised."""
        return self._images.fill(self._empty(len(pixels)), lambda rows: self._image_vectors(pixels[rows]))

    def embed_images(self, images: Sequence[Image.Image]) -> Vectors:
        """(n, dim) float32, L2-normalised. Raises `DataError` naming an image that does not decode."""
        return self.embed_pixels(self._preprocessing.batch(images))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, L2-normalised. Tokens beyond the encoder's limit are not read."""
        cleaned = [self._row.clean(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda row: len(cleaned[row]))  # little padding in a batch
        vectors = self._empty(len(texts))
        vectors[order] = self._texts.fill(
            self._empty(len(texts)), lambda rows: self._text_vectors([cleaned[row] for row in order[rows]])
        )
        return vectors

    def image_tokens(self, pixels: Pixels) -> Tensor:
        """(n, size, size, 3) uint8 -> (n, tokens, dim) float32, each of length one: before pooling."""
        batch = torch.from_numpy(pixels).to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        normalised = batch.float().div_(255).sub_(self._mean).div_(self._std)
        dtype = _DTYPES.get(self._spec.precision)
        with torch.autocast(self._device.type, dtype, enabled=dtype is not None):
            seen = self._row.family.see(self.model, normalised)
        return functional.normalize(self._row.family.image(self.model, seen.float()), dim=-1)

    def _image_vectors(self, pixels: Pixels) -> Vectors:
        tokens = self.image_tokens(pixels)
        pooled = tokens.mean(1) if self._spec.pooling == "mean" else tokens[:, 0]
        return _numpy(functional.normalize(pooled, dim=-1))

    def _text_vectors(self, texts: list[str]) -> Vectors:
        tokens = self.tokenizer(
            texts,
            padding="max_length" if self._row.pad_to_limit else "longest",
            truncation=True,
            max_length=self._row.tokens,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._device)
        vectors = self._row.family.text(self.model, tokens["input_ids"], tokens["attention_mask"])
        return _numpy(functional.normalize(vectors, dim=-1))

    def _empty(self, rows: int) -> Vectors:
        return np.empty((rows, self._spec.dim), dtype=np.float32)


def _check(folder: Path, row: Pretrained, spec: EncoderSpec) -> None:
    dim, size = shapes(folder, row)
    if (dim, size) != (spec.dim, spec.image_size):
        raise ModelError(
            f"encoder {spec.name} at {spec.revision} gives {dim} numbers from {size} px, where {spec.dim} from "
            f"{spec.image_size} px are expected: put it into {weights.own_folder(spec.name)} to use it"
        )


def _from(folder: Path, row: Pretrained) -> tuple[Any, Any]:
    import transformers

    try:
        model, loading = getattr(transformers, row.family.model).from_pretrained(
            str(folder),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # safetensors, json, tokenizers and torch each raise kinds of their own
        raise ModelError(f"the weights in {folder} do not load: {error}") from error
    absent = sorted(loading["missing_keys"])
    if absent:  # transformers would go on with random numbers in their place
        raise ModelError(f"the weights in {folder} lack {len(absent)} tensors, {absent[0]} first: download them again")
    return model, tokenizer


def _numpy(vectors: Tensor) -> Vectors:
    array: Vectors = vectors.float().cpu().numpy()
    return array
