"""Features of captioned images and of captions, by one frozen tower each: embeddings in the lake like any others."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

import pyarrow as pa
from PIL import Image, ImageEnhance

from scot_core.config import EmbedConfig, FitConfig
from scot_core.encoders import EncoderSpec
from scot_core.encoders.preprocessing import upright_rgb
from scot_core.lake import Dataset, Identity, Lake
from scot_core.stages.embed.images import EmbedImages, images_of
from scot_core.stages.embed.step import Identify
from scot_core.stages.embed.texts import EmbedTexts
from scot_core.stages.step import identities

IMAGES, TEXTS = "features-images", "features-texts"  # stages of these datasets
TEXTS_A_SHARD: Final = 4000
_SMALLEST, _TURN, _LIT = 0.75, 12.0, 0.15  # of a view: side of the cut, degrees, change of the light


def image_features(lake: Lake, config: FitConfig, captions: Dataset, view: int = 0) -> EmbedImages:
    """Features of the images by the image tower; a view above 0 shows it each of them a little changed."""
    embed = of_tower(config, config.image_tower)
    altered = partial(changed, seed=f"{config.seed}/{view}") if view else None
    what = {"what": IMAGES, **({"view": view, "seed": config.seed} if view else {})}
    stage = f"{IMAGES}-view-{view}" if view else IMAGES
    name = f"see the images, view {view}" if view else "see the images"
    return EmbedImages(lake, embed, name, _identify(embed, captions, stage, what), images_of(captions, altered))


def caption_features(lake: Lake, config: FitConfig, captions: Dataset) -> EmbedTexts:
    """Features of each different caption by the text tower."""
    embed = of_tower(config, config.text_tower)

    def read() -> Iterable[pa.Array]:
        return (part["caption"].combine_chunks() for part in captions.read_parts(["caption"]))

    identify = _identify(embed, captions, TEXTS, {"what": TEXTS, "shard_rows": TEXTS_A_SHARD})
    return EmbedTexts(lake, embed, "read the captions", identify, captions.source, TEXTS_A_SHARD, read)


def of_tower(config: FitConfig, tower: str) -> EmbedConfig:
    """A tower as an encoder that embeds."""
    precision = config.precision if tower == config.image_tower else None
    return EmbedConfig(
        encoder=f"tower:{tower}", precision=precision, batch_size=config.batch_rows, device=config.device
    )  # fmt: skip


def changed(picture: Image.Image, image_id: str, *, seed: str) -> Image.Image:
    """A picture cut, turned and lit a little differently; how, follows from the seed and the image's id."""
    rng = random.Random(f"{seed}/{image_id}")
    seen = upright_rgb(picture)
    seen = seen.rotate(rng.uniform(-_TURN, _TURN), Image.Resampling.BICUBIC, fillcolor=seen.getpixel((0, 0)))
    side = rng.uniform(_SMALLEST, 1)
    left, top = (rng.uniform(0, 1 - side) * length for length in seen.size)
    cut = seen.crop((int(left), int(top), int(left + side * seen.width) + 1, int(top + side * seen.height) + 1))
    return ImageEnhance.Brightness(cut).enhance(rng.uniform(1 - _LIT, 1 + _LIT))


def _identify(embed: EmbedConfig, captions: Dataset, stage: str, what: Mapping[str, Any]) -> Identify:
    def identify(spec: EncoderSpec) -> Mapping[str, Identity]:
        return identities(
            "embeddings", source=captions.source, label=stage, sealed_as="features",
            version=EmbedConfig.STAGE_VERSION,
            config={"encoder": embed.encoder, "spec": spec.model_dump(mode="json"), **what}, inputs=[captions],
        )  # fmt: skip

    return identify
