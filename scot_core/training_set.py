"""The frozen embeddings that a Combiner is trained on: on the device, or in files of which a step reads its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scot_core.errors import DataError, ShapeError


@dataclass(frozen=True, slots=True)
class Gathered:
    """The table (N, D) of these rows (N,) of vectors (M, D); these may lie in a file, which is read row by row."""

    vectors: Tensor
    rows: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.vectors.shape[1]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        return self.vectors[self.rows[rows]]


@dataclass(frozen=True)
class TrainingSet:
    """Embeddings of N triplets, each (N, D) float32 and L2-normalised: V, T, T_m and T_u of §3.2."""

    image: Tensor | Gathered
    caption: Tensor | Gathered
    modification: Tensor | Gathered
    modified_caption: Tensor | Gathered
    rewordings: tuple[Tensor | Gathered, ...] = field(default=(), kw_only=True)
    """The modifications in other words."""

    def __post_init__(self) -> None:
        shapes = {tuple(part.shape) for part in self._parts}
        if len(shapes) != 1:
            raise ShapeError(f"the embeddings of the triplets differ in shape: {sorted(shapes)}")
        if not len(self.image):
            raise DataError("there is no triplet to train on; look at the table `rejects` for the reasons")

    @property
    def _parts(self) -> tuple[Tensor | Gathered, ...]:
        return self.image, self.caption, self.modification, self.modified_caption, *self.rewordings

    @property
    def images(self) -> Tensor:
        """(M, D): every image there is, each once where several triplets share them."""
        return self.image.vectors if isinstance(self.image, Gathered) else self.image

    def to(self, device: torch.device) -> TrainingSet:
        """On another device, every vector once."""
        moved: dict[int, Tensor] = {}

        def move(vectors: Tensor) -> Tensor:
            return moved.setdefault(id(vectors), moved.get(id(vectors), vectors).to(device))

        def part(one: Tensor | Gathered) -> Tensor | Gathered:
            return Gathered(move(one.vectors), one.rows.to(device)) if isinstance(one, Gathered) else one.to(device)

        return self._each(part)

    def of(self, rows: Tensor) -> TrainingSet:
        """Some of the triplets, by their rows (B,) int64."""
        return self._each(lambda one: Gathered(one.vectors, one.rows[rows]) if isinstance(one, Gathered) else one[rows])

    def _each(self, change: Callable[[Tensor | Gathered], Tensor | Gathered]) -> TrainingSet:
        image, caption, modification, modified_caption, *rewordings = map(change, self._parts)
        return TrainingSet(image, caption, modification, modified_caption, rewordings=tuple(rewordings))
