"""Encoders that stage fit made of two frozen towers, or trained from nothing: `fitted:<key of table encoders>`.

Their weights lie in the lake: the projections as `model.safetensors` and `config.json`, whose digest is the weights'
metadata, so that the digest of the weights, the encoder's revision, covers both. The towers are named by their specs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from scot_core.encoders import halves
from scot_core.encoders.catalogue import CatalogueEncoder
from scot_core.encoders.fitted_spec import CONFIG, FOLDER, WEIGHTS, Shapes, dataset_of, has_towers, spec_of
from scot_core.encoders.halves.pictures import ImageTower
from scot_core.encoders.preprocessing import Pixels
from scot_core.encoders.spec import Encoder, EncoderSpec
from scot_core.errors import ModelError
from scot_core.lake import Dataset, Lake
from scot_core.lake.fingerprint import digest
from scot_core.vectors import Vectors


class Projections(nn.Module):
    """Features of pictures and of texts into one space (LiT): two layers each, over standardised picture features."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.shapes = shapes
        self.register_buffer("mean", torch.zeros(shapes.image.dim))
        self.register_buffer("deviation", torch.ones(shapes.image.dim))
        self.image = _layers(shapes.image.dim, shapes.image_hidden, shapes.dim, shapes.image_dropout)
        self.text = _layers(shapes.text.dim, shapes.text_hidden, shapes.dim, shapes.text_dropout)

    def of_images(self, features: Tensor) -> Tensor:
        """(n, D_image) -> (n, dim), L2-normalised."""
        return functional.normalize(self.image((features - self.mean) / self.deviation), dim=1)

    def of_texts(self, features: Tensor) -> Tensor:
        """(n, D_text) -> (n, dim), L2-normalised."""
        return functional.normalize(self.text(features), dim=1)

    def save(self, folder: Path) -> None:
        """Writes `model.safetensors` and `config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        config = self.shapes.model_dump_json(indent=1).encode()
        (folder / CONFIG).write_bytes(config)
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(state, folder / WEIGHTS, metadata={"config": digest(config)})

    @classmethod
    def load(cls, folder: Path) -> Projections:
        """Raises ModelError where a file is missing, damaged or belongs to other weights."""
        try:
            raw = (folder / CONFIG).read_bytes()
            model = cls(Shapes.model_validate_json(raw))
            with safe_open(folder / WEIGHTS, framework="pt") as file:
                if (file.metadata() or {}).get("config") != digest(raw):
                    raise ModelError(f"{folder / CONFIG} is not the config these weights were saved with")
                model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (OSError, SafetensorError, ValidationError, RuntimeError) as error:
            raise ModelError(f"the fitted encoder in {folder} is damaged: {error}") from error
        return model.eval().requires_grad_(False)


def _layers(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
    )


class FittedEncoder:
    """Two towers and the projections of their features. No call changes it; the projections work on the CPU."""

    def __init__(self, spec: EncoderSpec, projections: Projections, device: str | None) -> None:
        """Raises ModelError where a tower is not here, or not the one that the projections were fitted on."""
        self._spec, self.projections, self._device = spec, projections, device
        shapes = projections.shapes
        image, text = (_tower(tower, device) for tower in (shapes.image, shapes.text))
        if not isinstance(image, ImageTower):
            raise ModelError(f"{spec.name} names {shapes.image.name} as its image tower, which sees no pictures")
        self._image, self._text = image, text

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    def pixels(self, image: Image.Image) -> Pixels:
        """(size, size, 3) uint8. Raises `DataError` naming an image that does not decode."""
        return self._image.pixels(image)

    def embed_pixels(self, pixels: Pixels) -> Vectors:
        """(n, size, size, 3) uint8 as `pixels` gives them -> (n, dim) float32, L2-normalised."""
        return project(self.projections, "image", self._image.embed_pixels(pixels))

    def embed_images(self, images: Sequence[Image.Image]) -> Vectors:
        """(n, dim) float32, L2-normalised. Raises `DataError` naming an image that does not decode."""
        return project(self.projections, "image", self._image.embed_images(images))

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, L2-normalised."""
        return project(self.projections, "text", self._text.embed_texts(texts))


@torch.inference_mode()
def project(projections: Projections, kind: str, features: Vectors) -> Vectors:
    """Features (n, D) of a tower, `image` or `text`, as vectors of the fitted encoder, (n, dim) float32."""
    given = torch.from_numpy(features)
    made: Vectors = (projections.of_images(given) if kind == "image" else projections.of_texts(given)).numpy()
    return made


def load(
    name: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    lake: Lake | None = None,
) -> Encoder:
    """The encoder `fitted:<key>` of a lake, with its towers.

    Raises ConfigError without a lake or key, ModelError where the lake holds no such encoder, or a tower is not here.
    """
    spec = spec_of(name, revision=revision, pooling=pooling, precision=precision, lake=lake)
    dataset = dataset_of(name, lake)
    with tempfile.TemporaryDirectory() as work:
        folder = dataset.files_in(Path(work)) / FOLDER
        if not has_towers(dataset):
            return CatalogueEncoder.from_directory(folder, spec)
        return FittedEncoder(spec, Projections.load(folder), device)


def projections_of(dataset: Dataset) -> Projections:
    """The projections of a committed encoder, without its towers. Raises ModelError where it has none."""
    with tempfile.TemporaryDirectory() as work:
        return Projections.load(dataset.files_in(Path(work)) / FOLDER)


def _tower(spec: EncoderSpec, device: str | None) -> halves.Tower:
    tower = halves.load(
        spec.name, revision=spec.revision, pooling=spec.pooling, precision=spec.precision, device=device
    )
    if tower.spec != spec:
        raise ModelError(f"the tower {spec.name} is here as {tower.spec}, and the encoder was fitted on {spec}")
    return tower
