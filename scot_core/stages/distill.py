"""Stage distill: a φ that gives pseudo-tokens at once (SEARLE), or one that learns without them (Pic2Word, LinCIR)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scot_core.config import DistillConfig, EmbedConfig
from scot_core.descent import StepListener
from scot_core.encoders import load
from scot_core.errors import ConfigError, DataError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.lake.lineage import parents
from scot_core.searle import (
    Distilled,
    LincirConfig,
    Phi,
    PhiConfig,
    PseudoTokenTower,
    Schedule,
    concept_vectors,
    nearest_concepts,
    tower_of,
    train_lincir,
    train_pic2word,
)
from scot_core.searle import (
    distill as train_searle,
)
from scot_core.searle.pic2word import LOGIT_SCALE
from scot_core.stages.embed.images import embed_images
from scot_core.stages.embed.vectors import spec_for, vectors_by_id
from scot_core.stages.invert.phrases import phrases_in
from scot_core.stages.step import Run, Step, Tick, identities

Train = Callable[[int, Path, StepListener], Distilled]
"""Trains the φ of a seed in a work folder."""


def distill(
    run: Run, lake: Lake, config: DistillConfig, captions: Dataset, embed: EmbedConfig, tokens: Dataset | None = None
) -> Dataset:  # fmt: skip
    """Returns the inverters. Images are embedded first where they are not yet; captions are read by `lincir` alone.

    Raises ConfigError for method searle without pseudo-tokens, and for an encoder whose text tower does not take
    pseudo-tokens.
    """
    if config.method == "searle":
        if tokens is None:
            raise ConfigError("distill.method is searle, but no images are inverted: run stage invert first")
        if config.lambda_gpt and not parents(lake, tokens)[1:]:
            raise ConfigError(
                f"{tokens.name} was inverted without phrases: set distill.lambda_gpt=0, or invert with them"
            )
        inputs = tokens
    else:
        inputs = captions if config.method == "lincir" else run(embed_images(lake, embed, captions))["embeddings"]
    return run(Distill(lake, config, embed, inputs))["inverters"]


class Distill(Step):
    """One φ for each seed: weights as `seed-<n>/`, loss curves as rows.

    `learned_from` is a dataset of pseudo_tokens (searle), embeddings of images (pic2word) or captions (lincir). The
    φ's take the unit vectors of the lake: they are trained on features of length sqrt(D), as wide as CLIP's are in
    effect, and the factor is part of their first layer when they are kept.
    """

    stage, unit = "distill", "steps"

    def __init__(self, lake: Lake, config: DistillConfig, embed: EmbedConfig, learned_from: Dataset) -> None:
        super().__init__(lake)
        self.config, self._embed, self._learned_from = config, embed, learned_from
        self.name = f"train φ ({config.method})"

    @property
    def outputs(self) -> Mapping[str, Identity]:
        if "spec" in self._learned_from.config:  # made by an encoder, the same as here
            of = self._learned_from.config
            made = {name: of.get(name) for name in ("encoder", "revision", "pooling", "precision", "spec")}
        else:
            here = {name: getattr(self._embed, name) for name in ("encoder", "revision", "pooling", "precision")}
            made = {**here, "spec": spec_for(self._embed, self.lake).model_dump(mode="json")}
        return identities(
            "inverters", source=self._learned_from.source, label=f"distill-{self.config.method}", sealed_as="distill",
            version=DistillConfig.STAGE_VERSION, config={**self.config.identity(), **made},
            inputs=[self._learned_from],
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return [self.config.steps] * len(self.config.seeds)

    def work(self, shard: int, tick: Tick) -> None:
        draft, seed, done = self.drafts["inverters"], self.config.seeds[shard], 0

        def on_step(step: int, _: float) -> None:
            nonlocal done
            tick(step - done)
            done = step

        trained = self._train(seed, draft.work_folder() / f"seed-{seed}", on_step)
        with tempfile.TemporaryDirectory() as folder:
            _for_unit_vectors(trained.phi).save(Path(folder))
            weights = files_of(Path(folder), f"seed-{seed}")
        draft.write_part(shard, self._columns(seed, trained.curve), weights)

    def rows_in(self) -> None:
        """Numbers of a run: as many as there are."""

    @cached_property
    def _train(self) -> Train:
        """What all seeds share is read and computed once."""
        return {"searle": self._searle, "pic2word": self._pic2word, "lincir": self._lincir}[self.config.method]()

    def _searle(self) -> Train:
        c, tower, tokens = self.config, self._tower, self._learned_from
        images, *phrases = parents(self.lake, tokens)
        names, words = self._drawn(*_words(tokens))
        row, vectors = vectors_by_id([images])
        unit = vectors[[row[name] for name in names]]
        known = phrases_in(phrases[0]) if c.lambda_gpt else {}
        concepts: list[tuple[str, ...]] = [()] * len(names)
        if known:
            concepts = nearest_concepts(
                unit, concept_vectors(self._encoder.embed_texts, list(known)), list(known), c.concepts
            )
        config = PhiConfig(
            steps=c.steps, batch_size=c.batch_size, learning_rate=c.learning_rate, weight_decay=c.weight_decay,
            dropout=c.dropout, distance=c.distance, temperature=c.temperature or PhiConfig.temperature,
            lambda_gpt=c.lambda_gpt, concepts=c.concepts, checkpoint_every=c.checkpoint_every,
        )  # fmt: skip
        features = _lengthened(torch.from_numpy(unit))
        return lambda seed, work, on_step: train_searle(
            tower, features, words, concepts, known, config, seed, work, on_step
        )

    def _pic2word(self) -> Train:
        row, vectors = vectors_by_id([self._learned_from])
        _, features = self._drawn(list(row), torch.from_numpy(vectors))
        temperature = self.config.temperature or 1 / LOGIT_SCALE
        return lambda seed, work, on_step: train_pic2word(
            self._tower, _lengthened(features), self._schedule, seed, work, on_step, temperature=temperature
        )

    def _lincir(self) -> Train:
        texts = list(dict.fromkeys(self._learned_from.read(["caption"])["caption"].to_pylist()))
        if not texts:
            raise DataError(f"{self._learned_from.name} holds no caption to learn from")
        noise = LincirConfig(self.config.noise)
        return lambda seed, work, on_step: train_lincir(self._tower, texts, noise, self._schedule, seed, work, on_step)

    def _drawn(self, ids: Sequence[str], vectors: Tensor) -> tuple[Sequence[str], Tensor]:
        """The first `images` of a permutation that the number of images fixes, or all of them in their order."""
        count = self.config.images
        if count is None or count >= len(ids):
            return ids, vectors
        rows = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))[:count].sort().values
        return [ids[row] for row in rows.tolist()], vectors[rows]

    @property
    def _schedule(self) -> Schedule:
        c = self.config
        return Schedule(
            steps=c.steps, batch_size=c.batch_size, learning_rate=c.learning_rate, weight_decay=c.weight_decay,
            dropout=c.dropout, checkpoint_every=c.checkpoint_every,
        )  # fmt: skip

    @cached_property
    def _encoder(self) -> Any:
        of = next(iter(self.outputs.values())).config
        return load(
            of["encoder"], revision=of["revision"], pooling=of["pooling"], precision=of["precision"], lake=self.lake
        )

    @cached_property
    def _tower(self) -> PseudoTokenTower:
        return tower_of(self._encoder)

    def _columns(self, seed: int, curve: Sequence[tuple[int, float]]) -> dict[str, Any]:
        return {
            "source": [self._learned_from.source] * len(curve),
            "method": [self.config.method] * len(curve),
            "seed": [seed] * len(curve),
            "step": [step for step, _ in curve],
            "metric": ["loss"] * len(curve),
            "value": [loss for _, loss in curve],
        }


def _words(tokens: Dataset) -> tuple[list[str], Tensor]:
    """Ids of inverted images, and their pseudo-tokens (N, W). Raises DataError where there are none."""
    ids: list[str] = []
    blocks = []
    for part in tokens.read_parts(["image_id", "vector"]):
        ids += part["image_id"].to_pylist()
        column = part["vector"].combine_chunks()
        blocks.append(torch.tensor(column.flatten().to_numpy(zero_copy_only=False).reshape(len(part), -1)))
    if not ids:
        raise DataError(f"{tokens.name} holds no pseudo-tokens; look at the table `rejects`")
    return ids, torch.cat(blocks)


def _lengthened(features: Tensor) -> Tensor:
    """Unit vectors (N, D) at length sqrt(D): components of about length one."""
    return features * math.sqrt(features.shape[1])


def _for_unit_vectors(phi: Phi) -> Phi:
    """The same φ, which takes unit vectors: the length it was trained on moves into its first layer."""
    with torch.no_grad():
        phi.layers[0].weight *= phi.input_dim**0.5
    return phi


def inverters_in(dataset: Dataset, folder: Path) -> dict[int, Phi]:
    """The committed φ's by seed, read into a scratch folder first. They take unit vectors."""
    dataset.files_in(folder)
    return {int(seed): Phi.load(folder / f"seed-{seed}") for seed in dataset.config["seeds"]}
