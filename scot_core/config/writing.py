"""Triplets: of a strong model, of a model tuned on those, and of the captions themselves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from scot_core.config.base import Execution, Positive, StageConfig
from scot_core.config.endpoints import TEACHER, EndpointConfig, ServerConfig
from scot_core.errors import ConfigError
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
