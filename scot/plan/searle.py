"""How much work inverting images and distilling a φ is (arXiv 2303.15247), from counts and rates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from scot.plan import rates
from scot_core import paper
from scot_core.catalogue.language import WORDS
from scot_core.config import DistillConfig, InvertConfig, Pipeline


def invert(pipeline: Pipeline, config: InvertConfig, images: int) -> dict[str, Any]:
    """Fields of the stage's work, for so many images."""
    count, encoder = min(images, config.images or images), pipeline.embed.encoder
    small, phrases = pipeline.embed.is_shipped, _phrases(pipeline, config)
    tokens = rates.BACKWARD * rates.TEMPLATE_TOKENS
    if config.lambda_gpt:
        tokens += (rates.BACKWARD + 1) * rates.PHRASE_TOKENS
    gpu, seen = _hours(encoder, count * config.steps * tokens), rates.IMAGE_FLOPS.get(encoder)
    if gpu is not None and seen is not None:
        gpu += images * seen / rates.PEAK_FLOPS / 3600
    writer = rates.LLM_PARAMETERS.get(config.phrases.base)
    local = config.phrases.writer == "model" and not config.phrases.is_remote and config.lambda_gpt
    written = phrases * (config.phrases.max_new_tokens + rates.TEMPLATE_TOKENS)
    if gpu is not None and local and writer is not None and writer >= 1e8:
        gpu += rates.FORWARD * writer * written / rates.PEAK_FLOPS / 3600
    cores = (
        count * config.steps / rates.CATALOGUE_PER_SECOND["invert"] + phrases / rates.CATALOGUE_PER_SECOND["phrases"]
    )
    said = f"{phrases:,} phrases" if phrases else "without phrases"
    return {
        "rows": count, "unit": "images", "shards": math.ceil(count / config.shard_rows),
        "calls": phrases if config.phrases.is_remote else None, "completion_tokens": written or None,
        "gpu_hours": None if small else gpu, "cpu_hours": cores / 3600 if small else None,
        "disk_gb": (count * rates.WORD_DIM.get(encoder, 768) + images * rates.VECTOR_DIM.get(encoder, 768)) * 4 / 1e9,
        "note": f"{config.steps} steps each, {said}, with the vectors of {images:,} images",
    }  # fmt: skip


def distill(pipeline: Pipeline, config: DistillConfig) -> dict[str, Any]:
    """Fields of the stage's work."""
    encoder, small = pipeline.embed.encoder, pipeline.embed.is_shipped
    steps = config.steps * len(config.seeds)
    dim, word = rates.VECTOR_DIM.get(encoder, 768), rates.WORD_DIM.get(encoder, 768)
    weights = 4 * dim * dim + 16 * dim * dim + 4 * dim * word  # three layers, four times as wide as the feature
    read = {
        "searle": (rates.BACKWARD + 1) * rates.PHRASE_TOKENS if config.lambda_gpt else 0,
        "pic2word": rates.BACKWARD * rates.TEMPLATE_TOKENS,
        "lincir": rates.BACKWARD * rates.PHRASE_TOKENS,
    }[config.method]
    gpu = _hours(encoder, steps * config.batch_size * read)
    if gpu is not None:
        gpu += 3 * rates.FORWARD * weights * steps * config.batch_size / rates.PEAK_FLOPS / 3600
    return {
        "rows": steps, "unit": "steps", "shards": len(config.seeds), "gpu_hours": None if small else gpu,
        "cpu_hours": steps / rates.CATALOGUE_PER_SECOND["distill"] / 3600 if small else None,
        "disk_gb": len(config.seeds) * 4 * weights / 1e9, "note": f"{config.method}, batches of {config.batch_size:,}",
    }  # fmt: skip


def _hours(encoder: str, tokens: float) -> float | None:
    """Of one GPU at its peak, for so many tokens through a text tower; None for one that is not known."""
    weights = rates.TEXT_WEIGHTS.get(encoder)
    return None if weights is None else rates.FORWARD * weights * tokens / rates.PEAK_FLOPS / 3600


def _phrases(pipeline: Pipeline, config: InvertConfig) -> int:
    """Phrases at most."""
    if not config.lambda_gpt:
        return 0
    if config.phrases.vocabulary is not None:
        path = Path(config.phrases.vocabulary).expanduser()
        lines = path.read_bytes().count(b"\n") if path.is_file() else paper.SEARLE_CONCEPTS
        return lines * config.phrases.count
    drawn = sum(map(len, WORDS["type"].values()))
    return (drawn if pipeline.captions.is_drawn else config.phrases.words) * config.phrases.count
