"""The triplets' requests in other words, embedded for trainings that ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from scot_core.lake import Dataset, Lake
from scot_core.lake.schema import text_id
from scot_core.stages.embed.texts import EmbedTexts, of_dataset
from scot_core.stages.embed.vectors import config_of, rows_of, tensor_in_file
from scot_core.triplets.rewording import reworded

if TYPE_CHECKING:
    from scot_core.training_set import Gathered


def embed_rewordings(lake: Lake, triplets: Dataset, texts: Dataset, count: int) -> EmbedTexts:
    """`count` other ways to put each request of `triplets`, by the encoder that embedded their `texts`."""
    config = config_of(lake, texts)
    identify = of_dataset(lake, config, triplets, "rewordings", count=count)

    def read() -> Iterable[str]:
        for ways in _ways(triplets, count):
            yield from ways

    return EmbedTexts(lake, config, "embed other wordings", identify, triplets.source, config.shard_rows, read)


def rewordings_of(triplets: Dataset, rewordings: Dataset, work: Path, count: int) -> tuple[Gathered, ...]:
    """The vectors of each of the `count` ways, (N, D) in the triplets' order, in a file in the folder `work`.

    Raises LakeError where one is not there.
    """
    from scot_core.training_set import Gathered

    there, vectors = tensor_in_file(rewordings, work)
    ids = zip(*([text_id(way) for way in ways] for ways in _ways(triplets, count)), strict=True)
    columns = (pa.chunked_array([pa.array(way, pa.string())]) for way in ids)
    return tuple(Gathered(vectors, rows_of(asked, there, rewordings, triplets)) for asked in columns)


def _ways(triplets: Dataset, count: int) -> Iterable[list[str]]:
    for part in triplets.read_parts(["modification"]):
        for modification in part["modification"].to_pylist():
            yield reworded(modification, count)
