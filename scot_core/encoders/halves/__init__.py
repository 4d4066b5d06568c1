"""Frozen towers of one modality each, which stage fit makes an encoder of: `load("tower:all-minilm-l6-v2")`.

A tower is a folder in SCOT_WEIGHTS: an image model or a sentence encoder of transformers, or one of two that pip
installs (`scot_core.encoders.halves.folders`). What it gives are features: unit vectors like any embedding, but those
of pictures and those of texts have nothing to do with one another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch

from scot_core.encoders.halves import folders, lite, sentence, vision
from scot_core.encoders.halves.pictures import ImageTower
from scot_core.encoders.spec import EncoderSpec
from scot_core.errors import ConfigError, ModelError
from scot_core.lake.fingerprint import files_digest

PREFIX: Final = "tower:"
Tower = ImageTower | sentence.SentenceTower


def load(
    name: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    precision: str | None = None,
    device: str | None = None,
) -> Tower:
    """The tower `tower:<folder>`, frozen, on a device (the first CUDA device where there is one).

    Raises ModelError where its folder is not here, damaged, of no known kind or not of `revision`.
    """
    spec, folder = _meant(name, revision, pooling, precision)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = folders.kind_of(folder)
    if kind == folders.TEXT:
        return sentence.SentenceTower(spec, folder, place)
    if kind == folders.LITE:
        return ImageTower(spec, lite.preprocessing(spec.image_size), lite.load(folder, place), place)
    return ImageTower(spec, vision.preprocessing(folder), vision.load(folder, place), place)


def spec_of(
    name: str, *, revision: str | None = None, pooling: str | None = None, precision: str | None = None
) -> EncoderSpec:
    """The spec of what `load` would give; no weights are loaded. Raises what `load` raises."""
    return _meant(name, revision, pooling, precision)[0]


def is_of_texts(spec: EncoderSpec) -> bool:
    """Whether a tower reads texts, not pictures."""
    return spec.image_size == sentence.NO_IMAGE


def _meant(name: str, revision: str | None, pooling: str | None, precision: str | None) -> tuple[EncoderSpec, Path]:
    folder = folders.folder_of(name.removeprefix(PREFIX))
    kind = folders.kind_of(folder)
    found = files_digest(folders.deciding(folder), named=True)
    if revision not in (None, found):
        raise ModelError(f"{folder} holds the weights {found}, not {revision}: put those back that were used")
    if kind == folders.TEXT:
        fields = sentence.describe(folder, pooling)
    else:
        fields = (lite.describe if kind == folders.LITE else vision.describe)(folder)
    spec = EncoderSpec.model_validate({"name": name, "revision": found, **fields})
    if pooling not in (None, spec.pooling):
        raise ConfigError(f"{name} has no pooling {pooling!r}; there is {spec.pooling!r}")
    return spec.model_copy(update={"precision": precision or "float32"}), folder
