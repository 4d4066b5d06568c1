"""The stages as sequences of steps, whoever runs them: the left side of Figure 2, then its right side.

A recipe is given a `Run`: a flow gives one that submits Prefect tasks, a test one that loops, and a caller
who only wants to know what a stage left behind gives `look_up`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scot_core.config import (
    BenchmarkConfig,
    CaptionsConfig,
    EmbedConfig,
    FinetuneConfig,
    GenerateConfig,
    SeedConfig,
    TrainConfig,
)
from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake
from scot_core.stages.benchmark import MeasureCatalogue
from scot_core.stages.captions import DrawCatalogue
from scot_core.stages.embed import EmbedImages, EmbedTexts
from scot_core.stages.finetune import Finetune
from scot_core.stages.generate import Write
from scot_core.stages.own_captions import ReadFolder
from scot_core.stages.replies import ReadReplies
from scot_core.stages.seed import AskForSeeds
from scot_core.stages.step import Step
from scot_core.stages.train import TrainCombiner

Run = Callable[[Step], tuple[Dataset, ...]]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Captioned images, and the images of the source's benchmark where it has one."""

    captions: Dataset
    galleries: Dataset | None


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings of the captioned images, of the triplets' texts, and of the benchmark's images."""

    images: Dataset
    texts: Dataset
    gallery: Dataset | None


def captions(run: Run, lake: Lake, config: CaptionsConfig) -> Pictures:
    if config.source == "folder":
        _, read = run(ReadFolder(lake, config))
        return Pictures(read, None)
    galleries, drawn = run(DrawCatalogue(lake, config))
    return Pictures(drawn, galleries)


def seed(run: Run, lake: Lake, config: SeedConfig, captions: Dataset) -> Dataset:
    """Returns the seed triplets."""
    (replies,) = run(AskForSeeds(lake, config, captions))
    _, triplets = run(ReadReplies(lake, "seed", "seed", "json", captions, [replies]))
    return triplets


def finetune(run: Run, lake: Lake, config: FinetuneConfig, captions: Dataset, seeds: Dataset) -> Dataset:
    """Returns the adapter."""
    (adapters,) = run(Finetune(lake, config, captions, seeds))
    return adapters


def generate(run: Run, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset) -> Dataset:
    """Returns the generated triplets: a first try for every caption, further ones for rejects."""
    attempts: list[Dataset] = []
    for _ in range(config.attempts):
        attempts += run(Write(lake, config, captions, adapters, tuple(attempts)))
    _, triplets = run(ReadReplies(lake, "generate", "generated", "lines", captions, attempts))
    return triplets


def embed(run: Run, lake: Lake, config: EmbedConfig, pictures: Pictures, triplets: Dataset) -> Vectors:
    (images,) = run(EmbedImages(lake, config, pictures.captions))
    (texts,) = run(EmbedTexts(lake, config, triplets))
    if pictures.galleries is None:
        return Vectors(images, texts, None)
    (gallery,) = run(EmbedImages(lake, config, pictures.galleries))
    return Vectors(images, texts, gallery)


def train(run: Run, lake: Lake, config: TrainConfig, triplets: Dataset, vectors: Vectors) -> Dataset:
    """Returns the Combiners."""
    (combiners,) = run(TrainCombiner(lake, config, triplets, vectors.images, vectors.texts))
    return combiners


def benchmark(
    run: Run, lake: Lake, config: BenchmarkConfig, combiners: Dataset, triplets: Dataset, vectors: Vectors
) -> Dataset | None:
    """Returns the benchmark's rows, None where the captions' source has no benchmark of its own."""
    if vectors.gallery is None:
        return None
    (rows,) = run(MeasureCatalogue(lake, config, combiners, triplets, vectors.images, vectors.texts, vectors.gallery))
    return rows


def look_up(step: Step) -> tuple[Dataset, ...]:
    """What a step committed. Raises LakeError where it was not run."""
    found = step.committed()
    if found is None:
        raise LakeError(
            f"{step.outputs[-1].table}/{step.outputs[-1].key} is not in the lake: run stage {step.stage} first"
        )
    return found
