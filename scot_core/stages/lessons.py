"""What the Combiner is taught of the triplets that there are: how many, which, and how right they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scot_core.config import TrainConfig
from scot_core.errors import ConfigError
from scot_core.lake import Dataset

if TYPE_CHECKING:  # loads torch
    from scot_core.training_set import TrainingSet

DRAWN_BY = 0  # of the draw: smaller ones are part of larger ones, and the same for every Combiner


def require_enough(config: TrainConfig, triplets: Dataset) -> None:
    """Raises ConfigError where a Combiner is to learn from more triplets than there are."""
    if config.count is not None and config.count > triplets.rows:
        raise ConfigError(f"train.count={config.count} is more than the {triplets.rows} of {triplets.name}")


def lessons(every: TrainingSet, config: TrainConfig) -> TrainingSet:
    """The triplets that a Combiner learns from."""
    if config.count is None:
        return every
    import torch

    rows = np.random.default_rng(DRAWN_BY).permutation(len(every.image))[: config.count]
    return every.of(torch.from_numpy(rows))
