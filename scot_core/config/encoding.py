"""Frozen encoders: one that is at hand, or one that is fitted to the captions."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from scot_core.config.base import Execution, Positive, Share, StageConfig

OTHER_DRAW: Final = 1_000_003  # added to a seed: far from those that people choose


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
    fits: Annotated[int, Field(ge=1, le=16)] = 2
    """Fits by different draws, whose vectors side by side are the encoder's, turned to `dim` numbers: a steadier one.
    Without towers there is one."""
    steps: Positive = 1000
    """Steps of the optimiser at most, in each fit."""
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

    def draws(self) -> list[FitConfig]:
        """One configuration for each fit."""
        count = 1 if self.is_from_nothing else self.fits
        return [self.model_copy(update={"seed": self.seed + number * OTHER_DRAW}) for number in range(count)]

    def identity(self) -> dict[str, Any]:
        """Without `fits` where there is one, as there was before the setting."""
        found = super().identity()
        return found if len(self.draws()) > 1 else {name: of for name, of in found.items() if name != "fits"}


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
        return self.encoder in ("catalogue", "catalogue-whole")

    @property
    def is_to_fit(self) -> bool:
        """Whether stage fit makes the encoder."""
        return self.encoder == "fitted"
