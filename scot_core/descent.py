"""The steps of a training by AdamW: what the Combiner's and φ's have in common.

What happens at a step depends on the seed and the step alone, so a run that is taken up from its last checkpoint ends
with the weights of one that was never stopped, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from scot_core import checkpoint
from scot_core.draws import batches, reseed, seed_of
from scot_core.layers import zero_grad

CHECKPOINT = "checkpoint.safetensors"
REPORT_EVERY = 10
StepListener = Callable[[int, float], None]
Loss = Callable[[Tensor, int], Tensor]
"""A scalar from row numbers (B,) int64 and the number of the step."""


class Schedule(Protocol):
    """How long, and by which steps of AdamW."""

    @property
    def steps(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def checkpoint_every(self) -> int: ...


def descend(
    model: nn.Module, loss_of: Loss, rows: int, schedule: Schedule, seed: int, work: Path, on_step: StepListener
) -> list[tuple[int, float]]:
    """Train a model in place, checkpointing into the folder `work`, from whose checkpoint it goes on.

    Batches are drawn without replacement within an epoch; one smaller than `batch_size` is used only where there are
    fewer rows than that. `on_step` is called with steps done and loss, every `REPORT_EVERY` steps, at the end, and
    first where a checkpoint is taken up. The model is left in training mode.

    Returns the curve: (step, loss) every `REPORT_EVERY` steps and at the end.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    trained = dict(model.named_parameters())
    first, record = checkpoint.restore(work / CHECKPOINT, trained, optimizer)
    curve = [(int(step), float(loss)) for step, loss in record]
    if curve:
        on_step(*curve[-1])
    model.train()
    drawn = batches(rows, schedule.batch_size, seed, first)
    for step, batch in zip(range(first, schedule.steps), drawn, strict=False):
        reseed(seed_of(seed, step))  # dropout of this step
        loss = loss_of(batch, step)
        zero_grad(model.parameters())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        done = step + 1
        if done % REPORT_EVERY == 0 or done == schedule.steps:
            curve.append((done, float(loss.detach())))
            on_step(done, curve[-1][1])
        if done % schedule.checkpoint_every == 0 and done < schedule.steps:
            checkpoint.save(work / CHECKPOINT, trained, optimizer, done, record=curve)
    return curve
