"""What a profile needs that this machine lacks, each with how to get it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from scot.doctor import benchmark_data
from scot.plan.work import StageWork
from scot_core.captions import sources
from scot_core.config import PUBLISHED, STAGES, FinetuneConfig, PhrasesConfig, Pipeline
from scot_core.config.settings import settings
from scot_core.encoders.presence import encoder_missing, in_cache, towers_missing
from scot_core.errors import ScotError
from scot_core.llm.local import weights as llm_weights
from scot_core.llm.local.devices import gpus

GPU_GB, CPU_GB = 16, 6  # memory for a 7-billion-parameter model in 4 bits and its batch; for the small profiles
CPU_WILL_DO = 1.0  # seconds at a GPU's peak are hours of a few cores, which reach some ten-thousandth of it


def missing(
    pipeline: Pipeline, works: Sequence[StageWork], lake_url: str, stages: Collection[str] = STAGES
) -> list[str]:  # fmt: skip
    """One sentence a thing that is not here; empty where a run could start.

    `works` are the stages still to do, among the `stages` that are asked about.
    """
    return [
        *_data(pipeline, stages),
        *_key(pipeline, {work.stage for work in works}),
        *_weights(pipeline, stages),
        *_machine(pipeline, works, lake_url),
    ]


def _data(pipeline: Pipeline, stages: Collection[str]) -> Iterator[str]:
    if not pipeline.captions.is_drawn:
        try:
            yield from (f"captions: {sentence}" for sentence in sources.missing(pipeline.captions))
        except ScotError as error:
            yield f"captions: {error}"
    names = None if pipeline.invert is None else pipeline.invert.phrases.vocabulary
    if names is not None and not Path(names).expanduser().is_file():
        yield f"vocabulary: no file {names} (invert.phrases.vocabulary); SEARLE's is Open Images' table of classes"
    for name in pipeline.benchmark.names if "benchmark" in stages else ():
        if name in PUBLISHED and not (found := benchmark_data(name)).ok:
            yield f"{found.what}: {found.found}"


def _key(pipeline: Pipeline, left: Collection[str]) -> Iterator[str]:
    asked = {
        "invert": pipeline.invert.phrases.endpoint.base_url if pipeline.invert else "",
        "seed": pipeline.seed.endpoint.base_url,
        "generate": pipeline.generate.endpoint.base_url,
    }
    servers = {url for stage, url in asked.items() if url and stage in left}
    if servers and not settings().api_key.get_secret_value():
        where = " and ".join(sorted(servers))
        yield f"key: SCOT_API_KEY is not set; {where} may ask for one (a Prefect Secret block scot-api-key will do)"


def _weights(pipeline: Pipeline, stages: Collection[str]) -> Iterator[str]:
    phrases = None if pipeline.invert is None or not pipeline.invert.lambda_gpt else pipeline.invert.phrases
    if phrases is not None and phrases.writer == "model" and not phrases.is_remote:
        yield from _language_model(phrases)
    if pipeline.generate.needs_adapter and "finetune" in stages:
        yield from _language_model(pipeline.finetune)
    fault = towers_missing(pipeline.fit) if pipeline.embed.is_to_fit else encoder_missing(pipeline.embed)
    if fault is not None:
        yield f"weights: {fault}"


def _language_model(tuned: FinetuneConfig | PhrasesConfig) -> Iterator[str]:
    try:
        revision = llm_weights.weights_revision(tuned.base, tuned.revision)
        name = llm_weights.resolve(tuned.base)
        if not Path(name).is_dir() and not in_cache(name, revision):
            yield f"weights: {name} is not on this machine: `hf download {name} --revision {revision}`"
    except ScotError as error:
        yield f"weights: {error}"


def _machine(pipeline: Pipeline, works: Sequence[StageWork], lake_url: str) -> Iterator[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if memory < CPU_GB:
        yield f"memory: {memory:.0f} GB here, {CPU_GB} GB needed"
    seconds = 3600 * sum(work.gpu_hours or 0 for work in works)
    if seconds > CPU_WILL_DO:
        yield from _gpu(seconds)
    if "://" not in lake_url:
        place = Path(lake_url).resolve()
        while not place.exists():
            place = place.parent
        needed, free = sum(work.disk_gb for work in works), shutil.disk_usage(place).free / 1e9
        if free < needed:
            yield f"disk: {free:.0f} GB free at {place}, {needed:.0f} GB needed"


def _gpu(seconds: float) -> Iterator[str]:
    found = gpus()
    if not found:
        yield f"GPU: none here; the stages above need at least {seconds / 60:.1f} minutes of one"
    elif (room := found[0].gigabytes) < GPU_GB:
        yield f"GPU: {room:.0f} GB of memory, {GPU_GB} GB needed"
