"""Texts to vectors (§3.1, eq. 3): every different one once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from scot_core.config import EmbedConfig
from scot_core.encoders.fitted_names import fitted_by
from scot_core.lake import Dataset, Lake
from scot_core.lake.schema import text_id
from scot_core.stages.embed.different import Different, different
from scot_core.stages.embed.step import Embed, Identify
from scot_core.stages.step import Tick, identities

COLUMNS = ("caption", "modification", "modified_caption")


class EmbedTexts(Embed):
    """One vector for each different text, in the order of the texts: `read` may give them in any, and repeat them."""

    def __init__(
        self, lake: Lake, config: EmbedConfig, name: str, identify: Identify,
        source: str, shard_rows: int, read: Callable[[], Iterable[pa.Array]],
    ) -> None:  # fmt: skip
        super().__init__(lake, config, name, identify)
        self._source, self._shard_rows, self._read = source, shard_rows, read

    @cached_property
    def _texts(self) -> Different:
        return different(self._read(), self.drafts["embeddings"].work_folder(), self._shard_rows)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_texts"}

    def shards(self) -> Sequence[int]:
        return self._texts.sizes

    def work(self, shard: int, tick: Tick) -> None:
        texts = self._texts.shard(shard)
        vectors = []
        for start in range(0, len(texts), self.config.batch_size):
            batch = texts[start : start + self.config.batch_size]
            vectors.append(self.encoder.embed_texts(batch))
            tick(len(batch))
        sources, ids = [self._source] * len(texts), [text_id(text) for text in texts]
        self.write(shard, "text", sources, ids, texts, np.concatenate(vectors))


def embed_texts(lake: Lake, config: EmbedConfig, triplets: Dataset) -> EmbedTexts:
    """The captions, modification texts and modified captions of a dataset of `triplets`."""

    def read() -> Iterable[pa.Array]:
        return (texts.combine_chunks() for part in triplets.read_parts(COLUMNS) for texts in part.columns)

    return EmbedTexts(
        lake,
        config,
        "embed texts",
        of_dataset(lake, config, triplets, "texts"),
        triplets.source,
        config.shard_rows,
        read,
    )


def of_dataset(lake: Lake, config: EmbedConfig, given: Dataset, what: str, **more: int) -> Identify:
    """How the vectors of a dataset's rows are named; an encoder of the lake is what they are made from, too."""
    fitted = fitted_by(lake, config.encoder)
    inputs = [given] if fitted is None else [given, fitted]
    return lambda spec: identities(
        "embeddings", source=given.source, label=f"embed-{what}", sealed_as="embed", version=EmbedConfig.STAGE_VERSION,
        config={**config.identity(), "spec": spec.model_dump(mode="json"), "what": what, **more},
        inputs=inputs,
    )  # fmt: skip
