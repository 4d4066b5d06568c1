"""Pic2Word (arXiv 2302.03084): φ learns from images alone, by contrasting "a photo of $" with the image.

Read beside github.com/google-research/composed_image_retrieval (8c05329): `get_loss_img2text` of src/trainer.py and
`IM2TEXT` of model/model.py. The loss is that code's: both directions of the cross-entropy between the normalised
features of images and of "a photo of" followed by φ's word, times CLIP's logit scale, which is frozen there at
CLIP's 100 and is `temperature` 0.01 here. Departures:

- φ is SEARLE's network, so that the methods differ in what they learn from: GELU, hidden layers four times as wide as
  the feature and dropout 0.5, where IM2TEXT has ReLU, 512 and 0.1.
- The learning rate is constant; there it rises over 10,000 steps and falls as a cosine. That project's command has
  batches of 128 on each of its GPUs, AdamW 1e-4, weight decay 0.1 and 30 epochs of Conceptual Captions.
- Images come as the frozen encoder's vectors, without the augmentation of training images.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from scot_core.descent import StepListener
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.searle.phi import Phi
from scot_core.searle.sentences import Sentence
from scot_core.searle.towers import PseudoTokenTower
from scot_core.searle.training import Distilled, Schedule, train_phi

PROMPT = Sentence.parse("a photo of $")
LOGIT_SCALE = 100.0  # of CLIP, as it ends its own training; the code above leaves it as it is


def contrast(features: Tensor, images: Tensor, temperature: float = 1 / LOGIT_SCALE) -> Tensor:
    """Symmetric InfoNCE of sentences (B, D) and their images (B, D), normalised here: a scalar."""
    logits = functional.normalize(images, dim=1) @ functional.normalize(features, dim=1).T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def train_pic2word(
    tower: PseudoTokenTower,
    image_features: Tensor,
    schedule: Schedule,
    seed: int,
    work: Path,
    on_step: StepListener = lambda step, loss: None,
    *,
    temperature: float = 1 / LOGIT_SCALE,
) -> Distilled:
    """Train a φ on images (N, D) in float32, checkpointing into the folder `work`, from whose checkpoint it goes on.

    Raises ShapeError for features of another shape, DataError for fewer than two images, which nothing tells apart,
    and ConfigError for a temperature that is not positive.
    """
    if image_features.ndim != 2:
        raise ShapeError(f"image features must be (N, D), not {tuple(image_features.shape)}")
    if len(image_features) < 2 or schedule.batch_size < 2:
        raise DataError(
            f"{len(image_features)} images in batches of {schedule.batch_size}: there is nothing to contrast"
        )
    if not temperature > 0:
        raise ConfigError(f"the temperature of Pic2Word must be positive, not {temperature}")
    image = image_features.detach().to(tower.device, torch.float32, copy=True)

    def loss_of(phi: Phi, batch: Tensor, step: int) -> Tensor:
        shown = image[batch.to(tower.device)]
        return contrast(tower.features([PROMPT] * len(batch), phi(shown)), shown, temperature)

    sizes = (image.shape[1], tower.word_dim)
    return train_phi(sizes, len(image), loss_of, schedule, seed, work, tower.device, on_step)
