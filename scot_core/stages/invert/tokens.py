"""Pseudo-tokens of images by gradient descent (SEARLE's OTI), in shards."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scot_core.config import InvertConfig
from scot_core.errors import DataError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.stages.embed.vectors import encoder_of, vectors_by_id
from scot_core.stages.invert.phrases import phrases_in
from scot_core.stages.step import Step, Tick, identities, shard_sizes

if TYPE_CHECKING:  # loads torch
    from scot_core.encoders import Encoder
    from scot_core.searle import OtiConfig, Phrase, PhraseFeatures, PseudoTokenTower
    from scot_core.vectors import Vectors

_HELD = ("_encoder", "_tower", "_features", "_known", "_concept_vectors", "_table")


def oti_of(config: InvertConfig) -> OtiConfig:
    """What `scot_core.searle.invert` takes."""
    from scot_core.searle import OtiConfig

    return OtiConfig(
        steps=config.steps, learning_rate=config.learning_rate, weight_decay=config.weight_decay,
        lambda_cos=config.lambda_cos, lambda_gpt=config.lambda_gpt, ema_decay=config.ema_decay,
        init_std=config.init_std, concepts=config.concepts,
    )  # fmt: skip


class InvertImages(Step):
    """A row of `pseudo_tokens` for each image. One that no phrase speaks of, or that does not stay finite, is a
    reject."""

    stage, name, unit, spreads = "invert", "invert images", "images", True

    def __init__(self, lake: Lake, config: InvertConfig, images: Dataset, phrases: Dataset | None) -> None:
        super().__init__(lake)
        self.config, self._images, self._phrases = config, images, phrases

    @property
    def outputs(self) -> Mapping[str, Identity]:
        made = {name: self._images.config.get(name) for name in ("encoder", "revision", "pooling", "precision", "spec")}
        inputs = [self._images] if self._phrases is None else [self._images, self._phrases]
        return identities(
            "rejects", "pseudo_tokens", source=self._images.source, label="invert", sealed_as="invert",
            version=InvertConfig.STAGE_VERSION, config={**self.config.identity(), **made}, inputs=inputs,
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return shard_sizes(len(self._chosen), self.config.shard_rows)

    def work(self, shard: int, tick: Tick) -> None:
        size = self.config.shard_rows
        rows = self._chosen[shard * size : (shard + 1) * size]
        ids, vectors = [self._ids[row] for row in rows], self._vectors[rows]
        concepts = self._concepts(vectors)
        spoken = [not self._known or any(self._known.get(name) for name in its) for its in concepts]
        done = [place for place in range(len(rows)) if spoken[place]]
        refused = {ids[place]: ("no_phrase", "; ".join(its)) for place, its in enumerate(concepts) if not spoken[place]}
        tick(len(refused))
        words, losses = self._inverted([ids[p] for p in done], vectors[done], [concepts[p] for p in done], tick)
        finite = np.isfinite(words).all(axis=1)
        refused |= {ids[done[at]]: ("not_finite", "") for at in np.flatnonzero(~finite)}
        kept = [done[at] for at in np.flatnonzero(finite)]
        self._write(shard, [ids[p] for p in kept], [concepts[p] for p in kept], words[finite], losses[finite], refused)

    def _inverted(
        self, ids: Sequence[str], vectors: Vectors, concepts: Sequence[Sequence[str]], tick: Tick
    ) -> tuple[Vectors, Vectors]:
        """Pseudo-tokens (n, W) and losses (n,)."""
        import torch

        from scot_core.searle import invert_all

        words, losses, size = [np.empty((0, self._tower.word_dim), np.float32)], [np.empty(0, np.float32)], 0
        for start in range(0, len(ids), self.config.batch_size):
            here = slice(start, start + self.config.batch_size)
            found = invert_all(
                self._tower, ids[here], torch.from_numpy(vectors[here]), concepts[here], self._known,
                oti_of(self.config), self.config.seed, lambda _step, _loss: tick(0), self._features,
            )  # fmt: skip
            words.append(found.words.float().cpu().numpy())
            losses.append(found.losses.float().cpu().numpy())
            size = len(ids[here])
            tick(size)
        return np.concatenate(words), np.concatenate(losses)

    def _concepts(self, vectors: Vectors) -> list[tuple[str, ...]]:
        from scot_core.searle import nearest_concepts

        if not self._known:
            return [()] * len(vectors)
        return nearest_concepts(vectors, self._concept_vectors, list(self._known), self.config.concepts)

    def _write(
        self, shard: int, ids: Sequence[str], concepts: Sequence[Sequence[str]], words: Vectors, losses: Vectors,
        refused: Mapping[str, tuple[str, str]],
    ) -> None:  # fmt: skip
        source = self._images.source
        rejects = {
            "pair_id": list(refused),
            "source": [source] * len(refused),
            "stage": ["invert"] * len(refused),
            "reason": [reason for reason, _ in refused.values()],
            "raw": [raw for _, raw in refused.values()],
            "tries": [1] * len(refused),
        }
        columns: dict[str, Any] = {
            "source": [source] * len(ids),
            "image_id": ids,
            "concepts": ["; ".join(its) for its in concepts],
            "loss": losses.astype(np.float64),
            "encoder": [str(self._images.config["encoder"])] * len(ids),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(words.ravel()), self._tower.word_dim),
        }
        self.drafts["rejects"].write_part(shard, rejects)
        self.drafts["pseudo_tokens"].write_part(shard, columns)

    @cached_property
    def _table(self) -> tuple[list[str], Vectors]:
        row, vectors = vectors_by_id([self._images])
        return list(row), vectors

    @property
    def _ids(self) -> list[str]:
        return self._table[0]

    @property
    def _vectors(self) -> Vectors:
        return self._table[1]

    @cached_property
    def _chosen(self) -> list[int]:
        """Rows of the images that are inverted: all, or some that are drawn, in their order."""
        count = len(self._ids)
        if self.config.images is None or self.config.images >= count:
            return list(range(count))
        return sorted(random.Random(self.config.seed).sample(range(count), self.config.images))

    @cached_property
    def _encoder(self) -> Encoder:
        return encoder_of(self._images)

    @cached_property
    def _tower(self) -> PseudoTokenTower:
        from scot_core.searle import tower_of

        return tower_of(self._encoder)

    @cached_property
    def _features(self) -> PhraseFeatures:
        from scot_core.searle import PhraseFeatures

        return PhraseFeatures(self._tower)

    @cached_property
    def _known(self) -> Mapping[str, Sequence[Phrase]]:
        if self._phrases is None:
            return {}
        known = phrases_in(self._phrases)
        if not known:
            raise DataError(f"{self._phrases.name} holds no phrase; look at `rejects` for what the model wrote")
        return known

    @cached_property
    def _concept_vectors(self) -> Vectors:
        from scot_core.searle import concept_vectors

        return concept_vectors(self._encoder.embed_texts, list(self._known))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in _HELD}

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for held in _HELD:
            self.__dict__.pop(held, None)
