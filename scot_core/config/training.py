"""The Combiner, its loss, and what it is taught."""

from __future__ import annotations

import posixpath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from scot_core.config.base import Execution, Positive, Share, StageConfig

GROUNDED = frozenset({"gap", "start", "moved_captions", "rewordings", "lead", "known_words"})
"""Settings of loss `scot-grounded` alone."""
LATER = frozenset({"count", "folders", "held_out", "targets", "corpus", "wrong", "precision"})
"""Settings that came after the first Combiners."""


def _folders(given: tuple[str, ...]) -> tuple[str, ...]:
    """As ids of images name them, and in one order: what chooses the same has the same key."""
    return tuple(sorted({posixpath.normpath(folder) for folder in given}))


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
    """Of the Combiner's products; bfloat16 takes half the time at the paper's sizes, 0.7 of it at the
    demo's, where there are instructions for it."""
    checkpoint_every: int = Execution(200, gt=0)
    """Steps between checkpoints, which a killed run goes on from."""
    count: Positive | None = None
    """Triplets that are drawn to learn from; none for all."""
    folders: Annotated[tuple[str, ...], AfterValidator(_folders)] = ()
    """Only triplets whose reference image is below one of these folders, as ids of images name them; none for all."""
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
        own = set() if self.is_grounded else set(GROUNDED)
        own |= {name for name in LATER if getattr(self, name) == type(self).model_fields[name].default}
        found = {name: value for name, value in super().identity().items() if name not in own}
        return found | ({"loss_version": 2} if self.loss == "infonce-with-captions" else {})  # 1: equal texts, too
