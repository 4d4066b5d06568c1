"""What loss `scot-grounded` does besides the paper's: it trains in the place where images are, and from a good start.

Images and texts lie apart in the space of an encoder (the modality gap, arXiv 2203.02053), while the gallery that is
searched holds images. So the texts that stand for images are moved by the gap, the Combiner starts as the tuned
weighted sum, some references are captions in the place of their images, and requests are put in several wordings.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

from scot_core.benchmarks.baselines import WEIGHTS, choose_weight
from scot_core.combiner import Combiner
from scot_core.config import TrainConfig
from scot_core.training_set import Gathered, TrainingSet

_AT_ONCE = 1 << 14  # rows in memory
LEAD_WEIGHT = 4  # beside the 10 of the positives, eq. 4
WEIGHED = 2000  # triplets that the weight of the sum is chosen on

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Reference, modification, target and caption of some triplets, (B, D) each."""


def modality_gap(data: TrainingSet) -> Tensor:
    """(D,): the mean of the references' vectors minus that of their captions', over the triplets."""
    return _mean(data.image) - _mean(data.caption)


def moved(texts: Tensor, gap: Tensor) -> Tensor:
    """Vectors (B, D) moved by a gap (D,), and of length one again."""
    return functional.normalize(texts + gap, dim=-1)


def start_as_sum(combiner: Combiner, weight: float) -> None:
    """Make a Combiner, in place, the weighted sum of its inputs: nothing is added, and the scalar is the weight.

    The first layers stay as they are drawn, so that it learns at once. The weight must lie between 0 and 1.
    """
    for layer in (combiner.output, combiner.scalar_output):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(combiner.scalar_output.bias, log(weight / (1 - weight)))


def tuned_weight(data: TrainingSet) -> float:
    """The text's weight in the tuned sum: chosen on the first triplets, among the images that training has."""
    first = slice(0, WEIGHED)
    columns = (data.image[first], data.modification[first], data.modified_caption[first], data.images)
    image, text, target, images = (column.cpu().numpy() for column in columns)
    return choose_weight(image, text, target, images, grid=WEIGHTS[1:-1])


def lead_loss(composed: Tensor, image: Tensor, target: Tensor, caption: Tensor, lead: float) -> Tensor:
    """How much composed vectors (B, D) fall short of their lead, on average, as it is weighed.

    max(0, lead + max(cos(composed, reference), cos(composed, caption)) - cos(composed, target)), all of length one.
    """
    start = torch.maximum((composed * image).sum(-1), (composed * caption).sum(-1))
    return LEAD_WEIGHT * functional.relu(lead + start - (composed * target).sum(-1)).mean()


def grounded(data: TrainingSet, config: TrainConfig) -> Callable[[Tensor], Batch]:
    """What the triplets of some rows (B,) are in training; it draws from torch's random numbers on the CPU."""
    gap = modality_gap(data)
    asked = (data.modification, *data.rewordings)

    def batch(rows: Tensor) -> Batch:
        image, caption = data.image[rows], data.caption[rows]
        as_caption = torch.rand(len(rows)) < config.moved_captions
        image = torch.where(as_caption.to(rows.device)[:, None], moved(caption, gap), image)
        wording = torch.randint(len(asked), (len(rows),)).to(rows.device)
        text = torch.stack([part[rows] for part in asked])[wording, torch.arange(len(rows), device=rows.device)]
        target = moved(data.modified_caption[rows], config.gap * gap)
        return image, text, target, moved(caption, config.gap * gap)

    return batch


def _mean(part: Tensor | Gathered) -> Tensor:
    total = torch.zeros(part.shape[1], dtype=torch.float64)
    for start in range(0, len(part), _AT_ONCE):
        total += part[start : start + _AT_ONCE].sum(0, dtype=torch.float64).cpu()
    return (total / len(part)).float()
