"""The stages as sequences of steps, whoever runs them: the left side of Figure 2, then its right side.

A recipe is given a `Run`: a flow gives one that submits Prefect tasks, a test one that loops, and a caller
who only wants to know what a stage left behind gives `look_up`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import SecretStr

from scot_core.config import (
    BenchmarkConfig,
    CaptionsConfig,
    EmbedConfig,
    FinetuneConfig,
    GenerateConfig,
    PublishedConfig,
    SeedConfig,
    TrainConfig,
)
from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake
from scot_core.stages.benchmark import MeasureCatalogue
from scot_core.stages.captions import DrawCatalogue
from scot_core.stages.chosen import choose_combiner
from scot_core.stages.embed import EmbedImages, EmbedTexts
from scot_core.stages.finetune import Finetune
from scot_core.stages.generate import Write
from scot_core.stages.generate_remote import WriteRemotely
from scot_core.stages.measure_published import MeasurePublished
from scot_core.stages.published import EmbedPublishedImages, EmbedPublishedTexts, open_published
from scot_core.stages.read_captions import ReadCaptions
from scot_core.stages.replies import ReadReplies
from scot_core.stages.seed import AskForSeeds, require_whole
from scot_core.stages.seed_batch import batch_rounds
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
    if config.source == "catalogue":
        galleries, drawn = run(DrawCatalogue(lake, config))
        return Pictures(drawn, galleries)
    _, read = run(ReadCaptions(lake, config))
    return Pictures(read, None)


def seed(run: Run, lake: Lake, config: SeedConfig, captions: Dataset, api_key: SecretStr | None = None) -> Dataset:
    """Returns the seed triplets; `api_key` is that of the environment where none is given.

    Raises BudgetReached where `max_usd` ended before the captions did, unless the configuration accepts that; what
    was paid for is committed all the same.
    """
    if config.mode == "batch":
        for step in batch_rounds(lake, config, captions, api_key):
            run(step)
    (replies,) = run(AskForSeeds(lake, config, captions, api_key))
    _, triplets = run(ReadReplies(lake, "seed", "seed", "json", captions, [replies]))
    require_whole(replies, triplets, config)
    return triplets


def finetune(run: Run, lake: Lake, config: FinetuneConfig, captions: Dataset, seeds: Dataset) -> Dataset:
    """Returns the adapter."""
    (adapters,) = run(Finetune(lake, config, captions, seeds))
    return adapters


def generate(
    run: Run, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset,
    api_key: SecretStr | None = None,
) -> Dataset:  # fmt: skip
    """Returns the generated triplets: a first try for every caption, further ones for rejects."""
    attempts: list[Dataset] = []
    for _ in range(config.attempts):
        if config.is_remote:
            attempts += run(WriteRemotely(lake, config, captions, adapters, tuple(attempts), api_key))
        else:
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
) -> dict[str, Dataset]:
    """Returns the rows of each benchmark by its name; the catalogue's only where the captions are the catalogue's."""
    measured: dict[str, Dataset] = {}
    for name in config.names:
        if name != "catalogue":
            measure = PublishedConfig(
                name=name, allow_missing=config.allow_missing, resamples=config.resamples, seed=config.seed
            )
            measured[name] = published(run, lake, measure, combiners.key, None)
        elif vectors.gallery is not None:
            inputs = (combiners, triplets, vectors.images, vectors.texts, vectors.gallery)
            (measured[name],) = run(MeasureCatalogue(lake, config, *inputs))
    return measured


def published(
    run: Run, lake: Lake, config: PublishedConfig, combiner: str | None, encoder: EmbedConfig | None
) -> Dataset:
    """Returns the rows of one published benchmark; see `choose_combiner` for what None means."""
    chosen, embed = choose_combiner(lake, combiner, encoder)
    opened = open_published(config)
    _, images = run(EmbedPublishedImages(lake, config, embed, opened))
    (texts,) = run(EmbedPublishedTexts(lake, config, embed, opened))
    (rows,) = run(MeasurePublished(lake, config, opened, images, texts, chosen))
    return rows


def look_up(step: Step) -> tuple[Dataset, ...]:
    """What a step committed. Raises LakeError where it was not run."""
    found = step.committed()
    if found is None:
        raise LakeError(
            f"{step.outputs[-1].table}/{step.outputs[-1].key} is not in the lake: run stage {step.stage} first"
        )
    return found
