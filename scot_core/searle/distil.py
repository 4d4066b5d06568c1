"""Distillation: φ learns to give the pseudo-tokens that inversion found, in one pass and for new images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from scot_core.descent import StepListener
from scot_core.draws import seed_of
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.searle.objectives import distillation_loss
from scot_core.searle.oti import PhraseFeatures
from scot_core.searle.phi import Phi
from scot_core.searle.sentences import Phrase
from scot_core.searle.towers import PseudoTokenTower
from scot_core.searle.training import Distilled, Schedule, train_phi


@dataclass(frozen=True)
class PhiConfig:
    """Defaults are those of SEARLE's `train_phi.py`, whose half precision is left out. Ablations: `lambda_gpt` 0
    leaves L_gpt out, `distance` "l2" takes the mean squared difference for NT-Xent. Raises ConfigError for a value
    that cannot be."""

    epochs: int = 100
    steps: int | None = None  # in place of epochs
    batch_size: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    dropout: float = 0.5
    distance: Literal["nt-xent", "l2"] = "nt-xent"
    temperature: float = 0.25
    lambda_gpt: float = 0.75
    concepts: int = 150  # of an image, nearest first; those beyond are not read
    checkpoint_every: int = 500  # steps

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "temperature", "concepts", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} of a distillation must be positive, not {getattr(self, name)}")
        if self.steps is not None and self.steps <= 0:
            raise ConfigError(f"steps of a distillation must be positive, not {self.steps}")
        for name in ("weight_decay", "lambda_gpt"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} of a distillation must not be negative, not {getattr(self, name)}")
        if self.distance not in ("nt-xent", "l2"):
            raise ConfigError(f"there is no distance {self.distance!r}; choose nt-xent or l2")


def distill(
    tower: PseudoTokenTower,
    image_features: Tensor,
    oti_tokens: Tensor,
    concepts: Sequence[Sequence[str]],
    phrases: Mapping[str, Sequence[Phrase]],
    config: PhiConfig,
    seed: int,
    work: Path,
    on_step: StepListener = lambda step, loss: None,
) -> Distilled:
    """Train a φ on N images in float32, checkpointing into the folder `work`, from whose checkpoint it goes on.

    The loss of a batch is the distance between inverted and φ's pseudo-tokens plus `config.lambda_gpt` times L_gpt: for
    each image a concept is drawn from its first `config.concepts`, then one of that concept's phrases. An epoch is a
    permutation of the images; a last batch that would be smaller is left out.

    Args:
        image_features: (N, D), not normalised: φ's input.
        oti_tokens: (N, W), from `invert`.
        concepts: names of each image's concepts, nearest first; those without phrases are passed over.
        phrases: of each concept, from `phrases_of`. Neither is read where `config.lambda_gpt` is 0.
        on_step: called with steps done and loss, every `REPORT_EVERY` steps, at the end, and first where a
            checkpoint is taken up.

    Raises:
        ShapeError: arguments that do not fit together.
        DataError: no image, or one without a phrase.
    """
    _check(tower, image_features, oti_tokens, concepts)
    usable = _usable(concepts, phrases, config)
    image, target = (t.detach().to(tower.device, torch.float32, copy=True) for t in (image_features, oti_tokens))
    known = PhraseFeatures(tower)

    def loss_of(phi: Phi, batch: Tensor, step: int) -> Tensor:
        words = phi(image[batch.to(tower.device)])
        loss = _distance(target[batch.to(tower.device)], words, config)
        if config.lambda_gpt:
            drawn = _drawn([usable[row] for row in batch.tolist()], phrases, seed, step)
            loss = loss + config.lambda_gpt * known.distances(drawn, words).mean()
        return loss

    rows = len(image)
    schedule = Schedule(
        steps=config.steps or config.epochs * (rows // min(config.batch_size, rows)), batch_size=config.batch_size,
        learning_rate=config.learning_rate, weight_decay=config.weight_decay, dropout=config.dropout,
        checkpoint_every=config.checkpoint_every,
    )  # fmt: skip
    return train_phi((image.shape[1], tower.word_dim), rows, loss_of, schedule, seed, work, tower.device, on_step)


def _distance(target: Tensor, words: Tensor, config: PhiConfig) -> Tensor:
    if config.distance == "l2":
        return functional.mse_loss(words, target)
    return distillation_loss(target, words, temperature=config.temperature)


def _check(tower: PseudoTokenTower, image: Tensor, tokens: Tensor, concepts: Sequence[Sequence[str]]) -> None:
    if image.ndim != 2 or tuple(tokens.shape) != (len(image), tower.word_dim) or len(concepts) != len(image):
        raise ShapeError(
            f"image features {tuple(image.shape)}, pseudo-tokens {tuple(tokens.shape)} and {len(concepts)} lists of "
            f"concepts; they must be (N, D), (N, {tower.word_dim}) and N"
        )
    if not len(image):
        raise DataError("there is no image to learn from")


def _usable(
    concepts: Sequence[Sequence[str]], phrases: Mapping[str, Sequence[Phrase]], config: PhiConfig
) -> list[list[str]]:
    if not config.lambda_gpt:
        return []
    usable = [[name for name in names[: config.concepts] if phrases.get(name)] for names in concepts]
    if empty := [row for row, names in enumerate(usable) if not names]:
        raise DataError(f"image number {empty[0]} has no phrase: there is none for its concepts")
    return usable


def _drawn(
    concepts: Sequence[Sequence[str]], phrases: Mapping[str, Sequence[Phrase]], seed: int, step: int
) -> list[Phrase]:
    generator = torch.Generator().manual_seed(seed_of(seed, step))
    shares = torch.rand(len(concepts), 2, dtype=torch.float64, generator=generator).tolist()
    drawn = []
    for names, (which, one) in zip(concepts, shares, strict=True):
        choices = phrases[names[int(which * len(names))]]
        drawn.append(choices[int(one * len(choices))])
    return drawn
