"""The order of the stages: the left side of Figure 2, then its right side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from scot_core.config import Pipeline
from scot_core.lake import Dataset, Lake
from scot_core.stages.benchmark import benchmark, published
from scot_core.stages.captions import CaptionedImages, captions
from scot_core.stages.embed import Embeddings, embed
from scot_core.stages.finetune import finetune
from scot_core.stages.generate import generate
from scot_core.stages.seed import seed
from scot_core.stages.step import Run
from scot_core.stages.train import train

__all__ = [
    "CaptionedImages",
    "Embeddings",
    "Run",
    "benchmark",
    "captions",
    "embed",
    "finetune",
    "generate",
    "published",
    "seed",
    "settings_of",
    "train",
    "walk",
]


def settings_of(profile: str, overrides: Sequence[str], until: str | None, pipeline: Pipeline) -> dict[str, Any]:
    """What the record of a run says that it was started with."""
    return {"profile": profile, "overrides": list(overrides), "until": until, **pipeline.model_dump(mode="json")}


def walk(run: Run, lake: Lake, pipeline: Pipeline) -> Iterator[Dataset | None]:
    """Run the stages, one at each turn; yields what each hands to the next, None for one that is skipped."""
    pictures = captions(run, lake, pipeline.captions)
    yield pictures.captions
    adapters: Dataset | None = None
    if pipeline.generate.is_mined:
        yield from (None, None)
    else:
        seeds = seed(run, lake, pipeline.seed, pictures.captions)
        yield seeds
        adapters = finetune(run, lake, pipeline.finetune, pictures.captions, seeds)
        yield adapters
    triplets = generate(run, lake, pipeline.generate, pictures.captions, adapters)
    yield triplets
    vectors = embed(run, lake, pipeline.embed, pictures, triplets)
    yield vectors.texts
    combiners = train(run, lake, pipeline.train, triplets, vectors)
    yield combiners
    benchmark(run, lake, pipeline.benchmark, combiners, triplets, vectors)
    yield combiners
