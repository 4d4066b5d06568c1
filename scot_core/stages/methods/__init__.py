"""Every method that a lake has what it needs for, measured on the same queries: table `scores`, a dataset a method."""

from __future__ import annotations

from dataclasses import dataclass

from scot_core.config import EmbedConfig, MethodsConfig, PublishedConfig
from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Lake
from scot_core.methods import METHODS, method
from scot_core.stages.benchmark.chosen import choose_combiner
from scot_core.stages.embed.benchmarks import embed_benchmark_images, embed_benchmark_texts, open_published
from scot_core.stages.methods.exams import Exam, exams, published_exam
from scot_core.stages.methods.ground import Ground, LakeKnown
from scot_core.stages.methods.measure import MeasureMethod
from scot_core.stages.methods.table import Missing
from scot_core.stages.step import Run

BASELINE = "tuned-sum"
"""What differences are taken to where nobody names another."""


@dataclass(frozen=True)
class Sitting:
    """What was measured on one benchmark, by method, and what could not be."""

    benchmark: str
    scores: dict[str, Dataset]
    missing: list[Missing]


def methods(run: Run, lake: Lake, config: MethodsConfig, combiners: str | None = None) -> list[Sitting]:
    """Measure on the benchmarks of the lake's own. `combiners` is a key; by default the promoted or newest.

    Raises LakeError where there is no benchmark, ConfigError for a method that does not exist.
    """
    ground = Ground.of(lake, combiners)
    known = LakeKnown(ground, config.seeds)
    found = exams(ground, known, config.development)
    if not found:
        raise LakeError(
            f"{lake.url} holds no benchmark of {ground.images.source}: methods are measured on the catalogue's and on "
            "that of mined triplets; others by `scot benchmark`"
        )
    return [_sit(run, config, ground, known, exam) for exam in found]


def published_methods(
    run: Run, lake: Lake, config: PublishedConfig, combiner: str | None, encoder: EmbedConfig | None,
    asked: MethodsConfig,
) -> Sitting:  # fmt: skip
    """Measure on a published benchmark, or on queries of one's own. Raises what `choose_combiner` raises, too."""
    chosen, embed = choose_combiner(lake, combiner, encoder)
    if chosen is not None and chosen.dataset is None:
        raise ConfigError("a folder of weights is measured without --method, or give a key of table combiners")
    opened = open_published(config)
    images = run(embed_benchmark_images(lake, config, embed, opened))["embeddings"]
    texts = run(embed_benchmark_texts(lake, config, embed, opened))["embeddings"]
    ground = Ground.of(lake, None if chosen is None or chosen.dataset is None else chosen.dataset.key, images)
    exam = published_exam(config, opened, images, texts)
    return _sit(run, asked, ground, LakeKnown(ground, asked.seeds), exam)


@dataclass(frozen=True)
class Outlook:
    """Of one benchmark: the methods that are measured, those that could be, and those that lack something."""

    benchmark: str
    measured: list[str]
    to_do: list[str]
    missing: list[Missing]


def outlook(lake: Lake, config: MethodsConfig) -> list[Outlook]:
    """What `methods` would do; nothing is run or loaded. Empty where the lake holds no benchmark."""
    try:
        ground = Ground.of(lake)
        known = LakeKnown(ground, config.seeds)
        found = exams(ground, known, config.development)
    except LakeError:
        return []
    outlooks = []
    for exam in found:
        steps, missing = _steps(config, ground, known, exam)
        done = {name: step.committed() is not None for name, step in steps.items()}
        measured, to_do = ([name for name in steps if done[name] is is_done] for is_done in (True, False))
        outlooks.append(Outlook(exam.name, measured, to_do, missing))
    return outlooks


def _sit(run: Run, config: MethodsConfig, ground: Ground, known: LakeKnown, exam: Exam) -> Sitting:
    steps, missing = _steps(config, ground, known, exam)
    sitting = Sitting(exam.name, {}, missing)
    for name, step in steps.items():
        if method(name).words and step.committed() is None:
            try:
                _ = known.tower
            except ConfigError as error:
                missing.append(Missing(name, str(error), ""))
                continue
        sitting.scores[name] = run(step)["scores"]
    return sitting


def _steps(
    config: MethodsConfig, ground: Ground, known: LakeKnown, exam: Exam
) -> tuple[dict[str, MeasureMethod], list[Missing]]:  # fmt: skip
    """What measures each method that the lake has what it needs for, and the others."""
    steps, missing = {}, []
    for name in config.names or tuple(METHODS):
        one = method(name)
        try:
            learned = [dataset for need in one.needs for dataset in ground.find(need)]
        except LakeError as error:
            missing.append(Missing(name, str(error), "; ".join(need.made_by for need in one.needs)))
        else:
            steps[name] = MeasureMethod(ground.lake, config, exam, one, learned, known)
    return steps, missing
