"""What the Combiner is taught of the triplets that there are: how many, which, towards what, and how right that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scot_core.config import TrainConfig
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Lake
from scot_core.sources import pairs_of
from scot_core.stages.embed import Embeddings
from scot_core.stages.pictured import TARGETS, draw_targets, drawn_targets
from scot_core.stages.rewordings import embed_rewordings, rewordings_of
from scot_core.stages.step import Run

if TYPE_CHECKING:  # loads torch
    from scot_core.training_set import TrainingSet

COUNT, WRONG, CORPUS = 0, 1, 2  # seeds of the draws: smaller ones are part of larger ones, the same for every Combiner
TEXTS = ("caption", "modification", "modified_caption")


def require_possible(config: TrainConfig, triplets: Dataset) -> None:
    """Raises ConfigError where these triplets cannot be learned from as it is asked."""
    if config.count is not None and config.count > triplets.rows:
        raise ConfigError(f"train.count={config.count} is more than the {triplets.rows} of {triplets.name}")
    if config.held_out and pairs_of(triplets.source) is None:
        raise ConfigError(f"train.held_out needs captions whose compositions are known, and {triplets.source} has none")


def learned_besides(
    run: Run, lake: Lake, config: TrainConfig, triplets: Dataset, vectors: Embeddings
) -> list[Dataset]:  # fmt: skip
    """Embeddings besides the triplets' own, where a training asks for them: other wordings, true targets."""
    more: list[Dataset] = []
    if config.is_grounded and config.rewordings:
        more.append(run(embed_rewordings(lake, triplets, vectors.texts, config.rewordings))["embeddings"])
    if config.targets == "true":
        more.append(run(draw_targets(lake, triplets, vectors.images))["embeddings"])
    return more


def lessons(
    every: TrainingSet, config: TrainConfig, triplets: Dataset, more: Sequence[Dataset] = (), work: Path | None = None
) -> TrainingSet:
    """What a Combiner learns from. `more` is of `learned_besides`, `work` a folder for the vectors of wordings.

    Raises ConfigError where fewer triplets are left than are asked for.
    """
    import torch

    possible = np.ones(len(every.image), bool)
    for dataset in more:
        if dataset.config["what"] == TARGETS:
            rows, vectors = drawn_targets(dataset)
            possible[:], possible[rows] = False, True
            targets = every.modified_caption[:].clone()
            targets[rows] = torch.from_numpy(vectors)
            every = replace(every, modified_caption=targets)
        else:
            assert work is not None, "other wordings are read into a folder"
            every = replace(every, rewordings=rewordings_of(triplets, dataset, work, config.rewordings))
    taught = _wrong(_chosen(every, config, triplets, possible), config.wrong)
    return _retrieved(taught, config) if config.targets in ("retrieved", "both") else taught


def _chosen(every: TrainingSet, config: TrainConfig, triplets: Dataset, possible: np.ndarray) -> TrainingSet:
    if config.count is None and not config.folders and not config.held_out and possible.all():
        return every
    import torch

    order = np.random.default_rng(COUNT).permutation(len(every.image))
    order = order[possible[order]]
    if config.held_out:
        order = order[~np.fromiter(_shows_held(triplets, config.held_out), bool)[order]]
    if config.folders:
        order = order[np.fromiter(_is_below(triplets, config.folders), bool)[order]]
    if len(order) < (config.count or 1):
        given = {"held_out": config.held_out, "folders": ",".join(config.folders), "targets": config.targets}
        usual = type(config).model_fields
        asked = " and ".join(
            f"train.{n}={value}" for n, value in given.items() if getattr(config, n) != usual[n].default
        )
        raise ConfigError(f"{asked} leave {len(order)} triplets of {triplets.name}; {config.count or 1} are needed")
    return every.of(torch.from_numpy(order[: config.count]))


def _shows_held(triplets: Dataset, share: float) -> Iterator[bool]:
    """For each triplet whether it shows a pair that is held out: of more pairs, where the share is larger."""
    pairs = pairs_of(triplets.source)
    assert pairs is not None, "`require_possible` says so before"
    for part in triplets.read_parts(TEXTS):
        for texts in zip(*(part[name].to_pylist() for name in TEXTS), strict=True):
            yield any(_place(pair) < share for pair in pairs(*texts))


def _is_below(triplets: Dataset, folders: Sequence[str]) -> Iterator[bool]:
    """For each triplet whether its reference image is below one of the folders."""
    below = tuple(f"{folder}/" for folder in folders)
    for part in triplets.read_parts(["image_id"]):
        yield from (image_id.startswith(below) for image_id in part["image_id"].to_pylist())


def _place(pair: str) -> float:
    """Where a pair stands in the order in which they are held out, from 0 to 1."""
    return int.from_bytes(blake2b(pair.encode(), digest_size=6).digest()) / 2**48


def _wrong(taught: TrainingSet, share: float) -> TrainingSet:
    """With the targets of some triplets handed on to the next of them."""
    if not share:
        return taught
    import torch

    order = np.arange(len(taught.image))
    some = np.random.default_rng(WRONG).permutation(order)[: round(share * len(order))]
    order[some] = np.roll(some, 1)
    return replace(taught, modified_caption=taught.of(torch.from_numpy(order)).modified_caption)


def _retrieved(taught: TrainingSet, config: TrainConfig) -> TrainingSet:
    """With the image nearest to each modified caption in its place, or beside it."""
    import torch

    from scot_core.retrieval import top_k

    images = taught.images
    if config.corpus is not None:
        images = images[np.random.default_rng(CORPUS).permutation(len(images))[: config.corpus]]
    texts = taught.modified_caption[:]
    nearest = images[torch.as_tensor(np.asarray(top_k(texts, images, 1)[1])[:, 0])]
    if config.targets == "retrieved":
        return replace(taught, modified_caption=nearest)
    twice = taught.of(torch.arange(len(texts)).repeat(2))
    return replace(twice, modified_caption=torch.cat([texts, nearest]))
