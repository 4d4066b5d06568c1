"""The order of the stages: the left side of Figure 2, then its right side."""

from __future__ import annotations

from scot_core.stages.benchmark import benchmark, published
from scot_core.stages.captions import Pictures, captions
from scot_core.stages.embed import Embeddings, embed
from scot_core.stages.finetune import finetune
from scot_core.stages.generate import generate
from scot_core.stages.seed import seed
from scot_core.stages.step import Run
from scot_core.stages.train import train

__all__ = [
    "Embeddings",
    "Pictures",
    "Run",
    "benchmark",
    "captions",
    "embed",
    "finetune",
    "generate",
    "published",
    "seed",
    "train",
]
