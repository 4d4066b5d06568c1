"""Configuration of the stages after captions, and of a whole regeneration."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from scot_core.config.base import Config, Execution, Positive, Share, StageConfig
from scot_core.config.captions import CaptionsConfig
from scot_core.config.endpoints import TEACHER, EndpointConfig, ServerConfig
from scot_core.config.searle import DistillConfig, InvertConfig
from scot_core.errors import ConfigError
from scot_core.paper import Variant
from scot_core.triplets import Filter


class SeedConfig(StageConfig):
    """Seed triplets from a strong model behind an endpoint (§4.2: 4,000 from GPT-4)."""

    count: Positive = 4000
    """Triplets that are wanted. As many captions are drawn and asked about, once each, and more where replies are
    rejected."""
    endpoint: EndpointConfig = EndpointConfig(model=TEACHER)
    """The server that is asked."""
    prompt: str | None = None
    """System message; none for the one in `scot_core.triplets`."""
    seed: int = 0
    """Of the draw, and of the server's sampling."""
    shard_rows: Positive = 500
    """Replies in a shard."""
    mode: Literal["chat", "batch"] = Execution("chat")
    """`batch` hands the same requests to the server's Batch API, which answers within a day at a discount."""
    poll_s: float = Execution(60.0, gt=0)
    """Mode batch: seconds between looks at how far the server is."""
    max_usd: float | None = Execution(None, ge=0)
    """A gate: no request is sent that could cost more than what is left of this; none for no limit."""
    filter: Filter = Execution("strict")
    """How exactly a reply must do what it says; replies are read again, not bought again: see generate.filter."""
    accept_partial: bool = Execution(False)
    """Where the money ends before the captions do, go on with the triplets it bought instead of stopping there."""
    min_kept: float = Execution(0.05, ge=0, le=1)
    """A gate: stop where a smaller share of the replies than this is a triplet."""

    @model_validator(mode="after")
    def _a_budget_needs_a_price(self) -> SeedConfig:
        if self.max_usd is not None:
            _require_price("seed", self.endpoint)
        return self


def _require_price(stage: str, server: ServerConfig) -> None:
    if server.price is None:
        raise ConfigError(
            f"{stage}.max_usd is set, but what {server.model!r} costs is not known: set "
            f"{stage}.endpoint.usd_per_million_prompt and {stage}.endpoint.usd_per_million_completion"
        )


class FinetuneConfig(StageConfig):
    """LoRA on a 4-bit causal language model (§4.2: Falcon-7B)."""

    STAGE_VERSION = 2  # the model before tuning is given the task and examples

    base: str = "catalogue-falcon"
    """Model that is tuned: catalogue-falcon, smollm2, a folder, or a hub id."""
    revision: str | None = None
    """Commit of a hub id's weights."""
    rank: Positive = 16
    """Rank of the adapter's matrices."""
    alpha: Positive = 32
    """The adapter is scaled by this over its rank."""
    steps: Positive = 250
    """Steps of the optimiser."""
    batch_size: Positive = 48
    """Examples that go through the model at once."""
    gradient_accumulation: Positive = 1
    """Batches that make one step."""
    learning_rate: Annotated[float, Field(gt=0)] = 6e-3
    """Of AdamW, after its warm-up; it falls to nothing with the steps."""
    held_out: Positive = 256
    """Captions without a seed that the model is measured on: before, with examples in its prompt, and after."""
    max_new_tokens: Positive = 64
    """Longest reply while measuring, in tokens."""
    temperature: Annotated[float, Field(ge=0)] = 0.8
    """Of the sampling while measuring; 0 takes the likeliest token."""
    seed: int = 0
    """Of the adapter's first weights, the order of the examples, dropout and the held-out captions."""
    checkpoint_every: int = Execution(50, gt=0)
    """Steps between checkpoints, which a killed run goes on from."""
    evaluation_batch_size: int = Execution(256, gt=0)
    """Captions that are answered at once while measuring."""
    min_kept: float = Execution(0.0, ge=0, le=1)
    """A gate: stop where the filters keep a smaller share than this of the replies of the tuned model."""
    min_right: float = Execution(0.0, ge=0, le=1)
    """A gate: stop where a smaller share than this of them is right: a real edit, applied, and nothing else changed.
    Only the catalogue knows."""


TripletKind = Literal["generated", "seed", "mined"]


class GenerateConfig(StageConfig):
    """Triplets for every caption, written by the tuned model (§4.2: 290,000)."""

    temperature: Annotated[float, Field(ge=0)] = 0.8
    """Of the sampling; 0 takes the likeliest token."""
    max_new_tokens: Positive = 64
    """Longest reply of the tuned model, in tokens."""
    attempts: Positive = 2
    """How often the model tries a caption whose reply was rejected, the first time counted."""
    count: int | None = Execution(None, gt=0)
    """Triplets that are wanted: tries end where there are as many; none for all tries."""
    batch_size: Positive = 250
    """Captions that are answered at once; in the key, since other batches may move the last bits of the logits."""
    filter: Filter = Execution("strict")
    """`strict`: every new word is asked for. `lenient`: each part of the request shows; people's edits pass. `off`: all
    that can be read. It enters the key of what is made of the replies, not that of the replies."""
    seed: int = 0
    """Of the sampling."""
    shard_rows: Positive = 1000
    """Captions in a shard."""
    endpoint: ServerConfig = ServerConfig(model="scot")
    """OpenAI-compatible server, such as vLLM, that serves the tuned model; without an address it is loaded here. Writer
    endpoint: any server, and any model that follows instructions."""
    writer: Literal["adapter", "mined", "endpoint"] = "adapter"
    """`adapter`: the tuned model. `mined`: edits found in the captions themselves, without seeds or a model.
    `endpoint`: the model behind generate.endpoint, asked as a teacher is for seeds; it may be the teacher itself, and
    nothing is tuned."""
    edits_per_caption: Positive = 8
    """Writer mined: edits of one captioned image at most."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Writer mined: share of the captions that no triplet starts from or leads to; benchmark `mined` asks for them."""
    sources: Annotated[tuple[TripletKind, ...], Field(min_length=1)] = Execution(("generated",))
    """Triplets that are handed on: `generated` by the writer, `seed`, the teacher's, `mined`, or several of them."""
    min_kept: float = Execution(0.05, ge=0, le=1)
    """A gate: stop where a smaller share of the captions than this has a triplet."""
    max_usd: float | None = Execution(None, ge=0)
    """A gate, where a server writes: no request is sent that could cost more than what is left of this, of all tries;
    none for no limit."""

    @model_validator(mode="after")
    def _a_budget_needs_a_price(self) -> GenerateConfig:
        if self.max_usd is not None and self.is_remote:
            _require_price("generate", self.endpoint)
        return self

    @model_validator(mode="after")
    def _whoever_is_asked_has_an_address(self) -> GenerateConfig:
        if self.writer == "endpoint" and not self.is_remote:
            raise ConfigError(
                "generate.writer is endpoint, and nobody is named who could be asked: set generate.endpoint.base_url "
                "to an OpenAI-compatible server, and generate.endpoint.model to one of its models"
            )
        return self

    @property
    def is_remote(self) -> bool:
        """Whether a server writes, not this machine."""
        return bool(self.endpoint.base_url)

    @property
    def how(self) -> str:
        """In a few words."""
        if self.is_mined:
            return "mined from the captions"
        return f"up to {self.attempts} tries" + (f" of {self.endpoint.model}" if self.writer == "endpoint" else "")

    @property
    def is_mined(self) -> bool:
        """Whether no language model is needed."""
        return self.writer == "mined"

    @property
    def needs_adapter(self) -> bool:
        """Whether a tuned model writes; nothing is seeded and nothing tuned for any other writer."""
        return self.writer == "adapter"

    @property
    def mined(self) -> GenerateConfig:
        """The same with the captions' own edits as what is written."""
        return self.model_copy(update={"writer": "mined"})

    def identity(self) -> dict[str, Any]:
        """Without the settings of the writer that is not asked for."""
        content, mined = super().identity(), {"writer", "edits_per_caption", "held_out"}
        if self.is_mined:
            return {name: content[name] for name in (*sorted(mined), "seed")}
        if self.writer == "endpoint":  # batches are the server's, and max_new_tokens the tuned model's
            mined = mined - {"writer"} | {"batch_size", "max_new_tokens"}
        left_out = mined if self.is_remote else mined | {"endpoint"}
        return {name: value for name, value in content.items() if name not in left_out}


class FitConfig(StageConfig):
    """An image-text encoder fitted to the captioned images, where no published one is at hand (`embed.encoder=fitted`).

    Two frozen towers, and two small projections of their features, trained by contrast (LiT).
    """

    image_tower: str = "efficientnet-lite0"
    """Image model: efficientnet-lite0, or a folder of transformers in SCOT_WEIGHTS, such as dinov2-base; `nothing`
    trains the small shipped architecture, without any tower."""
    text_tower: str = "all-minilm-l6-v2"
    """Sentence encoder: all-minilm-l6-v2, or a folder of transformers in SCOT_WEIGHTS, such as e5-base."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the image tower."""
    views: Annotated[int, Field(ge=0, le=16)] = 1
    """Times that the image tower sees each picture anew, cut, turned and lit a little differently, against overfit."""
    dim: Positive = 256
    """Length of the encoder's vectors."""
    image_hidden: Positive = 512
    """Width of the layer between the image tower's features and the vectors."""
    text_hidden: Positive = 512
    """Width of the layer between the text tower's features and the vectors."""
    image_dropout: Share = 0.3
    """Share of picture features, and of that layer, that are dropped in training."""
    text_dropout: Share = 0.1
    """Share of text features, and of that layer, that are dropped in training."""
    steps: Positive = 1000
    """Steps of the optimiser at most."""
    batch_size: Positive = 512
    """Captioned images in a step, which are each other's negatives."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of AdamW, at its highest."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Of AdamW."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the captions that training does not see, and by whose recall the weights are chosen."""
    patience: Positive = 6
    """Measurements in a row, a twentieth of the steps apart, without a better recall after which training stops."""
    seed: int = 0
    """Of first weights, batches, dropout, views and the share that is held out."""
    min_times_chance: float = Execution(3.0, ge=0)
    """Stop where held-out captions are not found at least this many times as often as by chance."""
    checkpoint_every: int = Execution(200, gt=0)
    """Steps between checkpoints, which a killed run goes on from."""
    batch_rows: int = Execution(256, gt=0)
    """Pictures or texts that a tower is given at once."""
    device: str | None = Execution(None)
    """Where the towers run, such as cuda:0 or cpu; none for a GPU where there is one."""

    @property
    def is_from_nothing(self) -> bool:
        """Whether there are no towers."""
        return self.image_tower == "nothing"


class EmbedConfig(StageConfig):
    """Frozen image and text encoders (§3.1)."""

    encoder: str = "catalogue"
    """Name of the encoder, such as blip2, clip-l14 or catalogue: see `scot_core.encoders`. `fitted` is the one that
    stage fit makes of the captions, `fitted:<key>` one that it made."""
    revision: str | None = None
    """Commit of the weights; none for the encoder's own."""
    pooling: str | None = None
    """How many vectors of an image become one; none for the encoder's own."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the vision tower; none for the encoder's own."""
    shard_rows: Positive = 4000
    """Texts in a shard; images have the shards of their captions."""
    batch_size: int = Execution(256, gt=0)
    """Images or texts that are encoded at once."""
    workers: int | None = Execution(None, gt=0)
    """Threads that decode images; none for one a core."""
    device: str | None = Execution(None)
    """Where the encoder runs, such as cuda:0 or cpu; none for a GPU where there is one."""

    @property
    def is_shipped(self) -> bool:
        """Whether the encoder's weights come with Scot; it is small, and knows the catalogue alone."""
        return self.encoder == "catalogue"

    @property
    def is_to_fit(self) -> bool:
        """Whether stage fit makes the encoder."""
        return self.encoder == "fitted"


GROUNDED = frozenset({"gap", "start", "moved_captions", "rewordings", "lead", "known_words"})
"""Settings of loss `scot-grounded` alone."""


class TrainConfig(StageConfig):
    """The Combiner and its loss (§3.2-3.3, eqs 4-9)."""

    STAGE_VERSION = 2  # byte-wise dropout: other draws

    loss: Literal[
        "scot", "scot-without-margin", "scot-without-captions", "infonce", "infonce-with-captions", "scot-grounded"
    ] = "scot"
    """`scot` is the paper's; the others leave a part of it out, or are InfoNCE in its place. `scot-grounded` is the
    paper's with gap, start, moved_captions, rewordings, lead and known_words, which the others have not."""
    projection_dim: Positive = 512
    """Width that image and text are projected to."""
    hidden_dim: Positive = 512
    """Width of the layers that combine them."""
    dropout: Share = 0.5
    """Share of activations that are dropped."""
    steps: Positive = 500
    """Steps of the optimiser."""
    batch_size: Positive = 256
    """Triplets in a step, which are each other's negatives."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW."""
    alpha_pos: float = 10.0
    """Weight of the positives' similarity, eq. 4."""
    alpha_neg: float = 0.1
    """Weight of the negatives' similarity, eqs 7-8."""
    margin: float = 0.2
    """Similarity λ above which negatives count, eqs 7-8."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (0, 1, 2)
    """One Combiner is trained for each; results are their mean."""
    gap: Share = 1.0
    """Loss scot-grounded: how far targets and captions are moved from where texts are to where images are."""
    start: Literal["sum", "random"] = "sum"
    """Loss scot-grounded: the Combiner begins as the tuned weighted sum, or anywhere."""
    moved_captions: Share = 0.3
    """Loss scot-grounded: share of the references for which the caption stands, moved to where images are."""
    rewordings: Annotated[int, Field(ge=0, le=8)] = 4
    """Loss scot-grounded: other ways to put each request that are drawn as often as its own."""
    lead: Annotated[float, Field(ge=0)] = 0.2
    """Loss scot-grounded: the composed vector must be nearer by this, in cosine, to its target than to where it comes
    from, reference and caption; 0 asks for nothing of the kind."""
    known_words: bool = True
    """Loss scot-grounded: who asks is read without words that the encoder never saw, where it can tell them."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the Combiner's products; bfloat16 takes about half the time where there are instructions for it."""
    checkpoint_every: int = Execution(200, gt=0)
    """Steps between checkpoints, which a killed run goes on from."""
    count: Positive | None = None
    """Triplets that are drawn to learn from; none for all."""
    held_out: Share = 0.0
    """Share of the pairs of an attribute and a type, as the source knows them, that no triplet learned from shows."""
    targets: Literal["text", "retrieved", "both", "true"] = "text"
    """What a composed query is taught to be near: the modified caption, the captioned image nearest to that, both, or
    an image of what was asked for, which the catalogue draws."""
    corpus: Positive | None = None
    """Captioned images that `retrieved` chooses from, a draw; none for all."""
    wrong: Share = 0.0
    """Share of the triplets that get the target of another one."""

    @property
    def is_grounded(self) -> bool:
        """Whether it trains as `scot_core.grounding` says."""
        return self.loss == "scot-grounded"

    def identity(self) -> dict[str, Any]:
        """Without what came after the first Combiners, where it is at its default, and the settings of other losses."""
        fields, later = type(self).model_fields, ("count", "held_out", "targets", "corpus", "wrong", "precision")
        own = set() if self.is_grounded else set(GROUNDED)
        own |= {name for name in later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in super().identity().items() if name not in own}


PublishedName = Literal["fashioniq", "cirr", "cirr-test1", "circo", "circo-test"]
LakeBenchmark = Literal["catalogue", "catalogue-development", "mined"]
PUBLISHED: tuple[str, ...] = get_args(PublishedName)


class MeasureConfig(StageConfig):
    """How a benchmark is measured."""

    STAGE_VERSION = 2  # recall on what neither modality answers alone

    allow_missing: bool = False
    """Go on without images that are missing or broken: they are no candidates, and queries about them are misses."""
    resamples: Positive = 2000
    """Bootstrap samples of the queries, for the 95 % intervals."""
    seed: int = 0
    """Of the resampling."""


class BenchmarkConfig(MeasureConfig):
    """Composed retrieval, measured (§4.3): the benchmarks that follow training."""

    names: Annotated[tuple[LakeBenchmark | PublishedName, ...], Field(min_length=1)] = ("catalogue",)
    """Benchmarks: `catalogue` where the captions are the catalogue's, and `catalogue-development`, on which settings
    are chosen; `mined` where triplets are mined, of the captions that were held out; published ones from folders in
    SCOT_DATA."""
    queries: Positive = 1000
    """Benchmark mined: queries at most."""
    max_drop: float | None = Execution(None, ge=0)
    """A gate: points of the main metric that may be lost against the promoted generation; none compares nothing."""

    def of(self, name: PublishedName) -> PublishedConfig:
        """The same measuring, of one published benchmark where it usually lies."""
        return PublishedConfig(name=name, **{field: getattr(self, field) for field in MeasureConfig.model_fields})


class PublishedConfig(MeasureConfig):
    """One published benchmark over a folder of images, or `own`: a table of one's own queries over one's own images."""

    name: PublishedName | Literal["own"]
    """Benchmark and split; `-test1` and `-test` have hidden targets and give files for the evaluation server."""
    root: str = Execution("")
    """Folder of the annotations as published; empty for the benchmark's folder in SCOT_DATA."""
    queries: str | None = Execution(None)
    """Benchmark own: its table of reference, text and target; the images are those below `images`."""
    images: str | None = Execution(None)
    """Folder of the images; none for the root."""
    shard_rows: Positive = 1000
    """Images in a shard."""

    @property
    def variant(self) -> Variant:
        """Benchmark and split."""
        return Variant.parse(self.name)


class MethodsConfig(StageConfig):
    """Every way of composing a query, measured on the same queries (`scot_core.methods`)."""

    names: tuple[str, ...] = ()
    """Methods that are measured, such as scot,searle,tuned-sum; none for every one."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (0, 1, 2)
    """Of methods that draw something when they are asked, such as searle-oti; those that are trained have their own."""
    development: bool = False
    """Measure on the catalogue's development draw, on which settings are chosen, not on its test."""
    timed: int = Execution(30, gt=0)
    """Queries that are timed one by one, at most."""


class Pipeline(Config):
    """Everything a regeneration needs: one configuration a stage, in the order in which they run.

    Those of SEARLE's stages stand where they are asked for, that of fit is read where `embed.encoder` asks for it.
    """

    captions: CaptionsConfig = CaptionsConfig()
    """Captioned images (§4.1)."""
    invert: InvertConfig | None = None
    """SEARLE: images to pseudo-words; none leaves it out."""
    distill: DistillConfig | None = None
    """SEARLE, Pic2Word or LinCIR: the φ that gives pseudo-words; none leaves it out."""
    seed: SeedConfig = SeedConfig()
    """Triplets from a strong model (§4.2)."""
    finetune: FinetuneConfig = FinetuneConfig()
    """The language model that is tuned on them (§4.2)."""
    generate: GenerateConfig = GenerateConfig()
    """Triplets for every caption, by the tuned model (§4.2)."""
    fit: FitConfig = FitConfig()
    """The encoder that is fitted to the captions, where `embed.encoder` asks for it."""
    embed: EmbedConfig = EmbedConfig()
    """Frozen encoders (§3.1)."""
    train: TrainConfig = TrainConfig()
    """The Combiner (§3.2-3.3)."""
    benchmark: BenchmarkConfig = BenchmarkConfig()
    """What it is measured on (§4.3)."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Those that are asked for, in the order in which they run."""
        left_out = () if self.embed.is_to_fit else ("fit",)
        return tuple(n for n in type(self).model_fields if getattr(self, n) is not None and n not in left_out)

    def asking_for(self, stage: str | None = None) -> Pipeline:
        """With the stage, where it stands only where it is asked for, and with what it cannot do without.

        Raises ConfigError for SEARLE's stages with an encoder that is to be fitted, whose text tower reads no
        pseudo-words.
        """
        missing: dict[str, Config] = {}
        if stage in OPTIONAL and getattr(self, stage) is None:
            missing[stage] = OPTIONAL[stage]()
        distill = missing.get("distill", self.distill)
        if isinstance(distill, DistillConfig) and distill.method == "searle" and self.invert is None:
            missing["invert"] = InvertConfig()
        if self.embed.is_to_fit and (missing or self.invert or self.distill):
            raise ConfigError(
                "invert and distill need a text tower that reads pseudo-words, and embed.encoder=fitted has none "
                "of that kind: take clip-b32, clip-l14 or catalogue, or leave these stages out"
            )
        return self.model_copy(update=missing) if missing else self


OPTIONAL: dict[str, type[Config]] = {"invert": InvertConfig, "distill": DistillConfig}
"""Stages that a pipeline may leave out."""
