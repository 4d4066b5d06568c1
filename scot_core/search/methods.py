"""How a query becomes a vector: the seam between search and the methods that compose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from scot_core.combiner import Combiner
from scot_core.encoders import Encoder
from scot_core.encoders.spec import embed_requests
from scot_core.errors import LakeError
from scot_core.methods import Queries, method
from scot_core.stages.methods.ground import Ground, LakeKnown
from scot_core.vectors import Vectors


class Composed(NamedTuple):
    """Query vectors (Q, D) of length one, in the encoder's space; how much each text weighed (Q,), where that is."""

    vectors: Vectors
    weights: Vectors | None = None


class Method(Protocol):
    """Anything that composes reference images and modification texts, with whatever it needs for that inside."""

    def compose(self, images: Vectors, texts: Sequence[str]) -> Composed:
        """Of reference images' embeddings (Q, D) by the encoder that is searched with, and their texts."""
        ...


class ByCombiner:
    """A trained Combiner over the encoder's own vectors."""

    def __init__(self, combiner: Combiner, encoder: Encoder) -> None:
        self._combiner, self._encoder = combiner, encoder

    def compose(self, images: Vectors, texts: Sequence[str]) -> Composed:
        """The same, on the CPU in float32."""
        with torch.inference_mode():
            image = torch.from_numpy(np.ascontiguousarray(images))
            asked = embed_requests(self._encoder, texts, known_words=self._combiner.known_words)
            text = torch.from_numpy(asked)
            vectors = self._combiner(image, text)
            return Composed(vectors.numpy(), self._combiner.modality_weight(image, text).numpy())


class ByName:
    """A method of `scot_core.methods` with what a lake knows; of several runs (seeds) the first.

    Raises ConfigError for a method that there is not or whose sentences the encoder does not read, and LakeError, with
    the command that makes it, for what the lake lacks.
    """

    def __init__(self, name: str, ground: Ground) -> None:
        known, one = LakeKnown(ground, seeds=(0,)), method(name)
        try:
            self._compose = next(iter(one.ready(known).runs.values()))
        except LakeError as error:
            raise LakeError(f"{name} has {error}; make it: {'; '.join(need.made_by for need in one.needs)}") from error
        self.encoder = known.encoder

    def compose(self, images: Vectors, texts: Sequence[str]) -> Composed:
        """Of each pair; texts are read by methods that look at them."""
        ids = [str(row) for row in range(len(images))]
        asked = Queries(ids, images, [(text,) for text in texts], lambda: self.encoder.embed_texts(texts))
        return Composed(self._compose(asked))
