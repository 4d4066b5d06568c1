"""Before any work on captions of one's own: whether encoder, teacher and language model fit them, on a sample.

It takes seconds. What does not fit is a sentence that names the settings which help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scot_core.config import EmbedConfig, FinetuneConfig, Pipeline, SeedConfig
from scot_core.encoders.fitted_names import TO_FIT
from scot_core.encoders.presence import towers_missing
from scot_core.errors import ConfigError, ScotError
from scot_core.lake import Dataset, Lake
from scot_core.stages import recipes
from scot_core.stages.preflight.faults import (
    Probe,
    chance_fault,
    counts,
    fitting_fault,
    folders_fault,
    measure_fault,
    model_fault,
    probe,
    teacher_fault,
)
from scot_core.stages.preflight.sample import Sample, sample, sample_in
from scot_core.stages.step import Committed, Work

SETTINGS = (
    "Settings are written as --set takes them; a deployment takes them in overrides of scot/regenerate, and without "
    "their first word in config of its own stage. To go on all the same: anyway"
)


@dataclass(frozen=True, slots=True)
class Tried:
    """What was found on a sample: what does not fit, and settings that take the place of counts larger than the data.

    `probe` is None where there was no encoder to try yet, or no picture.
    """

    sample: Sample
    faults: tuple[str, ...]
    cut: tuple[str, ...]
    probe: Probe | None


def tried(lake: Lake, pipeline: Pipeline) -> Tried | None:
    """None where captions are drawn, or vectors of them are in the lake already.

    Raises ModelError where the encoder's weights cannot be had, and DataError where the captions cannot.
    """
    if pipeline.captions.is_drawn or _is_embedded(lake, pipeline):
        return None
    found = sample(pipeline.captions)
    faults = [*_faults_of_writers(pipeline, found.captions), *folders_fault(pipeline.train.folders, found)]
    probed = None
    if pipeline.embed.is_to_fit:
        missing = towers_missing(pipeline.fit)
        faults += fitting_fault(found) if missing is None else [missing]
    else:
        probed = probe(pipeline.embed, found, lake)
        if probed is not None and probed.is_chance:
            faults.append(chance_fault(pipeline.embed, probed))
    if "mined" in pipeline.benchmark.names:
        faults += measure_fault(pipeline.generate, found)
    return Tried(found, tuple(faults), tuple(counts(pipeline, found)), probed)


def require(lake: Lake, pipeline: Pipeline) -> None:
    """Raises ConfigError where something does not fit captions of one's own, and what `tried` raises."""
    if pipeline.captions.source == "folder" and (found := tried(lake, pipeline)) is not None:
        _refuse(found.faults)


def require_teacher(config: SeedConfig, captions: Dataset) -> None:
    """Raises ConfigError where whoever writes the seeds cannot write for captions of one's own."""
    if _are_ones_own(captions):
        _refuse(teacher_fault(config, sample_in(captions).captions))


def require_language_model(config: FinetuneConfig, captions: Dataset) -> None:
    """Raises ConfigError where the model that is to be tuned does not fit captions of one's own."""
    if _are_ones_own(captions):
        _refuse(model_fault(config, sample_in(captions).captions))


def require_encoder_for(config: EmbedConfig, captions: Dataset, lake: Lake) -> None:
    """Raises ConfigError where an encoder is near chance on pictures of one's own, ModelError where it is not here."""
    if _are_ones_own(captions) and not config.encoder.startswith(TO_FIT):
        probed = probe(config, sample_in(captions), lake)
        _refuse([chance_fault(config, probed)] if probed is not None and probed.is_chance else [])


def _faults_of_writers(pipeline: Pipeline, captions: Sequence[str]) -> Sequence[str]:
    """Of teacher and language model, where they write."""
    if not pipeline.generate.needs_adapter:
        return []
    return teacher_fault(pipeline.seed, captions) or model_fault(pipeline.finetune, captions)


def _are_ones_own(captions: Dataset) -> bool:
    return captions.config.get("source") == "folder"


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise ConfigError(f"{'; '.join(faults)}. {SETTINGS}")


class _NotThereError(Exception):
    """A step that is not committed."""


def _is_embedded(lake: Lake, pipeline: Pipeline) -> bool:
    """Whether vectors of the captions are in the lake."""

    def committed(step: Work) -> Committed:
        if (found := step.committed()) is None:
            raise _NotThereError
        return found

    try:
        for stage, _ in zip(pipeline.stages, recipes.walk(committed, lake, pipeline), strict=False):
            if stage == "embed":
                return True
    except (_NotThereError, ScotError):
        return False
    return False
