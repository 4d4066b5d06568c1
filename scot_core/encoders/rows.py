"""The published encoders, one row each, and which one is meant by a name: loads neither torch nor weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scot_core.encoders import weights
from scot_core.encoders.preprocessing import (
    AS_IT_IS,
    BLIP_CAPTION,
    LOWER_CASE,
    ImagePreprocessing,
    as_it_is,
    blip_caption,
    lower_case,
)
from scot_core.encoders.spec import EncoderSpec, Precision
from scot_core.encoders.towers import BLIP, BLIP2, CLIP, SIGLIP, Family
from scot_core.errors import ConfigError, ModelError

_HALF: Final = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A published encoder. Its commit is that of the hub's main branch unless a comment says otherwise."""

    hub: str
    commit: str
    family: Family
    dim: int
    image: ImagePreprocessing
    clean: Callable[[str], str]
    cleaning: str  # what `clean` does, in the words of the spec
    tokens: int
    poolings: tuple[str, ...]  # the first is the default
    pad_to_limit: bool = False


ROWS: Final[dict[str, Pretrained]] = {
    "clip-b32": Pretrained(
        hub="openai/clip-vit-base-patch32",
        commit="c237dc49a33fc61debc9276459120b7eac67e7ef",  # main with model.safetensors added by the hub's converter
        family=CLIP,
        dim=512,
        image=ImagePreprocessing(224, crop=True),
        clean=as_it_is,
        cleaning=AS_IT_IS,
        tokens=77,
        poolings=("cls-eos",),
    ),
    "clip-l14": Pretrained(
        hub="openai/clip-vit-large-patch14",
        commit="32bd64288804d66eefd0ccbe215aa642df71cc41",
        family=CLIP,
        dim=768,
        image=ImagePreprocessing(224, crop=True),
        clean=as_it_is,
        cleaning=AS_IT_IS,
        tokens=77,
        poolings=("cls-eos",),
    ),
    "blip": Pretrained(
        hub="Salesforce/blip-itm-base-coco",
        commit="bed8ad38cb2d04a5a4bdf2d071b3c3c0a4aa724c",  # holds pytorch_model.bin only: convert it
        family=BLIP,
        dim=256,
        image=ImagePreprocessing(384),
        clean=blip_caption,
        cleaning=BLIP_CAPTION,
        tokens=512,  # BERT's positions: LAVIS's extract_features cuts at 50 words, not at tokens
        poolings=("cls",),
    ),
    "blip2": Pretrained(
        hub="Salesforce/blip2-itm-vit-g",
        commit="520bf73fd0ef6ccce791cd3f06908040aef2d8cc",
        family=BLIP2,
        dim=256,
        image=ImagePreprocessing(224),
        clean=blip_caption,
        cleaning=BLIP_CAPTION,
        tokens=512,  # as for blip
        poolings=("mean", "first"),
    ),
    "siglip2": Pretrained(
        hub="google/siglip2-base-patch16-224",
        commit="75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
        family=SIGLIP,
        dim=768,
        image=ImagePreprocessing(224, resample="bilinear", mean=_HALF, std=_HALF),
        clean=lower_case,
        cleaning=LOWER_CASE,
        tokens=64,
        poolings=("attention",),
        pad_to_limit=True,
    ),
}


def spec_of(
    name: str, *, revision: str | None = None, pooling: str | None = None, precision: Precision | None = None
) -> EncoderSpec:
    """What `load` would give, known from the table, or from a local folder's config.json: no weights are loaded.

    Raises:
        ConfigError: a pooling that the encoder does not have.
        ModelError: a local folder that lacks files, is of another kind or not of this revision.
    """
    return meant(name, revision, pooling, precision)[2]


def meant(
    name: str, revision: str | None, pooling: str | None, precision: Precision | None
) -> tuple[Pretrained, weights.WeightsFolder, EncoderSpec]:
    row = ROWS[name]
    if pooling is not None and pooling not in row.poolings:
        raise ConfigError(f"encoder {name} has no pooling {pooling!r}; there is {', '.join(row.poolings)}")
    place = weights.place(name, row.hub, row.commit, revision)
    dim, size = (row.dim, row.image.size) if place.folder is None else shapes(place.folder, row)
    text = f"{row.cleaning}, {row.tokens} tokens" + (", padded to as many" if row.pad_to_limit else "")
    spec = EncoderSpec(
        name=name,
        revision=place.revision,
        dim=dim,
        image_size=size,
        preprocessing=f"image: {sized(row, size).describe()}; text: {text}",
        pooling=pooling or row.poolings[0],
        precision=precision or "float32",
    )
    return row, place, spec


def sized(row: Pretrained, size: int) -> ImagePreprocessing:
    given = row.image
    return ImagePreprocessing(size, given.resample, given.crop, given.mean, given.std)


def shapes(folder: Path, row: Pretrained) -> tuple[int, int]:
    """Length of a vector and side of the images, from config.json."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / weights.CONFIG} cannot be read ({error}): download it again") from error
    if config.model_type != row.family.model_type:
        raise ModelError(
            f"{folder} holds a model of type {config.model_type}, where {row.hub} or its like, of type "
            f"{row.family.model_type}, must be"
        )
    return row.family.dim(config), int(config.vision_config.image_size)
