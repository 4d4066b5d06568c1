"""Configuration of SEARLE's stages (arXiv 2303.15247): images become pseudo-tokens, and a φ learns to do it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from scot_core.config.base import Config, Execution, Positive, StageConfig
from scot_core.config.endpoints import ServerConfig

Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class PhrasesConfig(Config):
    """Phrases about each concept of a vocabulary, for L_gpt."""

    vocabulary: str | None = Execution(None)
    """File of names, one a line, or a CSV with a column DisplayName as Open Images publishes its classes; its content
    is in the key. None for the nouns of the catalogue, or of any other captions the words they hold most often."""
    words: int = Execution(1000, gt=0)
    """Without a vocabulary: words of the captions at most; what they are is in the key."""
    count: Positive = 64
    """Phrases of each concept; 256 in the paper."""
    writer: Literal["model", "captions"] = "model"
    """`model`: a language model continues "a photo of {concept} that". `captions`: captions that hold the concept."""
    base: str = "catalogue-falcon"
    """Writer model: catalogue-falcon, smollm2, a folder, or a hub id."""
    revision: str | None = None
    """Commit of a hub id's weights."""
    endpoint: ServerConfig = ServerConfig(model="phrases")
    """Writer model: an OpenAI-compatible server that continues texts; without an address `base` is loaded here."""
    temperature: Weight = 0.5
    """Of the sampling; 0 takes the likeliest token."""
    max_new_tokens: Positive = 28
    """Longest continuation, in tokens; in the paper's code a phrase has 35 at most, of which its prompt takes some."""
    lines: Literal["first", "all"] = "first"
    """What is kept of a reply: its first line, or, as in the paper's code, all of them as one text."""
    seed: int = 0
    """Of the sampling."""
    batch_size: Positive = 256
    """Phrases that are written at once."""

    def identity(self) -> dict[str, Any]:
        """Without the settings of the writer that is not asked for."""
        content = super().identity()
        if self.writer == "captions":
            return {name: content[name] for name in ("count", "writer", "seed")}
        left_out = {"base", "revision", "batch_size"} if self.is_remote else {"endpoint"}
        return {name: value for name, value in content.items() if name not in left_out}

    @property
    def is_remote(self) -> bool:
        """Whether a server writes, not this machine."""
        return self.writer == "model" and bool(self.endpoint.base_url)


class InvertConfig(StageConfig):
    """A pseudo-token for each image, found by gradient descent (SEARLE's OTI)."""

    phrases: PhrasesConfig = PhrasesConfig()
    """What L_gpt compares with."""
    images: Positive | None = 1500
    """Images that are drawn and inverted; none for all."""
    concepts: Positive = 15
    """Concepts of an image, the nearest of the vocabulary."""
    steps: Positive = 100
    """Steps of the optimiser; 350 in the paper's code."""
    learning_rate: Rate = 2e-2
    """Of AdamW."""
    weight_decay: Weight = 0.01
    """Of AdamW."""
    lambda_cos: Rate = 1.0
    """Weight of the distance between image and sentence, L_cos."""
    lambda_gpt: Weight = 0.5
    """Weight of the distance between phrases with the concept and with the pseudo-token, L_gpt; 0 leaves it out."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of the average over steps, which is what is kept; 0.99 in the paper's code."""
    init_std: Weight = 0.02
    """Standard deviation of the first pseudo-tokens."""
    seed: Seed = 0
    """Of the draw of images, first pseudo-tokens, templates and phrases."""
    shard_rows: Positive = 500
    """Images in a shard, which is done and kept as a whole."""
    batch_size: int = Execution(256, gt=0)
    """Images that are inverted at once; thousands on a GPU."""

    def identity(self) -> dict[str, Any]:
        """Phrases count where they are read."""
        content = super().identity()
        if not self.lambda_gpt:
            del content["phrases"], content["concepts"]
        return content


_OF_METHODS = {
    "searle": {"distance", "temperature", "lambda_gpt", "concepts", "images"},
    "pic2word": {"temperature", "images"},
    "lincir": {"noise"},
}


class DistillConfig(StageConfig):
    """A φ that gives an image's pseudo-token at once, and for images that nobody has inverted."""

    method: Literal["searle", "pic2word", "lincir"] = "searle"
    """`searle` learns from inverted images, `pic2word` from images, `lincir` from captions alone."""
    steps: Positive = 300
    """Steps of the optimiser."""
    batch_size: Positive = 256
    """Images or captions in a step."""
    learning_rate: Rate = 1e-3
    """Of AdamW; 1e-4 in all three papers' code."""
    weight_decay: Weight = 0.01
    """Of AdamW."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of activations that are dropped."""
    temperature: Rate | None = None
    """Of the contrast; none for 0.25 (searle) and 0.01 (pic2word, CLIP's own)."""
    distance: Literal["nt-xent", "l2"] = "nt-xent"
    """Method searle: between inverted and φ's pseudo-tokens."""
    lambda_gpt: Weight = 0.75
    """Method searle: weight of L_gpt; 0 leaves it out."""
    concepts: Positive = 150
    """Method searle: concepts of an image whose phrases are drawn from."""
    noise: Weight = 1.0
    """Method lincir: of the caption's feature, whose components have about length one."""
    images: Positive | None = None
    """Methods searle and pic2word: images at most, none for all."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    """One φ is trained for each; results are their mean."""
    checkpoint_every: int = Execution(500, gt=0)
    """Steps between checkpoints, which a killed run goes on from."""

    def identity(self) -> dict[str, Any]:
        """Without the settings of other methods."""
        left_out = set().union(*_OF_METHODS.values()) - _OF_METHODS[self.method]
        return {name: value for name, value in super().identity().items() if name not in left_out}
