"""LinCIR (arXiv 2312.01998): φ learns from captions alone, by writing a caption's own feature in place of its keywords.

Read beside github.com/navervision/lincir (1dec42d): train_phi.py and loader.py. As there: every run of keywords of a
caption is replaced by the same pseudo-token, φ(caption feature + noise), noise being normal and times a number drawn
uniformly from [0, 1) for each caption; the loss is the mean squared difference between the features of the caption
and of what stands in its place, neither normalised; a caption without keywords is "a photo of $". Departures:

- Keywords are the runs of words that are no function words (a list). There, spaCy's tagger tells nouns, proper
  nouns, adjectives and determiners, and every further occurrence of a keyword's letters is replaced as well.
- φ reads features of length sqrt(D), text while it learns and images when it is asked, since the lake keeps unit
  vectors; there, both are as CLIP gives them. `noise` is relative to that.
- The learning rate is constant from the first step, as in that project's command (AdamW 1e-4, weight decay 0.01,
  dropout 0.5, 512 captions a step, 20,000 steps); there is no selection by validation on CIRR. Its captions are
  CC3M's and two collections of prompts; here they are those of the lake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from scot_core.descent import StepListener
from scot_core.draws import seed_of
from scot_core.errors import ConfigError, DataError
from scot_core.searle.keywords import runs_of_keywords
from scot_core.searle.phi import Phi
from scot_core.searle.sentences import Sentence
from scot_core.searle.towers import PseudoTokenTower
from scot_core.searle.training import Distilled, Schedule, train_phi

_AT_ONCE = 512
_EMPTY = Sentence.parse("a photo of $")


@dataclass(frozen=True)
class LincirConfig:
    """How loud the noise is, times a share drawn for each caption. Raises ConfigError for less than none."""

    noise: float = 1.0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ConfigError(f"the noise of LinCIR must not be negative, not {self.noise}")


def without_keywords(caption: str) -> Sentence:
    """A caption with the pseudo-token in the place of each run of keywords; "a photo of $" where it has none."""
    runs = runs_of_keywords(caption)
    if not runs:
        return _EMPTY
    ends = [0, *(end for _, end in runs)]
    before, *between = [caption[end:start] for end, (start, _) in zip(ends, runs, strict=False)]
    after, *more = [*between, caption[ends[-1] :]]
    return Sentence(before, after, tuple(more))


def train_lincir(
    tower: PseudoTokenTower,
    captions: Sequence[str],
    config: LincirConfig,
    schedule: Schedule,
    seed: int,
    work: Path,
    on_step: StepListener = lambda step, loss: None,
) -> Distilled:
    """Train a φ on captions in float32, checkpointing into the folder `work`, from whose checkpoint it goes on.

    Raises DataError where there is no caption.
    """
    if not captions:
        raise DataError("there is no caption to learn from")
    sentences = [without_keywords(caption) for caption in captions]
    target = torch.cat([tower.texts(captions[at : at + _AT_ONCE]) for at in range(0, len(captions), _AT_ONCE)]).float()
    feature = functional.normalize(target, dim=1) * target.shape[1] ** 0.5

    def loss_of(phi: Phi, batch: Tensor, step: int) -> Tensor:
        rows = batch.to(tower.device)
        noise = config.noise * _noise(len(batch), feature.shape[1], seed_of(seed, step)).to(tower.device)
        words = phi(feature[rows] + noise)
        written = tower.features([sentences[row] for row in batch.tolist()], words)
        return functional.mse_loss(written.float(), target[rows])

    sizes = (feature.shape[1], tower.word_dim)
    return train_phi(sizes, len(captions), loss_of, schedule, seed, work, tower.device, on_step)


def _noise(rows: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 1, generator=generator) * torch.randn(rows, width, generator=generator)
