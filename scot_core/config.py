"""Configuration of every stage, and the profiles that put them together.

Each stage has one frozen model. What changes a stage's result is part of its dataset's fingerprint; a field
marked `Execution` only says how the work is done (workers, time-outs) and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scot_core import paper
from scot_core.errors import ConfigError
from scot_core.prices import BATCH_DISCOUNT, Price, price_of

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


class FolderConfig(Config):
    """One's own table of captioned images: how many pairs are drawn from it, None for all."""

    count: Positive | None = None


class PublishedPairs(Config):
    """Published captioned images: where they lie (None: in SCOT_DATA, in a folder of the source's name), as a folder
    or fsspec URL, and how many pairs are drawn (None for all).
    """

    root: str | None = Execution(None)
    count: Positive | None = None


class CocoConfig(PublishedPairs):
    """MS-COCO captions. Both years hold the same images, split differently; `all` is train and val."""

    year: Literal["2017", "2014"] = "2017"
    split: Literal["train", "val", "all"] = "train"


class Flickr30kConfig(PublishedPairs):
    """Flickr30K, from its token file, a CSV or Karpathy's JSON."""


class AboConfig(PublishedPairs):
    """Amazon Berkeley Objects. `language` is a tag such as en_GB, or the first half of one.

    Original images have about 3 MB each: give them fewer `shard_rows`, since a shard is held in memory.
    """

    language: str = "en"
    images: Literal["small", "original"] = "small"


class CaptionsConfig(StageConfig):
    """Captioned images (§4.1), and the images of the source's own benchmark where it has one.

    Source `catalogue` is drawn: `count`, `queries_per_split`, `gallery` and `image_size` are its own. `folder` reads
    the table `path` of (image, caption), or all tables in the folder `path`; `paper` is coco, flickr30k and abo in one
    dataset. A draw depends on `seed` and the pairs alone, and takes all captions of an image, or one.
    """

    STAGE: ClassVar[str] = "captions"
    source: Literal["catalogue", "folder", "coco", "flickr30k", "abo", "paper"] = "catalogue"
    path: str | None = Execution(None)
    folder: FolderConfig = FolderConfig()
    coco: CocoConfig = CocoConfig()
    flickr30k: Flickr30kConfig = Flickr30kConfig()
    abo: AboConfig = AboConfig()
    captions_per_image: Literal["all", "one"] = "all"
    count: Positive = 6000
    queries_per_split: Positive = 300
    gallery: Positive = 6000
    image_size: Positive = 64
    seed: int = 0
    shard_rows: Positive = 1000
    workers: int = Execution(8, gt=0)  # threads that read and check images

    def identity(self) -> dict[str, Any]:
        """Without the settings of sources that are not asked for."""
        used = {"source", "seed", "shard_rows"}
        if self.source == "catalogue":
            used |= {"count", "queries_per_split", "gallery", "image_size"}
        else:
            used |= {"captions_per_image"}
            used |= {"coco", "flickr30k", "abo"} if self.source == "paper" else {self.source}
        return {name: value for name, value in super().identity().items() if name in used}


TEACHER = "catalogue-teacher-1"


class ServerConfig(Config):
    """An OpenAI-compatible server and one of its models. Its identity is `name` where one is given, else `base_url`.

    Prices are those of `scot_core.prices` where none are given.
    """

    name: str | None = None
    base_url: str = ""
    model: str
    concurrency: Positive = Execution(16)
    requests_per_minute: int | None = Execution(None, gt=0)
    tokens_per_minute: int | None = Execution(None, gt=0)
    timeout_s: float = Execution(60.0, gt=0)
    attempts: int = Execution(6, gt=0)
    usd_per_million_prompt: float | None = Execution(None, ge=0)
    usd_per_million_completion: float | None = Execution(None, ge=0)

    @model_validator(mode="after")
    def _no_secret_in_the_address(self) -> ServerConfig:
        if "@" in self.base_url or "?" in self.base_url:
            raise ConfigError(
                "endpoint.base_url holds a user name, a password or a query, and would be shown in manifests: "
                "give the address alone, and the key in SCOT_API_KEY"
            )
        return self

    def identity(self) -> dict[str, Any]:
        sent = {name: value for name, value in super().identity().items() if name != "base_url"}
        return {**sent, "name": self.name or self.base_url.rstrip("/") or TEACHER}

    @property
    def price(self) -> Price | None:
        """US dollars for a million tokens; None where neither this configuration nor the table says."""
        prompt, written = price_of(self.model) or (None, None)
        if self.usd_per_million_prompt is not None:
            prompt = self.usd_per_million_prompt
        if self.usd_per_million_completion is not None:
            written = self.usd_per_million_completion
        return None if prompt is None or written is None else Price(prompt, written)


class EndpointConfig(ServerConfig):
    """A server that is asked for chat completions. Without a base URL it is the loopback server of the catalogue.

    `batch_discount` is the share of its prices that its Batch API asks for.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    max_tokens: Positive = 256
    batch_discount: float = Execution(BATCH_DISCOUNT, ge=0, le=1)


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
        generate=GenerateConfig(max_new_tokens=128, batch_size=128),
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
