"""Every method that a lake has what it needs for, measured on the same queries: table `scores`, a dataset a method."""

from __future__ import annotations

from collections.abc import Sequence
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
    found = exams(ground, known)
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


def _sit(run: Run, config: MethodsConfig, ground: Ground, known: LakeKnown, exam: Exam) -> Sitting:
    sitting = Sitting(exam.name, {}, [])
    for name in config.names or tuple(METHODS):
        one = method(name)
        try:
            learned: Sequence[Dataset] = [dataset for need in one.needs for dataset in ground.find(need)]
            step = MeasureMethod(ground.lake, config, exam, one, learned, known)
            if one.words and step.committed() is None:
                _ = known.tower
        except (LakeError, ConfigError) as error:
            command = "" if isinstance(error, ConfigError) else "; ".join(need.made_by for need in one.needs)
            sitting.missing.append(Missing(name, str(error), command))
            continue
        sitting.scores[name] = run(step)["scores"]
    return sitting
