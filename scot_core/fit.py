"""Fitting an image-text encoder by contrast: pictures and captions of a batch find each other (CLIP's loss, LiT).

What happens at a step depends on the seed and the step alone, so a run that is taken up from its last checkpoint ends
with the same weights as one that was never stopped. The weights that are kept are those of the best held-out recall.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from scot_core import checkpoint
from scot_core.config import FitConfig
from scot_core.descent import CHECKPOINT
from scot_core.draws import batches, reseed, seed_of
from scot_core.errors import DataError

MEASUREMENTS = 20  # of the recall, over all steps
FIRST_SCALE = 2.7  # logarithm of the first inverse temperature
HIGHEST_SCALE = 4.6  # and of its bound, CLIP's 100
WARM_UP, START = 0.3, 0.04  # share of the steps in which the learning rate rises, and where it starts


class Learner(Protocol):
    """What is fitted: a model, and how it sees rows of the captioned images."""

    @property
    def model(self) -> nn.Module: ...

    def pairs(self, rows: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Vectors (n, dim) of the pictures of rows, and of their captions, with gradients."""
        ...

    def recall(self, rows: Tensor) -> float:
        """Percent of the rows whose picture finds its caption first among all captions of the collection."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Which captioned images are learned from, and which tell when to stop: row numbers, int64.

    `captions[i]` are the rows of one training caption; no batch has a caption twice.
    """

    captions: Sequence[Tensor]
    validation: Tensor

    def __post_init__(self) -> None:
        if len(self.captions) < 2 or not len(self.validation):
            raise DataError(
                f"{len(self.captions)} different captions to fit an encoder to, and {len(self.validation)} pictures to "
                "measure it on, are too few: bring more captioned pictures, or take a published encoder "
                "(embed.encoder=clip-b32)"
            )


@dataclass(frozen=True, slots=True)
class Curve:
    """(step, loss) and (step, percent of the validation rows whose caption is found), and the step that was kept."""

    losses: list[tuple[int, float]]
    recalls: list[tuple[int, float]]

    @property
    def best(self) -> int:
        return max(self.recalls, key=lambda point: (point[1], -point[0]))[0]


def fit(learner: Learner, rows: Rows, config: FitConfig, work: Path, on_step: Callable[[int], None]) -> Curve:
    """Train in place, with checkpoints in the folder `work`; the model ends in evaluation mode with its best weights.

    `on_step(n)` is told how many of `config.steps` are done.
    """
    model = learner.model
    torch.manual_seed(seed_of(config.seed, -1))
    scale = nn.Parameter(torch.tensor(FIRST_SCALE))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": [scale], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    kept = {f"best/{name}": value.detach().clone() for name, value in model.state_dict().items()}
    trained = {**model.state_dict(keep_vars=True), "scale": scale, **kept}
    trained = {name.replace("/", "."): value for name, value in trained.items()}
    first, record = checkpoint.restore(work / CHECKPOINT, trained, optimizer)
    curve = Curve([(int(s), float(v)) for kind, s, v in record if kind == "loss"],
                  [(int(s), float(v)) for kind, s, v in record if kind == "recall"])  # fmt: skip
    on_step(first)
    every = max(1, config.steps // MEASUREMENTS)
    drawn = batches(len(rows.captions), config.batch_size, config.seed, first)
    for step, batch in zip(range(first, config.steps), drawn, strict=False):
        if _is_over(curve, config.patience, every, step):
            break
        model.train()
        reseed(seed_of(config.seed, step))  # dropout of this step
        draw = torch.Generator().manual_seed(seed_of(config.seed, step))
        chosen = torch.stack([_one_of(rows.captions[number], draw) for number in batch.tolist()])
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(step / config.steps)
        loss = contrast(*learner.pairs(chosen, draw), scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done = step + 1
        if done % every == 0 or done == config.steps:
            model.eval()
            curve.losses.append((done, float(loss.detach())))
            curve.recalls.append((done, learner.recall(rows.validation)))
            if curve.best == done:
                for name, value in model.state_dict().items():
                    kept[f"best/{name}"].copy_(value)
            on_step(done)
        if done % config.checkpoint_every == 0 and done < config.steps:
            record = [("loss", *point) for point in curve.losses] + [("recall", *point) for point in curve.recalls]
            checkpoint.save(work / CHECKPOINT, trained, optimizer, done, record=record)
    model.load_state_dict({name.removeprefix("best/"): value for name, value in kept.items()})
    model.eval()
    return curve


def contrast(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """The mean of both cross entropies over the similarities of a batch, (n, dim) each, L2-normalised."""
    similarity = scale.clamp(max=HIGHEST_SCALE).exp() * images @ texts.T
    own = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(similarity, own) + functional.cross_entropy(similarity.T, own)) / 2


def _one_of(rows: Tensor, draw: torch.Generator) -> Tensor:
    return rows[int(torch.randint(len(rows), (), generator=draw))]


def _rate(share: float) -> float:
    """Of the highest learning rate, after a share of the steps: a cosine up, and a longer one down to nothing."""
    if share < WARM_UP:
        return START + (1 - START) * (1 - math.cos(math.pi * share / WARM_UP)) / 2
    return (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2


def _is_over(curve: Curve, patience: int, every: int, step: int) -> bool:
    return bool(curve.recalls) and step - curve.best >= patience * every
