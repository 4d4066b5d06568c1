"""Training the Combiner on frozen embeddings (§3.2-3.3).

The training set lies on the device, or in files of which a step reads its own rows. What happens at a step depends on
the seed and the step alone, so a run that is taken up from its last checkpoint ends with the same weights as one that
was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from scot_core.combiner import Combiner
from scot_core.config import TrainConfig
from scot_core.descent import StepListener, descend
from scot_core.errors import ConfigError
from scot_core.grounding import Batch, grounded, lead_loss, start_as_sum, tuned_weight
from scot_core.losses import by_name, parameters
from scot_core.training_set import TrainingSet
from scot_core.vectors import multiplies_bfloat16


@dataclass(frozen=True, slots=True)
class Trained:
    """A Combiner in evaluation mode on the CPU, and its curve: (step, loss) every `REPORT_EVERY` steps."""

    combiner: Combiner
    curve: list[tuple[int, float]]


def train_combiner(
    data: TrainingSet, config: TrainConfig, seed: int, work: Path, on_step: StepListener = lambda step, loss: None
) -> Trained:
    """Train one Combiner for `config.steps` steps of AdamW, checkpointing into the folder `work`.

    Continues from the checkpoint in `work` where there is one. Batches are drawn without replacement within
    an epoch; one smaller than `config.batch_size` is used only where there are fewer triplets than that.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reduced = config.precision == "bfloat16"
    if reduced and not multiplies_bfloat16(on_gpu=device.type == "cuda"):
        raise ConfigError(
            "train.precision=bfloat16 is slower than float32 here, without instructions for it: leave it out"
        )
    torch.manual_seed(seed)
    combiner = Combiner(data.image.shape[1], config.projection_dim, config.hidden_dim, config.dropout).to(device)
    loss_name = "scot" if config.is_grounded else config.loss
    objective = by_name(loss_name, **_loss_parameters(config, loss_name))
    data = data.to(device)
    batch_of: Callable[[Tensor], Batch] = partial(as_written, data)
    if config.is_grounded:
        batch_of = grounded(data, config)
        if config.start == "sum":
            start_as_sum(combiner, tuned_weight(data))

    def loss_of(batch: Tensor, _: int) -> Tensor:
        image, text, target, caption = batch_of(batch.to(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            composed = combiner(image, text).float()
        loss = objective(composed, target, caption)
        leads = config.is_grounded and config.lead
        return loss + lead_loss(composed, image, target, caption, config.lead) if leads else loss

    curve = descend(combiner, loss_of, len(data.image), config, seed, work, on_step)
    return Trained(combiner.eval().cpu(), curve)


def as_written(data: TrainingSet, rows: Tensor) -> Batch:
    """The vectors of some rows (B,), as the paper trains on them."""
    return data.image[rows], data.modification[rows], data.modified_caption[rows], data.caption[rows]


def _loss_parameters(config: TrainConfig, loss: str) -> dict[str, float]:
    """The paper's scales and margin, as far as a loss has them: the departures have none."""
    return {name: getattr(config, name) for name in parameters(loss) if name in type(config).model_fields}
