"""Stage invert: phrases about concepts, and a pseudo-token for each image (SEARLE, arXiv 2303.15247)."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from scot_core.config import EmbedConfig, InvertConfig
from scot_core.lake import Dataset, Lake
from scot_core.stages.embed.images import embed_images
from scot_core.stages.invert.phrases import WritePhrases, phrases_in
from scot_core.stages.invert.tokens import InvertImages, oti_of
from scot_core.stages.invert.vocabulary import vocabulary_of
from scot_core.stages.step import Run

__all__ = ["Inversion", "invert", "oti_of", "phrases_in"]


@dataclass(frozen=True, slots=True)
class Inversion:
    """Pseudo-tokens of images, the vectors they were found for, and the phrases, where any were read."""

    tokens: Dataset
    images: Dataset
    phrases: Dataset | None


def invert(
    run: Run, lake: Lake, config: InvertConfig, captions: Dataset, embed: EmbedConfig,
    api_key: SecretStr | None = None,
) -> Inversion:  # fmt: skip
    """Images are embedded first where they are not yet. Neither texts nor triplets are needed.

    Raises ConfigError for an encoder whose text tower does not take pseudo-tokens.
    """
    images = run(embed_images(lake, embed, captions))["embeddings"]
    phrases = None
    if config.lambda_gpt:
        concepts = vocabulary_of(config.phrases, captions)
        phrases = run(WritePhrases(lake, config.phrases, concepts, captions, api_key))["phrases"]
    tokens = run(InvertImages(lake, config, images, phrases))["pseudo_tokens"]
    return Inversion(tokens, images, phrases)
