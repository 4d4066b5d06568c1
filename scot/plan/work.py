"""How much work each stage of a profile is: rows, calls, tokens, money, hours and disk, from counts and rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scot.plan import rates, searle
from scot_core.catalogue.queries import image_count
from scot_core.catalogue.world import SPLITS
from scot_core.config import CaptionsConfig, CocoConfig, Pipeline, TrainConfig
from scot_core.triplets import EXAMPLES, chat_messages, json_reply, local_completion, local_prompt


@dataclass(frozen=True, slots=True)
class StageWork:
    """One stage's amount of work. None where it does not apply or nothing documented says."""

    stage: str
    rows: int
    unit: str
    shards: int
    calls: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usd: float | None = None
    gpu_hours: float | None = None
    """At least: arithmetic over the peak of one GPU."""
    cpu_hours: float | None = None
    """Hours of one core; of two where the catalogue's own small models work."""
    disk_gb: float = 0.0
    note: str = ""
    kept: int | None = None
    """Triplets that are expected of the calls."""


@dataclass(frozen=True, slots=True)
class Known:
    """Counts of what is in the lake already; None where it is not."""

    pairs: int | None = None
    images: int | None = None
    caption_bytes: float | None = None
    triplets: int | None = None
    kept: Mapping[str, float] = field(default_factory=dict)
    """Stage to the share of the replies of one try that its triplets and rejects here make."""


def work(pipeline: Pipeline, known: Known) -> list[StageWork]:
    """One entry a stage that is asked for, in order."""
    published, images, disk, note = _captions(pipeline.captions)
    pairs, images = known.pairs or published, known.images or images
    if known.images and not pipeline.captions.is_drawn:
        note = f"{images:,} different images"
    disk *= 1.0 if known.pairs is None or not published else pairs / published
    caption = known.caption_bytes or _mean([len(example) for example, _, _ in EXAMPLES])
    small = pipeline.captions.is_drawn
    cores = images / rates.CATALOGUE_PER_SECOND["draw"] if small else images / rates.JPEGS_PER_CORE_SECOND
    shards = math.ceil(pairs / pipeline.captions.shard_rows)
    inverted, distilled = pipeline.invert, pipeline.distill
    return [
        StageWork("captions", pairs, "pairs", shards, cpu_hours=cores / 3600, disk_gb=disk / 1e9, note=note),
        *([StageWork("invert", **searle.invert(pipeline, inverted, images))] if inverted else []),
        *([StageWork("distill", **searle.distill(pipeline, distilled))] if distilled else []),
        _seed(pipeline, caption, pairs, known),
        _finetune(pipeline, caption),
        _generate(pipeline, caption, pairs, known),
        _fit(pipeline, images),
        _embed(pipeline, known.triplets or pairs, images),
        _train(pipeline),
        _benchmark(pipeline),
    ]


def _captions(config: CaptionsConfig) -> tuple[int, int, float, str]:
    """Pairs, distinct images, bytes on disk, and how they were counted."""
    if config.is_drawn:
        images = config.count + image_count(config.queries_per_split, config.gallery)
        return config.count, images, images * rates.CATALOGUE_IMAGE_BYTES, "with the benchmark's own images"
    if config.source == "folder":
        count = config.folder.count or 0
        return count, count, 0.0, "as many as the table has" if not count else ""
    pairs, images, disk = 0, 0, 0.0
    for source in ("coco", "flickr30k", "abo") if config.source == "paper" else (config.source,):
        there = _coco_images(config.coco) if source == "coco" else rates.IMAGES[source]
        captions = rates.CAPTIONS_PER_IMAGE[source]
        drawn = min(getattr(config, source).count or there * captions, there * captions)
        distinct = drawn if config.captions_per_image == "one" else _distinct(there, captions, drawn)
        pairs, images = pairs + drawn, images + distinct
        disk += distinct * rates.IMAGE_BYTES[source]
    return pairs, images, disk, f"about {images:,} different images"


def _coco_images(config: CocoConfig) -> int:
    splits = ("train", "val") if config.split == "all" else (config.split,)
    return sum(rates.COCO_IMAGES[config.year, split] for split in splits)


def _distinct(images: int, captions: int, drawn: int) -> int:
    """Expected different images among pairs drawn without looking at the image."""
    return round(images * (1 - (1 - drawn / (images * captions)) ** captions))


def _seed(pipeline: Pipeline, caption: float, pairs: int, known: Known) -> StageWork:
    config = pipeline.seed
    share, said = _share("seed", known)
    calls = max(config.count, min(pairs, math.ceil(config.count / share)))
    prompt, written = _chat(caption, calls, config.prompt)
    price, discount = config.endpoint.price, config.endpoint.batch_discount if config.mode == "batch" else 1.0
    usd = None if price is None else discount * (prompt * price.prompt + written * price.completion) / 1e6
    kept = min(config.count, round(calls * share))
    whom = f"{config.endpoint.model}, {config.mode}" if config.endpoint.base_url else "loopback"
    return StageWork(
        "seed", calls, "replies", math.ceil(calls / config.shard_rows), calls, prompt, written, usd,
        cpu_hours=None if config.endpoint.base_url else calls / rates.CATALOGUE_PER_SECOND["ask"] / 3600,
        note=f"{whom}; for {kept:,} of {config.count:,} triplets, {said}", kept=kept,
    )  # fmt: skip


def _share(stage: str, known: Known) -> tuple[float, str]:
    """Of the replies of one try that are kept, and who says so."""
    share = known.kept.get(stage)
    return (
        (rates.KEPT[stage], f"{rates.KEPT[stage]:.0%} kept: assumed")
        if not share
        else (share, f"{share:.0%} kept, as in this lake")
    )


def _finetune(pipeline: Pipeline, caption: float) -> StageWork:
    config = pipeline.finetune
    examples = config.steps * config.batch_size * config.gradient_accumulation
    tokens = examples * _example_tokens(caption)
    parameters = llm_parameters(config.base)
    hours = None if parameters is None else rates.TUNING * parameters * tokens / rates.PEAK_FLOPS / 3600
    small = parameters is not None and parameters < 1e8
    note = f"{config.base}, {examples / max(pipeline.seed.count, 1):.1f} times over the seeds"
    return StageWork(
        "finetune", config.steps, "steps", 1, prompt_tokens=round(tokens), gpu_hours=None if small else hours,
        cpu_hours=config.steps / rates.CATALOGUE_PER_SECOND["tune"] / 3600 if small else None,
        disk_gb=0.001 if small else config.rank * rates.ADAPTER_BYTES_PER_RANK / 1e9, note=note,
    )  # fmt: skip


def _generate(pipeline: Pipeline, caption: float, pairs: int, known: Known) -> StageWork:
    config = pipeline.generate
    if config.is_mined:
        note = f"mined from the captions, at most {config.edits_per_caption} triplets each"
        return StageWork("generate", pairs, "captions", 1, note=note)
    if not config.needs_adapter:
        return _asked(pipeline, caption, pairs)
    share, said = _share("generate", known)
    tries = calls = kept = 0
    while tries < config.attempts and (not tries or config.count is None or kept < config.count):
        tries, calls = tries + 1, calls + pairs - kept
        kept = round(pairs * (1 - (1 - share) ** tries))
    prompt = calls * _tokens(len(local_prompt("")) + caption)
    written = calls * _tokens(_growth(local_completion) * caption)
    parameters = llm_parameters(pipeline.finetune.base)
    hours = None if parameters is None else rates.FORWARD * parameters * (prompt + written) / rates.PEAK_FLOPS / 3600
    small = parameters is not None and parameters < 1e8
    wanted = f" ({config.count:,} are wanted)" if config.count else ""
    return StageWork(
        "generate", calls, "replies", math.ceil(pairs / config.shard_rows), calls, round(prompt), round(written),
        gpu_hours=None if small else hours,
        cpu_hours=calls / rates.CATALOGUE_PER_SECOND["write"] / 3600 if small else None,
        disk_gb=(calls * rates.REPLY_BYTES + pairs * rates.TRIPLET_BYTES) / 1e9, kept=kept,
        note=f"{tries} {'try' if tries == 1 else 'tries'} for {kept:,} triplets{wanted}, of a try {said}",
    )  # fmt: skip


def _asked(pipeline: Pipeline, caption: float, pairs: int) -> StageWork:
    """Every caption, of a server whose model is not tuned."""
    config = pipeline.generate
    prompt, written = _chat(caption, pairs, None)
    price, again = config.endpoint.price, f", at most {config.attempts} times as many" if config.attempts > 1 else ""
    return StageWork(
        "generate", pairs, "replies", math.ceil(pairs / config.shard_rows), pairs, prompt, written,
        None if price is None else (prompt * price.prompt + written * price.completion) / 1e6,
        disk_gb=pairs * (rates.REPLY_BYTES + rates.TRIPLET_BYTES) / 1e9, note=f"{config.endpoint.model}{again}",
    )  # fmt: skip


def _chat(caption: float, count: int, system: str | None) -> tuple[int, int]:
    """Tokens of the prompts that ask for triplets of captions, and of their replies."""
    messages = chat_messages("", system)
    prompt = count * _tokens(sum(len(message["content"].encode()) for message in messages) + caption)
    return round(prompt), round(count * _tokens(_growth(json_reply) * caption))


def _fit(pipeline: Pipeline, images: int) -> StageWork:
    config = pipeline.fit
    looks = images * (1 + config.views)
    steps = config.steps * len(config.draws())
    if config.is_from_nothing:
        seconds, note = steps / rates.FITTED_PER_SECOND["from nothing"], "both towers from nothing"
    else:
        seconds = looks / rates.FITTED_PER_SECOND["images"] + steps / rates.FITTED_PER_SECOND["steps"]
        note = f"{config.image_tower} and {config.text_tower}, {1 + config.views} looks at each picture"
    disk = 0 if config.is_from_nothing else looks * rates.FEATURES * 4 / 1e9
    return StageWork("fit", steps, "steps", 1, cpu_hours=seconds / 3600, disk_gb=disk, note=note)


def _embed(pipeline: Pipeline, triplets: int, images: int) -> StageWork:
    config = pipeline.embed
    texts = 3 * triplets
    flops = rates.IMAGE_FLOPS.get(config.encoder)
    small = config.is_shipped
    hours = None if flops is None or small else images * flops / rates.PEAK_FLOPS / 3600
    seconds = images / rates.CATALOGUE_PER_SECOND["images"] + texts / rates.CATALOGUE_PER_SECOND["texts"]
    decoding = images / rates.JPEGS_PER_CORE_SECOND
    disk = (images + texts) * rates.VECTOR_DIM.get(config.encoder, 768) * 4 / 1e9
    return StageWork(
        "embed", images + texts, "vectors", math.ceil((images + texts) / config.shard_rows), gpu_hours=hours,
        cpu_hours=(seconds if small else decoding) / 3600, disk_gb=disk, note=f"{config.encoder}, texts at most",
    )  # fmt: skip


def _train(pipeline: Pipeline) -> StageWork:
    config, dim = pipeline.train, rates.VECTOR_DIM.get(pipeline.embed.encoder, 768)
    flops = 3 * rates.FORWARD * combiner_parameters(config, dim) * config.batch_size * config.steps * len(config.seeds)
    small = pipeline.embed.is_shipped
    return StageWork(
        "train", config.steps * len(config.seeds), "steps", len(config.seeds),
        gpu_hours=None if small else flops / rates.PEAK_FLOPS / 3600,
        cpu_hours=config.steps * len(config.seeds) / rates.CATALOGUE_PER_SECOND["train"] / 3600 if small else None,
        disk_gb=len(config.seeds) * 4 * combiner_parameters(config, dim) / 1e9,
        note=f"loss {config.loss}, batches of {config.batch_size:,}",
    )  # fmt: skip


def _benchmark(pipeline: Pipeline) -> StageWork:
    names = pipeline.benchmark.names
    images = sum(rates.BENCHMARK_IMAGES.get(name, 0) for name in names)
    if "circo-test" in names and "circo" not in names:
        images += rates.BENCHMARK_IMAGES["circo"]
    if "mined" in names and not images:
        note = f"mined, from {pipeline.generate.held_out:.0%} of the captions that training never sees"
        return StageWork("benchmark", pipeline.benchmark.queries, "queries at most", 1, note=note)
    if not images:
        return StageWork("benchmark", len(SPLITS) * pipeline.captions.queries_per_split, "queries", 1, note="catalogue")
    flops = rates.IMAGE_FLOPS.get(pipeline.embed.encoder)
    return StageWork(
        "benchmark", images, "images", math.ceil(images / 1000),
        gpu_hours=None if flops is None else images * flops / rates.PEAK_FLOPS / 3600,
        cpu_hours=images / rates.JPEGS_PER_CORE_SECOND / 3600,
        disk_gb=images * rates.VECTOR_DIM.get(pipeline.embed.encoder, 768) * 4 / 1e9, note=", ".join(names),
    )  # fmt: skip


def llm_parameters(base: str) -> float | None:
    """Of a model that `rates` knows, or of a folder, whose weights have two bytes each as they are published."""
    folder = Path(base).expanduser()
    if base in rates.LLM_PARAMETERS or not folder.is_dir():
        return rates.LLM_PARAMETERS.get(base)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / rates.PUBLISHED_BYTES or None


def combiner_parameters(config: TrainConfig, dim: int) -> int:
    """Weights of the Combiner's six linear layers: two projections, two branches of two, as CLIP4Cir's (§3.2)."""
    projection, hidden = config.projection_dim, config.hidden_dim
    return 2 * dim * projection + 2 * (2 * projection * hidden) + hidden * dim + hidden


def _example_tokens(caption: float) -> float:
    return _tokens(len(local_prompt("")) + caption + _growth(local_completion) * caption)


def _growth(written: object) -> float:
    """Bytes of a completion for each byte of its caption, over the prompt's worked examples."""
    assert callable(written)
    return _mean([len(written(m, u)) / len(caption) for caption, m, u in EXAMPLES])


def _tokens(size: float) -> float:
    return size / rates.BYTES_PER_TOKEN


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
