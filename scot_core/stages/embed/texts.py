"""Texts to vectors (§3.1, eq. 3): every different one once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np

from scot_core.config import EmbedConfig
from scot_core.encoders.fitted_names import fitted_by
from scot_core.lake import Dataset, Lake
from scot_core.lake.schema import text_id
from scot_core.stages.embed.step import Embed, Identify
from scot_core.stages.step import Tick, identities, shard_sizes

COLUMNS = ("caption", "modification", "modified_caption")


class EmbedTexts(Embed):
    """One vector for each different text, in the order of the texts: `read` may give them in any, and repeat them."""

    def __init__(
        self, lake: Lake, config: EmbedConfig, name: str, identify: Identify,
        source: str, shard_rows: int, read: Callable[[], Iterable[str]],
    ) -> None:  # fmt: skip
        super().__init__(lake, config, name, identify)
        self._source, self._shard_rows, self._read = source, shard_rows, read

    @cached_property
    def texts(self) -> list[str]:
        return sorted(set(self._read()))

    def shards(self) -> Sequence[int]:
        return shard_sizes(len(self.texts), self._shard_rows)

    def work(self, shard: int, tick: Tick) -> None:
        texts = self.texts[shard * self._shard_rows : (shard + 1) * self._shard_rows]
        vectors = []
        for start in range(0, len(texts), self.config.batch_size):
            batch = texts[start : start + self.config.batch_size]
            vectors.append(self.encoder.embed_texts(batch))
            tick(len(batch))
        sources, ids = [self._source] * len(texts), [text_id(text) for text in texts]
        self.write(shard, "text", sources, ids, texts, np.concatenate(vectors))


def embed_texts(lake: Lake, config: EmbedConfig, triplets: Dataset) -> EmbedTexts:
    """The captions, modification texts and modified captions of a dataset of `triplets`."""

    def read() -> Iterable[str]:
        for part in triplets.read_parts(COLUMNS):
            for column in part.columns:
                yield from column.to_pylist()

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
