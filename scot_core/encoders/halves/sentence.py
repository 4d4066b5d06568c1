"""Any sentence encoder of transformers as a text tower: MiniLM, e5, a folder as `hf download` leaves it.

Tokens are averaged, or the first is taken where `1_Pooling/config.json` of sentence-transformers says so. Beside them
stands the mean of the words as they enter the model: what a text means blurs single words ("medium-light", "woman"),
and a projection of words learns edits of captions that it has not seen in this pairing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from scot_core.encoders.fitting import Fitting
from scot_core.encoders.halves.folders import POOLING, json_of
from scot_core.encoders.halves.models import config_of, model_of
from scot_core.encoders.spec import EncoderSpec
from scot_core.errors import ConfigError, ModelError
from scot_core.vectors import Vectors

NO_IMAGE: Final = 1  # image_size of a tower that sees none
TOKENS: Final = 128  # of a text; what follows is not read
_FIRST, _MEAN = "first token", "mean of the tokens"
_WORDS: Final = "mean of the words, then "  # before one of the two
_AT_ONCE: Final = 256


def describe(folder: Path, pooling: str | None = None) -> dict[str, Any]:
    """Fields of the spec; encoders of older lakes were fitted on texts without their words, which is a `pooling`, too.

    Raises ModelError for a model without a width.
    """
    width = getattr(config_of(folder), "hidden_size", None)
    if not width:
        raise ModelError(f"{folder} holds no sentence encoder of transformers: its configuration has no hidden_size")
    whole = _FIRST if json_of(folder / POOLING).get("pooling_mode_cls_token") else _MEAN
    alone = pooling == whole
    return {
        "dim": width if alone else 2 * width, "image_size": NO_IMAGE,
        "preprocessing": f"its own tokenizer, {TOKENS} tokens", "pooling": whole if alone else _WORDS + whole,
    }  # fmt: skip


class SentenceTower:
    """Features of texts, each of length one. No call changes it."""

    def __init__(self, spec: EncoderSpec, folder: Path, device: torch.device) -> None:
        """Raises ModelError where weights or tokenizer do not load."""
        from transformers import AutoTokenizer

        self._spec, self._device = spec, device
        self._model = model_of(folder).to(device)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # tokenizers raises bare exceptions
            raise ModelError(f"the tokenizer in {folder} does not load: {error}") from error
        self._texts = Fitting("text", _AT_ONCE)

    @property
    def spec(self) -> EncoderSpec:
        return self._spec

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, L2-normalised."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # little padding in a batch
        empty = np.empty((len(texts), self._spec.dim), dtype=np.float32)
        vectors = np.empty_like(empty)
        vectors[order] = self._texts.fill(empty, lambda rows: self._features([texts[row] for row in order[rows]]))
        return vectors

    def embed_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Raises `ConfigError`: half an encoder."""
        raise ConfigError(f"{self._spec.name} reads texts and sees no pictures: fit an encoder (embed.encoder=fitted)")

    def _features(self, texts: list[str]) -> Vectors:
        tokens = self._tokenizer(
            texts, padding="longest", truncation=True, max_length=TOKENS, return_tensors="pt"
        ).to(self._device)  # fmt: skip
        seen = self._model(**tokens, output_hidden_states=True)
        mask = tokens["attention_mask"][..., None]
        whole = self._spec.pooling.removeprefix(_WORDS)
        parts = [seen.last_hidden_state[:, 0] if whole == _FIRST else _mean(seen.last_hidden_state, mask)]
        if whole != self._spec.pooling:
            parts.insert(0, _mean(seen.hidden_states[0], mask))
        joined = torch.cat([functional.normalize(part.float(), dim=1) for part in parts], 1)
        features: Vectors = functional.normalize(joined, dim=1).cpu().numpy()
        return features


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """(n, D) of (n, tokens, D), over the tokens that `mask` (n, tokens, 1) names."""
    return (states * mask).sum(1) / mask.sum(1)
