"""Configuration of every stage, and the profiles that put them together.

Each stage has one frozen model. What changes a stage's result is part of its dataset's fingerprint; a field
marked `Execution` only says how the work is done (workers, time-outs) and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scot_core.errors import ConfigError

EXECUTION = "execution"
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def Execution(default: Any, **constraints: Any) -> Any:  # noqa: N802 - reads as pydantic's Field
    """A field that says how work is done, not what comes out: not part of any fingerprint."""
    return Field(default, json_schema_extra={EXECUTION: True}, **constraints)


class Config(BaseModel):
    """Base of every configuration: frozen, no unknown keys, no number that JSON cannot write."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def identity(self) -> dict[str, Any]:
        """What enters the fingerprint: all but the fields marked `Execution`, nested ones too."""
        content: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get(EXECUTION):
                continue
            value = getattr(self, name)
            content[name] = value.identity() if isinstance(value, Config) else value
        return content


class StageConfig(Config):
    """Configuration of one stage; STAGE_VERSION grows when the stage's code changes what it writes."""

    STAGE: ClassVar[str]
    STAGE_VERSION: ClassVar[int] = 1


class CaptionsConfig(StageConfig):
    """Captioned images (§4.1), and the images of the source's own benchmark where it has one.

    Source `catalogue` is drawn; source `folder` reads the table `path` of (image, caption) and uses no other field
    but `shard_rows`.
    """

    STAGE: ClassVar[str] = "captions"
    source: Literal["catalogue", "folder"] = "catalogue"
    path: str | None = None
    count: Positive = 6000
    queries_per_split: Positive = 300
    gallery: Positive = 6000
    image_size: Positive = 64
    seed: int = 0
    shard_rows: Positive = 1000


class EndpointConfig(Config):
    """An OpenAI-compatible server. Its identity is `name` where one is given, else `base_url`.

    Without a base URL it is the loopback server of the catalogue.
    """

    name: str | None = None
    base_url: str = ""
    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    max_tokens: Positive = 256
    concurrency: Positive = Execution(16)
    requests_per_minute: int | None = Execution(None, gt=0)
    timeout_s: float = Execution(60.0, gt=0)
    attempts: int = Execution(6, gt=0)
    usd_per_million_prompt: float = Execution(0.0, ge=0)
    usd_per_million_completion: float = Execution(0.0, ge=0)

    def identity(self) -> dict[str, Any]:
        sent = {name: value for name, value in super().identity().items() if name != "base_url"}
        return {**sent, "name": self.name or self.base_url or TEACHER}


TEACHER = "catalogue-teacher-1"


class SeedConfig(StageConfig):
    """Seed triplets from a strong model behind an endpoint (§4.2: 4,000 from GPT-4)."""

    STAGE: ClassVar[str] = "seed"
    count: Positive = 4000
    endpoint: EndpointConfig = EndpointConfig(model=TEACHER)
    prompt: str | None = None  # the system message; None is the one in scot_core.triplets
    seed: int = 0
    shard_rows: Positive = 500
    max_usd: float | None = Execution(None, ge=0)


class FinetuneConfig(StageConfig):
    """LoRA on a 4-bit causal language model (§4.2: Falcon-7B)."""

    STAGE: ClassVar[str] = "finetune"
    base: str = "catalogue-falcon"
    revision: str | None = None
    rank: Positive = 16
    alpha: Positive = 32
    steps: Positive = 250
    batch_size: Positive = 48
    gradient_accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 6e-3
    held_out: Positive = 256
    max_new_tokens: Positive = 64
    temperature: Annotated[float, Field(ge=0)] = 0.8
    seed: int = 0
    checkpoint_every: int = Execution(50, gt=0)


class GenerateConfig(StageConfig):
    """Triplets for every caption, written by the tuned model (§4.2: 290,000)."""

    STAGE: ClassVar[str] = "generate"
    temperature: Annotated[float, Field(ge=0)] = 0.8
    max_new_tokens: Positive = 64
    attempts: Positive = 2
    batch_size: Positive = 250
    seed: int = 0
    shard_rows: Positive = 1000


class EmbedConfig(StageConfig):
    """Frozen image and text encoders (§3.1)."""

    STAGE: ClassVar[str] = "embed"
    encoder: str = "catalogue"
    shard_rows: Positive = 4000
    batch_size: int = Execution(256, gt=0)


class TrainConfig(StageConfig):
    """The Combiner and its loss (§3.2-3.3, eqs 4-9)."""

    STAGE: ClassVar[str] = "train"
    loss: Literal["scot", "scot-without-margin", "scot-without-captions", "infonce", "infonce-with-captions"] = "scot"
    projection_dim: Positive = 512
    hidden_dim: Positive = 512
    dropout: Share = 0.5
    steps: Positive = 500
    batch_size: Positive = 256
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    alpha_pos: float = 10.0
    alpha_neg: float = 0.1
    margin: float = 0.2
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (0, 1, 2)
    checkpoint_every: int = Execution(200, gt=0)


class BenchmarkConfig(StageConfig):
    """Composed retrieval, measured (§4.3)."""

    STAGE: ClassVar[str] = "benchmark"
    benchmark: Literal["catalogue"] = "catalogue"
    resamples: Positive = 2000
    seed: int = 0


class Pipeline(Config):
    """Everything a regeneration needs."""

    captions: CaptionsConfig = CaptionsConfig()
    seed: SeedConfig = SeedConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    generate: GenerateConfig = GenerateConfig()
    embed: EmbedConfig = EmbedConfig()
    train: TrainConfig = TrainConfig()
    benchmark: BenchmarkConfig = BenchmarkConfig()


C = TypeVar("C", bound=Config)

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
}


def profile(name: str) -> Pipeline:
    """A profile by name. Raises ConfigError naming the profiles there are."""
    if name not in PROFILES:
        raise ConfigError(f"there is no profile {name!r}; the profiles are {', '.join(PROFILES)}")
    return PROFILES[name]


def last_stage(until: str | None) -> str:
    """Raises ConfigError for a stage that does not exist."""
    if until is not None and until not in STAGES:
        raise ConfigError(f"there is no stage {until!r}; the stages are {', '.join(STAGES)}")
    return until or STAGES[-1]


def with_overrides(pipeline: Pipeline, overrides: Sequence[str]) -> Pipeline:
    """Apply `stage.key=value` settings; the items of a list stand between commas.

    Raises ConfigError for an unknown stage or key, or a value that does not fit.
    """
    content = pipeline.model_dump(mode="json")
    for override in overrides:
        path, sign, value = override.partition("=")
        if not sign:
            raise ConfigError(f"{override!r} is not of the form stage.key=value, such as train.steps=300")
        _set(content, path.strip().split("."), value, override)
    return validated(Pipeline, content)


def validated(model: type[C], content: Mapping[str, Any]) -> C:
    """A configuration from plain values. Raises ConfigError naming each value that does not fit."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise ConfigError(f"the configuration does not fit: {problems}") from error


def _set(content: dict[str, Any], path: list[str], value: str, override: str) -> None:
    *folders, leaf = path
    for depth, folder in enumerate(folders):
        if not isinstance(content.get(folder), dict):
            raise ConfigError(
                f"{override!r}: there is no {'.'.join(path[: depth + 1])!r}; there is: {', '.join(content)}"
            )
        content = content[folder]
    if leaf not in content or not folders or isinstance(content[leaf], dict):
        raise ConfigError(f"{override!r}: there is no setting {'.'.join(path)!r}; there is: {', '.join(content)}")
    content[leaf] = _items(value) if isinstance(content[leaf], list) else _plain(value)


def _items(value: str) -> list[str]:
    """What stands between the commas; the models say what fits."""
    return [item.strip() for item in value.strip().strip("[]").split(",") if item.strip()]


def _plain(value: str) -> str | None:
    """Null as such; everything else is text, from which the models make numbers."""
    return None if value in ("null", "none", "None") else value
