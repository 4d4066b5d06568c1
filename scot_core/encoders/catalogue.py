"""The embedded encoders: about 0.9 million parameters that know the drawn catalogue. `catalogue_spec` says which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from scot_core.encoders import catalogue_image, catalogue_text
from scot_core.encoders.catalogue_spec import CONFIG, SHIPPED, WEIGHTS, CatalogueConfig, read_config, spec_in, spec_of
from scot_core.encoders.preprocessing import ImagePreprocessing, Pixels
from scot_core.encoders.spec import EncoderSpec
from scot_core.errors import ConfigError, ModelError
from scot_core.lake.fingerprint import digest
from scot_core.vectors import Vectors

_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 256, 256


class DualEncoder(nn.Module):
    """The two towers, as pretraining sees them."""

    def __init__(self, config: CatalogueConfig) -> None:
        super().__init__()
        self.config = config
        self.image = catalogue_image.ImageTower(config.dim)
        self.text = catalogue_text.TextTower(
            len(config.vocabulary), config.buckets, config.width, config.layers, config.heads, config.dim
        )

    def save(self, directory: Path) -> None:
        """Writes `model.safetensors` and `config.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        config = self.config.model_dump_json(indent=1).encode()
        (directory / CONFIG).write_bytes(config)
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(state, directory / WEIGHTS, metadata={"config": digest(config)})

    @classmethod
    def load(cls, directory: Path) -> DualEncoder:
        """Raises `ModelError` when a file is missing, damaged or belongs to other weights."""
        model = cls(read_config(directory))
        try:
            with safe_open(directory / WEIGHTS, framework="pt") as file:
                model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"encoder weights in {directory} are damaged: {error}") from error
        return model


class CatalogueEncoder:
    """The frozen encoder on the CPU. No call changes it: no gradients, no batch statistics, no state."""

    def __init__(self, model: DualEncoder, spec: EncoderSpec) -> None:
        self.model = model.eval().requires_grad_(False)
        self._preprocessing = ImagePreprocessing(model.config.image_size)
        self.tokenise = catalogue_text.Tokeniser(model.config.vocabulary, model.config.buckets)
        self._spec = spec

    @classmethod
    def from_directory(cls, directory: Path, spec: EncoderSpec | None = None) -> CatalogueEncoder:
        """Raises `ModelError` when the weights are missing or damaged."""
        model = DualEncoder.load(directory)
        return cls(model, spec or spec_in(directory, model.config))

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    @property
    def text(self) -> catalogue_text.TextTower:
        """The text tower, for callers that bring token embeddings of their own."""
        return self.model.text

    def pixels(self, image: Image.Image) -> Pixels:
        """(size, size, 3) uint8. Raises `DataError` naming an image that does not decode."""
        return self._preprocessing.pixels(image)

    @torch.inference_mode()
    def embed_pixels(self, pixels: Pixels) -> Vectors:
        """(n, size, size, 3) uint8 as `pixels` gives them -> (n, dim) float32, L2-normalised."""
        out = torch.empty(len(pixels), self.spec.dim)
        for start in range(0, len(pixels), _IMAGES_AT_ONCE):
            batch = torch.from_numpy(pixels[start : start + _IMAGES_AT_ONCE])
            out[start : start + len(batch)] = self._unit(self.model.image(catalogue_image.normalise(batch)))
        return out.numpy()

    def embed_images(self, images: Sequence[Image.Image]) -> Vectors:
        """(n, dim) float32, L2-normalised. Raises `DataError` naming an image that does not decode."""
        return self.embed_pixels(self._preprocessing.batch(images))

    def unknown_words(self, text: str) -> list[str]:
        """Words that pretraining never showed it: it goes by their spelling alone."""
        return self.tokenise.unknown(text)

    def in_known_words(self, text: str) -> str:
        """The text in words that pretraining showed it: slips are put right, other unknown words left out."""
        return self.tokenise.known(text)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, L2-normalised. Words beyond the 32nd are not read; an empty text has a vector."""
        out = torch.empty(len(texts), self.spec.dim)
        by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # little padding in a batch
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            rows = by_length[start : start + _TEXTS_AT_ONCE]
            out[rows] = self._unit(self.model.text(self.tokenise([texts[row] for row in rows])))
        return out.numpy()

    @staticmethod
    def _unit(vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=1)


def load(
    name: str = "catalogue",
    *,
    revision: str | None = None,
    pooling: str | None = None,
    precision: str | None = None,
    device: str | None = None,
) -> CatalogueEncoder:
    """A shipped encoder. It has one pooling, one precision and one device.

    Raises `ConfigError` for another of them, `ModelError` for weights that are not those of `revision`.
    """
    spec = spec_of(name, revision=revision, pooling=pooling, precision=precision)
    if device not in (None, "cpu"):
        raise ConfigError(f"encoder {name} has no device {device!r}; there is 'cpu'")
    return CatalogueEncoder.from_directory(SHIPPED[name], spec)
