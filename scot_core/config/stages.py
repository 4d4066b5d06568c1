"""Configuration of the stages after captions, and of a whole regeneration."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from scot_core.config.base import Config, Execution, Positive, Share, StageConfig
from scot_core.config.captions import CaptionsConfig
from scot_core.config.endpoints import TEACHER, EndpointConfig, ServerConfig
from scot_core.errors import ConfigError


class SeedConfig(StageConfig):
    """Seed triplets from a strong model behind an endpoint (§4.2: 4,000 from GPT-4).

    `mode` batch hands the same requests to the server's Batch API, which answers within a day at a discount, and
    looks every `poll_s` seconds how far it is. No request is sent that could cost more than what is left of
    `max_usd`; what it bought is committed, and the run stops there unless `accept_partial`.
    """

    STAGE: ClassVar[str] = "seed"
    count: Positive = 4000
    endpoint: EndpointConfig = EndpointConfig(model=TEACHER)
    prompt: str | None = None  # the system message; None is the one in scot_core.triplets
    seed: int = 0
    shard_rows: Positive = 500
    mode: Literal["chat", "batch"] = Execution("chat")
    poll_s: float = Execution(60.0, gt=0)
    max_usd: float | None = Execution(None, ge=0)
    accept_partial: bool = Execution(False)

    @model_validator(mode="after")
    def _a_budget_needs_a_price(self) -> SeedConfig:
        if self.max_usd is not None and self.endpoint.price is None:
            raise ConfigError(
                f"seed.max_usd is set, but what {self.endpoint.model!r} costs is not known: set "
                "seed.endpoint.usd_per_million_prompt and seed.endpoint.usd_per_million_completion"
            )
        return self


class FinetuneConfig(StageConfig):
    """LoRA on a 4-bit causal language model (§4.2: Falcon-7B).

    `base` is catalogue-falcon, smollm2, a folder, or a hub id, which needs the commit `revision`. `batch_size`
    examples go through the model at once, `batch_size` x `gradient_accumulation` make one of the `steps`.
    """

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
    evaluation_batch_size: int = Execution(256, gt=0)  # of the replies to held-out captions, before and after


class GenerateConfig(StageConfig):
    """Triplets for every caption, written by the tuned model (§4.2: 290,000).

    With `endpoint.base_url` set, an OpenAI-compatible server (such as vLLM) that serves the tuned model under the
    name `endpoint.model` writes them; else the model is loaded here.
    """

    STAGE: ClassVar[str] = "generate"
    temperature: Annotated[float, Field(ge=0)] = 0.8
    max_new_tokens: Positive = 64
    attempts: Positive = 2
    batch_size: Positive = 250  # in the key: other batches may move the last bits of the logits
    seed: int = 0
    shard_rows: Positive = 1000
    endpoint: ServerConfig = ServerConfig(model="scot")

    @property
    def is_remote(self) -> bool:
        """Whether a server writes, not this machine."""
        return bool(self.endpoint.base_url)

    def identity(self) -> dict[str, Any]:
        content = super().identity()
        return content if self.is_remote else {name: value for name, value in content.items() if name != "endpoint"}


class EmbedConfig(StageConfig):
    """Frozen image and text encoders (§3.1).

    What of `revision`, `pooling` and `precision` (of the vision tower) is not given is the encoder's own: see
    `scot_core.encoders.load`.
    """

    STAGE: ClassVar[str] = "embed"
    encoder: str = "catalogue"
    revision: str | None = None
    pooling: str | None = None
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    shard_rows: Positive = 4000
    batch_size: int = Execution(256, gt=0)
    workers: int | None = Execution(None, gt=0)  # threads that decode images; None is one per core
    device: str | None = Execution(None)


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


PublishedName = Literal["fashioniq", "cirr", "cirr-test1", "circo", "circo-test"]
PUBLISHED: tuple[str, ...] = get_args(PublishedName)


class BenchmarkConfig(StageConfig):
    """Composed retrieval, measured (§4.3): the benchmarks that follow training.

    `catalogue` is measured where the captions are the catalogue's; published ones lie in folders of their names
    under SCOT_DATA (`cirr-test1` in `cirr`).
    """

    STAGE: ClassVar[str] = "benchmark"
    names: Annotated[tuple[Literal["catalogue"] | PublishedName, ...], Field(min_length=1)] = ("catalogue",)
    allow_missing: bool = False
    resamples: Positive = 2000
    seed: int = 0


class PublishedConfig(StageConfig):
    """One published benchmark over a folder of images; `-test1` and `-test` are the splits with hidden targets.

    `root` holds the annotations as published, `images` the pictures (by default the root does). Missing or broken
    images are refused unless `allow_missing`: then they are no candidates, and queries about them are misses.
    """

    STAGE: ClassVar[str] = "benchmark"
    name: PublishedName
    root: str = Execution("")
    images: str | None = Execution(None)
    allow_missing: bool = False
    shard_rows: Positive = 1000
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
