"""The Combiner: how a reference image and a modification text become one query embedding.

The network is that of CLIP4Cir (Baldrati et al., CVPR 2022), which §3.2 of the SCOT paper uses as f_c: two
projections, an MLP on their concatenation (text first), and a learned scalar that mixes the raw inputs.
Its checkpoints load through `load_clip4cir_state_dict`. On disk a Combiner is a folder of two files,
`model.safetensors` and `config.json`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from scot_core.errors import ConfigError, ModelError, ShapeError
from scot_core.lake.fingerprint import digest
from scot_core.layers import activated

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_FORMAT = 1

_FROM_CLIP4CIR = {
    "text_projection_layer": "text_projection",
    "image_projection_layer": "image_projection",
    "combiner_layer": "combination",
    "output_layer": "output",
    "dynamic_scalar.0": "scalar_hidden",
    "dynamic_scalar.3": "scalar_output",
}
_LEAVES = ("weight", "bias")


class Combiner(nn.Module):
    """f_c of §3.2: (image, text) -> composed embedding.

    Defaults are CLIP4Cir's sizes (projection 4 x 640, hidden 8 x 640), which the paper keeps for every
    encoder. Dropout acts in four places: both projections, the combination and the scalar branch.
    Raises ConfigError for sizes below 1 or a dropout outside [0, 1).

    Attributes:
        encoder: the spec of the encoder whose embeddings it composes, as JSON has it; None where nobody said.
        known_words: whether requests are embedded in words that the encoder knows (`encoders.spec.embed_requests`).
    """

    def __init__(
        self, feature_dim: int, projection_dim: int = 2560, hidden_dim: int = 5120, dropout: float = 0.5
    ) -> None:
        super().__init__()
        sizes = {"feature_dim": feature_dim, "projection_dim": projection_dim, "hidden_dim": hidden_dim}
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"{name} of a Combiner must be at least 1, not {size}")
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout of a Combiner must be in [0, 1), not {dropout}")
        self.feature_dim, self.projection_dim, self.hidden_dim = feature_dim, projection_dim, hidden_dim
        self.dropout = dropout
        self.encoder: Mapping[str, Any] | None = None
        self.known_words = False
        self.text_projection = nn.Linear(feature_dim, projection_dim)
        self.image_projection = nn.Linear(feature_dim, projection_dim)
        self.combination = nn.Linear(2 * projection_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, feature_dim)
        self.scalar_hidden = nn.Linear(2 * projection_dim, hidden_dim)
        self.scalar_output = nn.Linear(hidden_dim, 1)

    def forward(self, image: Tensor, text: Tensor, modality_weight: float | None = None) -> Tensor:
        """Compose reference image embeddings (B, D) with modification text embeddings (B, D).

        Returns (B, D), rows of length one. Inputs enter as they are, in the dtype and on the device of the
        weights. `modality_weight` in [0, 1] stands in place of the Combiner's own scalar s. Raises ShapeError where
        shapes, dtypes or devices do not fit.
        """
        self._check(image, text)
        projected = self._project(image, text)
        residual = self.output(self._activated(self.combination, projected))
        weight = self._weight(projected) if modality_weight is None else modality_weight
        return functional.normalize(residual + weight * text + (1 - weight) * image, dim=-1)

    def modality_weight(self, image: Tensor, text: Tensor) -> Tensor:
        """The scalar s in (0, 1) that each raw text embedding is mixed with, (B,); the image gets 1 - s (Figure 4).

        Takes the inputs of `forward` and raises the same errors.
        """
        self._check(image, text)
        return self._weight(self._project(image, text)).squeeze(-1)

    def load_clip4cir_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the weights of a CLIP4Cir Combiner of the same sizes.

        `state` is its state dict, or a whole checkpoint that holds it under "Combiner".
        Raises ModelError naming parameters that are missing, unknown or not tensors, and ShapeError naming both
        shapes of one that does not fit; the Combiner is then unchanged.
        """
        if isinstance(nested := state.get("Combiner"), Mapping):
            state = nested
        ours = {name: _from_clip4cir(name) for name in state}
        own = self.state_dict()
        theirs = {_from_clip4cir(f"{layer}.{leaf}"): f"{layer}.{leaf}" for layer in _FROM_CLIP4CIR for leaf in _LEAVES}
        missing = [theirs[name] for name in own if name not in ours.values()]
        unknown = [name for name, here in ours.items() if here not in own]
        if missing or unknown:
            raise ModelError(
                "not a CLIP4Cir Combiner: "
                + "; ".join(
                    f"{what} {', '.join(names)}"
                    for what, names in (("missing", missing), ("unknown", unknown))
                    if names
                )
            )
        renamed = {ours[name]: value for name, value in state.items()}
        self._check_weights(renamed)
        self.load_state_dict(renamed)

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, each atomically, made anew or replaced.

        The same weights give the same bytes. The configuration carries a digest of the weights, so a pair torn by
        a crash between the two files is refused on loading. Raises ModelError where the folder cannot be written.
        """
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        weights = safetensors.torch.save(tensors)
        config = {
            "architecture": "combiner",
            "format": _FORMAT,
            "feature_dim": self.feature_dim,
            "projection_dim": self.projection_dim,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
            "weights_blake2b": digest(weights),
            **({} if self.encoder is None else {"encoder": dict(self.encoder)}),
            **({"known_words": True} if self.known_words else {}),
        }
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_atomically(folder / WEIGHTS_FILE, weights)
            _write_atomically(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
        except OSError as error:
            raise ModelError(f"cannot write a Combiner to {folder}: {error.strerror or error}") from error

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote: on the CPU, in the dtype it was saved in, in evaluation mode.

        Raises ModelError where a file is missing, damaged or of another kind or version.
        """
        folder = Path(folder)
        config = _read_config(folder)
        weights = _read_bytes(folder / WEIGHTS_FILE)
        if digest(weights) != config["weights_blake2b"]:
            raise ModelError(
                f"{folder / WEIGHTS_FILE} is not the file that {CONFIG_FILE} was written for; restore or retrain"
            )
        try:
            tensors = safetensors.torch.load(weights)
        except SafetensorError as error:
            raise ModelError(f"{folder / WEIGHTS_FILE} is not a readable safetensors file: {error}") from error
        with torch.device("meta"):
            combiner = cls(config["feature_dim"], config["projection_dim"], config["hidden_dim"], config["dropout"])
        if set(tensors) != set(combiner.state_dict()):
            raise ModelError(f"{folder / WEIGHTS_FILE} does not hold a Combiner: it has {', '.join(sorted(tensors))}")
        combiner._check_weights(tensors)
        combiner.load_state_dict(tensors, assign=True)
        combiner.encoder = config.get("encoder")
        combiner.known_words = config.get("known_words") is True
        return combiner.eval()

    def _project(self, image: Tensor, text: Tensor) -> Tensor:
        """(B, 2 * projection_dim), text first: CLIP4Cir's order, which its checkpoints depend on."""
        projected_text = self._activated(self.text_projection, text)
        projected_image = self._activated(self.image_projection, image)
        return torch.cat([projected_text, projected_image], dim=-1)

    def _weight(self, projected: Tensor) -> Tensor:
        """(B, 1)"""
        return torch.sigmoid(self.scalar_output(self._activated(self.scalar_hidden, projected)))

    def _activated(self, layer: nn.Linear, x: Tensor) -> Tensor:
        return activated(layer, x, self.dropout, training=self.training)

    def _check(self, image: Tensor, text: Tensor) -> None:
        weight = self.text_projection.weight
        for name, batch in (("image", image), ("text", text)):
            if batch.ndim != 2 or batch.shape[1] != self.feature_dim:
                raise ShapeError(
                    f"{name} must be (B, {self.feature_dim}) for this Combiner, but has shape {tuple(batch.shape)}"
                )
            if batch.device != weight.device:
                raise ShapeError(f"{name} is on {batch.device}, the Combiner on {weight.device}")
            # Under autocast, layers take any float and cast it themselves.
            free = torch.is_autocast_enabled(weight.device.type) and batch.is_floating_point()
            if batch.dtype != weight.dtype and not free:
                raise ShapeError(f"{name} has dtype {batch.dtype}, the Combiner {weight.dtype}")
        if len(image) != len(text):
            raise ShapeError(f"image has {len(image)} rows, text has {len(text)}; they must be pairs")

    def _check_weights(self, tensors: Mapping[str, Any]) -> None:
        for name, own in self.state_dict().items():
            given = tensors[name]
            if not isinstance(given, Tensor) or not given.is_floating_point():
                raise ModelError(f"{name} must be a tensor of floats, not {_kind(given)}")
            if given.shape != own.shape:
                raise ShapeError(f"{name} has shape {tuple(given.shape)}, this Combiner needs {tuple(own.shape)}")


def _from_clip4cir(name: str) -> str:
    """Our name of one of that project's parameters; empty for a name it does not have."""
    layer, _, leaf = name.rpartition(".")
    return f"{_FROM_CLIP4CIR[layer]}.{leaf}" if layer in _FROM_CLIP4CIR else ""


def _kind(value: object) -> str:
    return f"one of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}; is this a Combiner's folder?") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(_read_bytes(path))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from error
    kinds = {
        "feature_dim": int,
        "projection_dim": int,
        "hidden_dim": int,
        "dropout": float,
        "weights_blake2b": str,
    }
    if not isinstance(config, dict) or config.get("architecture") != "combiner":
        raise ModelError(f"{path} does not describe a Combiner")
    if config.get("format") != _FORMAT:
        raise ModelError(f"{path} has format {config.get('format')!r}; this version of Scot reads format {_FORMAT}")
    if wrong := [name for name, kind in kinds.items() if not isinstance(config.get(name), kind)]:
        raise ModelError(f"{path} lacks a proper value for {', '.join(wrong)}")
    if not isinstance(config.get("encoder", {}), dict):
        raise ModelError(f"{path} names its encoder by {config['encoder']!r}, which is no encoder's spec")
    return config


def _write_atomically(path: Path, data: bytes) -> None:
    """Write beside the file, flush, rename: readers see the old bytes or the new ones."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
