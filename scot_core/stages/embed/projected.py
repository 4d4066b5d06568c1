"""Images whose features are in the lake: vectors of a fitted encoder without its tower."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from scot_core.config import EmbedConfig
from scot_core.encoders.fitted_names import fitted_by
from scot_core.lake import Dataset, Lake
from scot_core.lake.lineage import parents
from scot_core.stages.embed.features import IMAGES
from scot_core.stages.embed.step import Embed
from scot_core.stages.embed.texts import of_dataset
from scot_core.stages.step import Tick

if TYPE_CHECKING:  # loads torch
    from scot_core.encoders.fitted import Projections


class ProjectImages(Embed):
    """One vector for each image that has features; a shard is a part of these."""

    def __init__(self, lake: Lake, config: EmbedConfig, captions: Dataset, features: Dataset, fitted: Dataset) -> None:
        super().__init__(lake, config, "embed captions", of_dataset(lake, config, captions, "images"))
        self._features, self._fitted = features, fitted

    @cached_property
    def _projections(self) -> Projections:
        from scot_core.encoders.fitted import projections_of

        return projections_of(self._fitted)

    def work(self, shard: int, tick: Tick) -> None:
        from scot_core.encoders.fitted import project

        part = self._features.read_part(shard, ["item_id", "source", "vector"])
        column = part["vector"].combine_chunks()
        features = column.flatten().to_numpy(zero_copy_only=False).reshape(len(part), column.type.list_size)
        vectors = project(self._projections, "image", features.astype(np.float32, copy=True))
        ids = part["item_id"].to_pylist()
        self.write(shard, "image", part["source"].to_pylist(), ids, [None] * len(ids), vectors)
        tick(len(ids))

    def shards(self) -> list[int]:
        return [part.rows for part in self._features.parts]


def project_images(lake: Lake, config: EmbedConfig, captions: Dataset) -> ProjectImages | None:
    """The images of captions that an encoder was fitted to; None for other encoders, and for other captions."""
    fitted = fitted_by(lake, config.encoder)
    if fitted is None:
        return None
    for given in parents(lake, fitted):
        if given.stage == IMAGES and parents(lake, given)[0].name == captions.name:
            return ProjectImages(lake, config, captions, given, fitted)
    return None
