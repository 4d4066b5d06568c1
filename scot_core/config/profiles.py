"""The profiles: configurations of whole regenerations, by name."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from scot_core import paper
from scot_core.config.captions import AboConfig, CaptionsConfig, CocoConfig, Flickr30kConfig, FolderConfig
from scot_core.config.encoding import EmbedConfig
from scot_core.config.endpoints import EndpointConfig
from scot_core.config.measuring import BenchmarkConfig
from scot_core.config.pipeline import Pipeline
from scot_core.config.searle import DistillConfig, InvertConfig, PhrasesConfig
from scot_core.config.training import TrainConfig
from scot_core.config.writing import FinetuneConfig, GenerateConfig, SeedConfig
from scot_core.errors import ConfigError

STAGES: tuple[str, ...] = tuple(Pipeline.model_fields)

PROFILES: dict[str, Pipeline] = {
    # every stage for real, in a minute: what the tests run
    "smoke": Pipeline(
        captions=CaptionsConfig(count=400, queries_per_split=40, gallery=900, shard_rows=100),
        seed=SeedConfig(count=240, shard_rows=80),
        finetune=FinetuneConfig(steps=40, batch_size=24, held_out=48),
        generate=GenerateConfig(shard_rows=200, batch_size=100),
        embed=EmbedConfig(shard_rows=500),
        train=TrainConfig(steps=120, batch_size=128, seeds=(0,)),
        benchmark=BenchmarkConfig(resamples=500),
    ),
    "catalogue": Pipeline(),
    # what the paper did (§4), with its data, a key and a GPU: docs/paper.md
    "paper": Pipeline(
        captions=CaptionsConfig(
            source="paper",
            coco=CocoConfig(count=paper.TRAINING_PAIRS["coco"]),
            flickr30k=Flickr30kConfig(count=paper.TRAINING_PAIRS["flickr30k"]),
            abo=AboConfig(count=paper.TRAINING_PAIRS["abo"]),
        ),
        seed=SeedConfig(
            count=paper.SEED_TRIPLETS,
            endpoint=EndpointConfig(name="openai", base_url="https://api.openai.com/v1", model="gpt-4o"),
            mode="batch",
            max_usd=50.0,
            filter="lenient",  # the paper filters nothing; what was not done at all teaches nothing
        ),
        finetune=FinetuneConfig(
            base="tiiuae/falcon-7b-instruct",
            steps=188,  # three times over the seeds
            batch_size=8,
            gradient_accumulation=8,
            learning_rate=2e-4,
            max_new_tokens=128,
            evaluation_batch_size=64,
        ),
        generate=GenerateConfig(max_new_tokens=128, batch_size=128, filter="lenient", count=paper.TRIPLETS, attempts=6),
        embed=EmbedConfig(encoder="blip2", precision="bfloat16", shard_rows=1000),
        train=TrainConfig(
            projection_dim=paper.PROJECTION_DIM,
            hidden_dim=paper.HIDDEN_DIM,
            dropout=paper.DROPOUT,
            steps=2850,  # ten times over 292,000 triplets
            batch_size=paper.BATCH_SIZE,
            learning_rate=paper.LEARNING_RATE,
            alpha_pos=paper.ALPHA_POS,
            alpha_neg=paper.ALPHA_NEG,
            margin=paper.MARGIN,
        ),
        benchmark=BenchmarkConfig(names=("fashioniq", "cirr", "cirr-test1", "circo", "circo-test")),
    ),
    # what SEARLE did with CLIP B/32 (arXiv 2303.15247); `scot benchmark circo` and the like follow: docs/paper.md
    "paper-searle": Pipeline(
        captions=CaptionsConfig(
            source="folder", folder=FolderConfig(count=paper.SEARLE_IMAGES), captions_per_image="one"
        ),
        embed=EmbedConfig(encoder="clip-b32", shard_rows=1000),
        invert=InvertConfig(
            phrases=PhrasesConfig(
                vocabulary="data/oidv7-class-descriptions.csv",
                count=paper.SEARLE_PHRASES,
                base="EleutherAI/gpt-neo-2.7B",
                lines="all",
            ),
            images=None,
            steps=350,
            ema_decay=0.99,
            batch_size=2048,
            shard_rows=4096,
        ),
        distill=DistillConfig(
            steps=paper.SEARLE_EPOCHS * (paper.SEARLE_IMAGES // paper.SEARLE_BATCH),
            batch_size=paper.SEARLE_BATCH,
            learning_rate=paper.SEARLE_LEARNING_RATE,
            seeds=(0,),
        ),
    ),
}

ENDS = {"paper-searle": "distill"}
"""Profiles that end before the last stage."""


def profile(name: str) -> Pipeline:
    """A profile by name. Raises ConfigError naming the profiles there are."""
    if name not in PROFILES:
        raise ConfigError(f"there is no profile {name!r}; the profiles are {', '.join(PROFILES)}")
    return PROFILES[name]


def stage(name: str) -> str:
    """The name of a stage. Raises ConfigError naming the stages there are."""
    if name not in STAGES:
        raise ConfigError(f"there is no stage {name!r}; the stages are {', '.join(STAGES)}")
    return name


def _known(name: str) -> str:
    profile(name)
    return name


# for parameters of flows: forms and JSON schemas offer what there is
ProfileName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(PROFILES)})]
StageName = Annotated[str, AfterValidator(stage), Field(json_schema_extra={"enum": list(STAGES)})]


def last_stage(until: str | None, profile_name: str | None = None) -> str:
    """The stage to stop after, by default the profile's last. Raises ConfigError for one that does not exist."""
    return ENDS.get(profile_name or "", STAGES[-1]) if until is None else stage(until)
