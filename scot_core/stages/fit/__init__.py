"""Stage fit: an image-text encoder fitted to the captions, where no published one is at hand."""

from __future__ import annotations

from scot_core.config import FitConfig, GenerateConfig
from scot_core.errors import DataError
from scot_core.lake import Dataset, Lake
from scot_core.stages.embed.features import caption_features, image_features
from scot_core.stages.fit.recalled import recall_of
from scot_core.stages.fit.step import FitEncoder
from scot_core.stages.step import Run


def fit(run: Run, lake: Lake, config: FitConfig, generate: GenerateConfig, captions: Dataset) -> Dataset:
    """Returns the encoder; what is held out from mined triplets is held out from it, too.

    Raises DataError where it finds held-out captions hardly more often than chance.
    """
    seen: list[Dataset] = []
    if not config.is_from_nothing:
        views = [image_features(lake, config, captions, view) for view in range(config.views + 1)]
        seen = [run(step)["embeddings"] for step in (*views, caption_features(lake, config, captions))]
    encoder = run(FitEncoder(lake, config, generate, captions, seen))["encoders"]
    found = recall_of(encoder)
    if found.recall < config.min_times_chance * found.chance:
        raise DataError(
            f"the encoder that was fitted to {captions.name} finds {found.recall:.1f} % of {found.pictures} held-out "
            f"pictures' captions, by chance {found.chance:.1f}: nothing that is trained on it could search them. Bring "
            "more captioned pictures, other towers (fit.image_tower), or a published encoder (embed.encoder=clip-b32); "
            "fit.min_times_chance=0 goes on all the same"
        )
    return encoder
