"""Stage embed: frozen encoders over images and texts (§3.1, eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass

from scot_core.config import EmbedConfig
from scot_core.lake import Dataset, Lake
from scot_core.stages.captions import CaptionedImages
from scot_core.stages.embed.images import embed_images
from scot_core.stages.embed.projected import project_images
from scot_core.stages.embed.texts import embed_texts
from scot_core.stages.step import Run


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of the captioned images, of the triplets' texts, and of the benchmark's images."""

    images: Dataset
    texts: Dataset
    gallery: Dataset | None


def embed(run: Run, lake: Lake, config: EmbedConfig, pictures: CaptionedImages, triplets: Dataset) -> Embeddings:
    """Every image and every different text once."""
    known = project_images(lake, config, pictures.captions)
    images = run(known or embed_images(lake, config, pictures.captions))["embeddings"]
    texts = run(embed_texts(lake, config, triplets))["embeddings"]
    if pictures.galleries is None:
        return Embeddings(images, texts, None)
    return Embeddings(images, texts, run(embed_images(lake, config, pictures.galleries))["embeddings"])
