"""φ: from the image feature of a frozen encoder to a pseudo-token in the space of its word embeddings.

The network is that of SEARLE (arXiv 2303.15247), whose checkpoints load through `load_searle_state_dict`. On disk a
φ is a folder of two files, `model.safetensors` and `config.json`.
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

from scot_core.errors import ConfigError, ModelError, ShapeError
from scot_core.lake.fingerprint import digest

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_FORMAT = 1
_SIZES = ("input_dim", "hidden_dim", "output_dim")


class Phi(nn.Module):
    """Three linear layers with GELU and dropout between them.

    SEARLE's sizes: `input_dim` and `output_dim` are the encoder's feature and word-embedding dimensions (512 and 512
    for CLIP B/32, 768 and 768 for L/14), `hidden_dim` four times the first. The parameters have that project's names.
    Raises ConfigError for sizes below 1 or a dropout outside [0, 1).
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, dropout: float = 0.5) -> None:
        super().__init__()
        for name, size in zip(_SIZES, (input_dim, hidden_dim, output_dim), strict=True):
            if size < 1:
                raise ConfigError(f"{name} of φ must be at least 1, not {size}")
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout of φ must be in [0, 1), not {dropout}")
        self.input_dim, self.hidden_dim, self.output_dim, self.dropout = input_dim, hidden_dim, output_dim, dropout
        self.layers = nn.Sequential(
            nn.Linear(input_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, output_dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Image features (B, input_dim), not normalised, to pseudo-tokens (B, output_dim).

        Raises ShapeError where the shape, dtype or device is not that of the weights (under autocast any float goes).
        """
        weight = self.layers[0].weight
        if image.ndim != 2 or image.shape[1] != self.input_dim:
            raise ShapeError(f"image must be (B, {self.input_dim}) for this φ, but has shape {tuple(image.shape)}")
        if image.device != weight.device:
            raise ShapeError(f"image is on {image.device}, φ on {weight.device}")
        free = torch.is_autocast_enabled(image.device.type) and image.is_floating_point()
        if image.dtype != weight.dtype and not free:
            raise ShapeError(f"image has dtype {image.dtype}, φ {weight.dtype}")
        words: Tensor = self.layers(image)
        return words

    def load_searle_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the weights of SEARLE's φ of the same sizes.

        `state` is its state dict, or a whole checkpoint that holds it under "Phi".
        Raises ModelError naming parameters that are missing, unknown or not tensors, and ShapeError naming both
        shapes of one that does not fit; φ is then unchanged.
        """
        if isinstance(nested := state.get("Phi"), Mapping):
            state = nested
        self._check_weights(state, "not a φ of SEARLE")
        self.load_state_dict(dict(state))

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `config.json`, each atomically, made anew or replaced.

        The same weights give the same bytes. The configuration carries a digest of the weights, so a pair torn by
        a crash between the two files is refused on loading. Raises ModelError where the folder cannot be written.
        """
        weights = safetensors.torch.save({n: v.detach().cpu().contiguous() for n, v in self.state_dict().items()})
        config = {
            "architecture": "phi",
            "format": _FORMAT,
            **{name: getattr(self, name) for name in _SIZES},
            "dropout": self.dropout,
            "weights_blake2b": digest(weights),
        }
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write_atomically(folder / WEIGHTS_FILE, weights)
            _write_atomically(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
        except OSError as error:
            raise ModelError(f"cannot write a φ to {folder}: {error.strerror or error}") from error

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote: on the CPU, in the dtype it was saved in, in evaluation mode.

        Raises ModelError or ShapeError where a file is missing, damaged or of another kind or version.
        """
        folder = Path(folder)
        config = _read_config(folder / CONFIG_FILE)
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
            phi = cls(*(config[name] for name in (*_SIZES, "dropout")))
        phi._check_weights(tensors, f"{folder / WEIGHTS_FILE} does not hold a φ")
        phi.load_state_dict(tensors, assign=True)
        return phi.eval()

    def _check_weights(self, tensors: Mapping[str, Any], refusal: str) -> None:
        own = self.state_dict()
        differing = {"missing": [n for n in own if n not in tensors], "unknown": [n for n in tensors if n not in own]}
        if any(differing.values()):
            named = (f"{what} {', '.join(map(str, names))}" for what, names in differing.items() if names)
            raise ModelError(f"{refusal}: {'; '.join(named)}")
        for name, here in own.items():
            given = tensors[name]
            if not isinstance(given, Tensor) or not given.is_floating_point():
                kind = f"one of {given.dtype}" if isinstance(given, Tensor) else type(given).__name__
                raise ModelError(f"{name} must be a tensor of floats, not {kind}")
            if given.shape != here.shape:
                raise ShapeError(f"{name} has shape {tuple(given.shape)}, this φ needs {tuple(here.shape)}")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}; is this a φ's folder?") from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read_bytes(path))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or config.get("architecture") != "phi":
        raise ModelError(f"{path} does not describe a φ")
    if config.get("format") != _FORMAT:
        raise ModelError(f"{path} has format {config.get('format')!r}; this version of Scot reads format {_FORMAT}")
    kinds: dict[str, Any] = {**dict.fromkeys(_SIZES, int), "dropout": (int, float), "weights_blake2b": str}
    if wrong := [name for name, kind in kinds.items() if not isinstance(config.get(name), kind)]:
        raise ModelError(f"{path} lacks a proper value for {', '.join(wrong)}")
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
