"""Which encoder `fitted:<key>` is, read off the lake: loads no torch."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from scot_core.encoders.fitted_names import FITTED, TO_FIT, fitted_by
from scot_core.encoders.spec import EncoderSpec
from scot_core.errors import ConfigError, ModelError
from scot_core.lake import Dataset, Lake

FOLDER: Final = "fitted"  # of its files
WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Shapes(BaseModel):
    """Everything that is needed to build projections: whose features they take, and their widths."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: EncoderSpec
    text: EncoderSpec
    dim: int
    image_hidden: int
    text_hidden: int
    image_dropout: float
    text_dropout: float


def spec_of(
    name: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    precision: str | None = None,
    lake: Lake | None = None,
) -> EncoderSpec:
    """The spec of what `load` would give, from the lake alone. Raises what `load` raises of it."""
    dataset = dataset_of(name, lake)
    spec = EncoderSpec.model_validate(
        {**dataset.config["makes"], "name": name, "revision": weights_of(dataset)}
    )  # fmt: skip
    if revision not in (None, spec.revision):
        raise ModelError(f"{dataset.name} holds the weights {spec.revision}, not {revision}")
    for what, asked, known in (("pooling", pooling, spec.pooling), ("precision", precision, spec.precision)):
        if asked not in (None, known):
            raise ConfigError(f"encoder {name} has no {what} {asked!r}; there is {known!r}")
    return spec


def has_towers(dataset: Dataset) -> bool:
    """Whether a committed encoder is two towers and projections, not one trained from nothing."""
    return bool(dataset.config["image_tower"] != "nothing")


def weights_of(dataset: Dataset) -> str:
    """Digest of a committed encoder's weights."""
    return next(file.digest for file in dataset.files if file.name == f"{FOLDER}/{WEIGHTS}")


def dataset_of(name: str, lake: Lake | None) -> Dataset:
    if lake is None or not name.startswith(FITTED):
        raise ConfigError(f"encoder {name!r} is none by itself: `{FITTED}<key>` names one of a lake's table encoders")
    found = fitted_by(lake, name)
    if found is None:
        key = name.removeprefix(FITTED)
        raise ModelError(f"{lake.url} holds no encoder {key}: `scot/fit` makes one (embed.encoder={TO_FIT})")
    return found
