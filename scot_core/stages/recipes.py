"""The order of the stages: the left side of Figure 2, then its right side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from scot_core.config import DistillConfig, EmbedConfig, Pipeline
from scot_core.encoders.fitted_names import FITTED
from scot_core.lake import Dataset, Lake
from scot_core.stages.benchmark import benchmark, published
from scot_core.stages.captions import CaptionedImages, captions
from scot_core.stages.embed import Embeddings, embed
from scot_core.stages.finetune import finetune
from scot_core.stages.fit import fit
from scot_core.stages.gates import require_no_fall
from scot_core.stages.generate import generate
from scot_core.stages.invert import Inversion, invert
from scot_core.stages.methods import methods, published_methods
from scot_core.stages.seed import seed
from scot_core.stages.step import Run
from scot_core.stages.train import train

__all__ = [
    "CaptionedImages",
    "Embeddings",
    "Inversion",
    "Run",
    "benchmark",
    "captions",
    "distill",
    "embed",
    "finetune",
    "fit",
    "generate",
    "invert",
    "methods",
    "published",
    "published_methods",
    "require_no_fall",
    "seed",
    "settings_of",
    "train",
    "using",
    "walk",
]


def distill(
    run: Run, lake: Lake, config: DistillConfig, captions: Dataset, embed: EmbedConfig, tokens: Dataset | None
) -> Dataset:  # fmt: skip
    """The stage of this name, with torch and all of SEARLE, which no other stage needs."""
    from scot_core.stages.distill import distill

    return distill(run, lake, config, captions, embed, tokens)


def settings_of(profile: str, overrides: Sequence[str], until: str | None, pipeline: Pipeline) -> dict[str, Any]:
    """What the record of a run says that it was started with."""
    return {"profile": profile, "overrides": list(overrides), "until": until, **pipeline.model_dump(mode="json")}


def using(config: EmbedConfig, key: str) -> EmbedConfig:
    """The configuration of embed with an encoder of table `encoders` in place of `fitted`."""
    return config.model_copy(update={"encoder": f"{FITTED}{key}"})


def walk(run: Run, lake: Lake, pipeline: Pipeline) -> Iterator[Dataset | None]:
    """Run the stages, one at each turn; yields what each hands to the next, None for one that is skipped.

    Stages that the pipeline does not ask for have no turn.
    """
    pictures = captions(run, lake, pipeline.captions)
    yield pictures.captions
    tokens: Dataset | None = None
    if pipeline.invert is not None:
        tokens = invert(run, lake, pipeline.invert, pictures.captions, pipeline.embed).tokens
        yield tokens
    if pipeline.distill is not None:
        yield distill(run, lake, pipeline.distill, pictures.captions, pipeline.embed, tokens)
    adapters: Dataset | None = None
    if not pipeline.generate.needs_adapter:
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
    vectors = embed(run, lake, encoder, pictures, triplets)
    yield vectors.texts
    combiners = train(run, lake, pipeline.train, triplets, vectors)
    yield combiners
    measured = benchmark(run, lake, pipeline.benchmark, combiners, triplets, vectors)
    require_no_fall(lake, measured.values(), pipeline.benchmark.max_drop)
    yield combiners
