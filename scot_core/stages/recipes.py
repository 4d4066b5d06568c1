"""The order of the stages: the left side of Figure 2, then its right side."""

from __future__ import annotations

from collections.abc import Iterator

from scot_core.config import EmbedConfig, Pipeline
from scot_core.encoders.names import FITTED
from scot_core.lake import Dataset, Lake
from scot_core.stages.benchmark import benchmark, published
from scot_core.stages.captions import CaptionedImages, captions
from scot_core.stages.embed import Embeddings, embed
from scot_core.stages.finetune import finetune
from scot_core.stages.fit import fit
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
    "fit",
    "generate",
    "published",
    "seed",
    "train",
    "using",
    "walk",
]


def using(config: EmbedConfig, key: str) -> EmbedConfig:
    """The configuration of embed with an encoder of table `encoders` in place of `fitted`."""
    return config.model_copy(update={"encoder": f"{FITTED}{key}"})


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
    encoder = pipeline.embed
    if encoder.is_to_fit:
        fitted = fit(run, lake, pipeline.fit, pipeline.generate, pictures.captions)
        yield fitted
        encoder = using(encoder, fitted.key)
    else:
        yield None
    vectors = embed(run, lake, encoder, pictures, triplets)
    yield vectors.texts
    combiners = train(run, lake, pipeline.train, triplets, vectors)
    yield combiners
    benchmark(run, lake, pipeline.benchmark, combiners, triplets, vectors)
    yield combiners
