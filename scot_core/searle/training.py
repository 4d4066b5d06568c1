"""Training a φ: what every way of learning one shares. What it learns from is for its loss to say.

What happens at a step depends on the seed and the step alone, so a run that is taken up from its last checkpoint ends
with the weights of one that was never stopped, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scot_core.descent import StepListener, descend
from scot_core.errors import ConfigError
from scot_core.searle.phi import Phi

WIDENING = 4
"""φ's hidden layers are this many times as wide as the image feature."""

Loss = Callable[[Phi, Tensor, int], Tensor]
"""A scalar from φ in training mode, row numbers (B,) int64 and the number of the step."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a φ is trained, by AdamW. Raises ConfigError for a value that cannot be."""

    steps: int
    batch_size: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    dropout: float = 0.5
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "learning_rate", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} of the training of φ must be positive, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Distilled:
    """φ in evaluation mode on the CPU, and its curve: (step, loss) every `REPORT_EVERY` steps."""

    phi: Phi
    curve: list[tuple[int, float]]


def train_phi(
    sizes: tuple[int, int],
    rows: int,
    loss_of: Loss,
    schedule: Schedule,
    seed: int,
    work: Path,
    device: torch.device,
    on_step: StepListener = lambda step, loss: None,
) -> Distilled:
    """Train a φ between features and word embeddings of these `sizes`, checkpointing into the folder `work`, from
    whose checkpoint it goes on.

    An epoch is a permutation of the rows; a last batch that would be smaller is left out. `on_step` is called with
    steps done and loss, every `REPORT_EVERY` steps, at the end, and first where a checkpoint is taken up.
    """
    torch.manual_seed(seed)
    width, word_dim = sizes
    phi = Phi(width, WIDENING * width, word_dim, schedule.dropout).to(device)
    curve = descend(phi, lambda batch, step: loss_of(phi, batch, step), rows, schedule, seed, work, on_step)
    return Distilled(phi.eval().cpu(), curve)
