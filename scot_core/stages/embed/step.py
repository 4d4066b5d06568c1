"""What embedding images and embedding texts have in common: the encoder, and the rows that it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scot_core.config import EmbedConfig
from scot_core.encoders import Encoder, EncoderSpec, load
from scot_core.lake import Identity, Lake
from scot_core.stages.embed.vectors import spec_for
from scot_core.stages.step import Step

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

Identify = Callable[[EncoderSpec], Mapping[str, Identity]]  # what is made with an encoder, by table


class Embed(Step):
    """Rows of `embeddings`. Their key is known from the encoder's spec; its weights are loaded for the first shard."""

    stage, unit, spreads = "embed", "vectors", True

    def __init__(self, lake: Lake, config: EmbedConfig, name: str, identify: Identify) -> None:
        super().__init__(lake)
        self.config, self.name, self._identify = config, name, identify

    @property
    def outputs(self) -> Mapping[str, Identity]:
        return self._identify(self.spec)

    @cached_property
    def spec(self) -> EncoderSpec:
        return spec_for(self.config, self.lake)

    @cached_property
    def encoder(self) -> Encoder:
        c, at = self.config, self.lake
        return load(c.encoder, revision=c.revision, pooling=c.pooling, precision=c.precision, device=c.device, lake=at)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "encoder"}

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.__dict__.pop("encoder", None)  # the next step loads its own; a device may not hold two

    def write(
        self, shard: int, kind: str, sources: Sequence[str], ids: Sequence[str], texts: Sequence[str | None],
        vectors: Vectors,
    ) -> None:  # fmt: skip
        """Write a shard: one row for each vector, (n, dim)."""
        flat = pa.array(vectors.astype(np.float32, copy=False).ravel())
        columns = {
            "item_id": ids,
            "source": sources,
            "kind": [kind] * len(ids),
            "text": texts,
            "encoder": [self.config.encoder] * len(ids),
            "vector": pa.FixedSizeListArray.from_arrays(flat, self.spec.dim),
        }
        self.drafts["embeddings"].write_part(shard, columns)
