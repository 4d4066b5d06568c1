"""The triplets' requests in other words, embedded for trainings that ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from scot_core.lake import Dataset, Lake
from scot_core.lake.schema import text_id
from scot_core.stages.embed.texts import EmbedTexts, of_dataset
from scot_core.stages.embed.vectors import config_of, rows_of, stored
from scot_core.triplets.rewording import reworded

if TYPE_CHECKING:
    from scot_core.training_set import Gathered


def embed_rewordings(lake: Lake, triplets: Dataset, texts: Dataset, count: int) -> EmbedTexts:
    """`count` other ways to put each request of `triplets`, by the encoder that embedded their `texts`."""
    config = config_of(lake, texts)
    identify = of_dataset(lake, config, triplets, "rewordings", count=count)

    return EmbedTexts(lake, config, "embed other wordings", identify, triplets.source, config.shard_rows,
                      lambda: _ways(triplets, count))  # fmt: skip


def rewordings_of(triplets: Dataset, rewordings: Dataset, work: Path, count: int) -> tuple[Gathered, ...]:
    """The vectors of each of the `count` ways, (N, D) in the triplets' order, in a file in the folder `work`.

    Raises LakeError where one is not there.
    """
    from scot_core.training_set import Gathered

    there = stored(rewordings, work)
    ids = (pa.array(map(text_id, ways.to_pylist()), pa.string()) for ways in _ways(triplets, count))
    rows = rows_of(ids, there, triplets).view(-1, count)
    return tuple(Gathered(there.vectors, rows[:, way]) for way in range(count))


def _ways(triplets: Dataset, count: int) -> Iterable[pa.Array]:
    """`count` ways for each triplet, one triplet after the other."""
    for part in triplets.read_parts(["modification"]):
        yield pa.array((way for one in part["modification"].to_pylist() for way in reworded(one, count)), pa.string())
