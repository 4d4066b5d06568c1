"""Which encoders the embedded ones are, read off their files: loads no torch.

A directory of weights holds `model.safetensors` (float32), `config.json` (shapes and vocabulary) and
`provenance.json` (how they were made). The weight file names the digest of its config, so the digest of the
weight file, which is the encoder's revision, covers both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from scot_core.encoders.preprocessing import UPRIGHT_RGB
from scot_core.encoders.spec import EncoderSpec
from scot_core.errors import ConfigError, ModelError
from scot_core.lake.fingerprint import digest

_SHIPPED: Final = Path(__file__).parent.parent / "catalogue" / "weights"
SHIPPED: Final = {"catalogue": _SHIPPED / "encoder", "catalogue-whole": _SHIPPED / "encoder-whole"}
"""Pretrained on what the catalogue's benchmark does not hold out, and on the whole catalogue, to compare it with."""
WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
MAX_WORDS: Final = 32
"""Words of a text beyond this many are not read."""
_IMAGE: Final = f"{UPRIGHT_RGB}, bicubic to a square, (x / 255 - 0.5) * 3"
_TEXT: Final = f"lower case, letters and digits split into words, the first {MAX_WORDS}"


class CatalogueConfig(BaseModel):
    """Shapes and vocabulary: everything needed to build the towers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: tuple[str, ...]
    dim: int = 128
    image_size: int = 64
    buckets: int = 2048
    width: int = 96
    layers: int = 2
    heads: int = 4


def read_config(directory: Path) -> CatalogueConfig:
    """Raises `ModelError` when a file is missing, damaged or belongs to other weights."""
    try:
        raw = (directory / CONFIG).read_bytes()
        config = CatalogueConfig.model_validate_json(raw)
        with safe_open(directory / WEIGHTS, framework="np") as file:
            if (file.metadata() or {}).get("config") != digest(raw):
                raise ModelError(f"{directory / CONFIG} is not the config these weights were saved with")
    except FileNotFoundError as error:
        raise ModelError(
            f"encoder weights are missing in {directory}: {error.filename or error}; make them with "
            "`python -m pretraining.encoder --out DIR`"
        ) from error
    except (SafetensorError, ValidationError) as error:
        raise ModelError(f"encoder weights in {directory} are damaged: {error}") from error
    return config


def described(config: CatalogueConfig) -> dict[str, Any]:
    """What a spec says of towers of these shapes."""
    return {
        "dim": config.dim,
        "image_size": config.image_size,
        "preprocessing": f"image: {_IMAGE}; text: {_TEXT}",
        "pooling": "image: mean and quarter maxima, projected; text: start token, projected",
    }


def spec_in(directory: Path, config: CatalogueConfig | None = None, name: str = "catalogue") -> EncoderSpec:
    """The spec of the weights in a directory. Raises what `read_config` raises, unless it is given what that gave."""
    config = config or read_config(directory)
    return EncoderSpec(name=name, revision=digest((directory / WEIGHTS).read_bytes()), **described(config))


def spec_of(
    name: str = "catalogue", *, revision: str | None = None, pooling: str | None = None, precision: str | None = None
) -> EncoderSpec:
    """A shipped encoder's spec; it has one pooling and one precision.

    Raises `ConfigError` for another of them, `ModelError` for weights that are not those of `revision`.
    """
    spec = spec_in(SHIPPED[name], name=name)
    if revision not in (None, spec.revision):
        raise ModelError(f"the shipped encoder {name} has the weights {spec.revision}, not {revision}")
    for what, asked, known in (("pooling", pooling, spec.pooling), ("precision", precision, spec.precision)):
        if asked not in (None, known):
            raise ConfigError(f"encoder {name} has no {what} {asked!r}; there is {known!r}")
    return spec
