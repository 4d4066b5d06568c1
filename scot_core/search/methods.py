"""How a query becomes a vector: the seam between search and the methods that compose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from scot_core.combiner import Combiner
from scot_core.encoders import Encoder
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
            text = torch.from_numpy(self._encoder.embed_texts(texts))
            vectors = self._combiner(image, text)
            return Composed(vectors.numpy(), self._combiner.modality_weight(image, text).numpy())
