"""Text towers that read a pseudo-token, and those of CLIP and of the catalogue's encoder.

A pseudo-token is a vector in the space of a tower's word embeddings. It is put where a sentence has it by position,
never by looking for a token: what a user writes cannot be taken for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from scot_core.encoders import Encoder
from scot_core.encoders.catalogue_spec import MAX_WORDS
from scot_core.encoders.catalogue_text import words as catalogue_words
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.searle.sentences import Sentence


class PseudoTokenTower(Protocol):
    """A frozen text tower. Rows do not depend on the other rows of a call, up to floating-point rounding."""

    @property
    def word_dim(self) -> int:
        """W, the dimension of word embeddings."""
        ...

    @property
    def device(self) -> torch.device: ...

    def features(self, sentences: Sequence[Sentence], words: Tensor) -> Tensor:
        """Sentence i with words[i] of (B, W) -> (B, D), not normalised, differentiable in `words`.

        Sentences that are too long are cut. Raises DataError naming one whose pseudo-token would be cut off, and
        ShapeError for words that do not fit.
        """
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Ordinary texts -> (B, D), not normalised, without gradients."""
        ...


def text_features(model: Any, input_ids: Tensor, pseudo_tokens: Tensor, placeholder_id: int) -> Tensor:
    """Features (B, D), not normalised, of texts whose first `placeholder_id` is replaced by a pseudo-token.

    `model` is transformers' CLIPTextModelWithProjection (or a CLIPModel), `input_ids` (B, T) int64, `pseudo_tokens`
    (B, W) of any float dtype; they take the dtype of the model's embeddings. The replacement comes before the
    positional embedding; the rest is the model's own, pooling at the end-of-text token included. With the embedding
    of the placeholder itself as pseudo-tokens this is `model(input_ids).text_embeds`. Differentiable in
    `pseudo_tokens`.

    Raises DataError naming the row that has no placeholder, ShapeError where shapes or dtypes do not fit.
    """
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ShapeError(f"input_ids must be integers (B, T), but are {input_ids.dtype} {tuple(input_ids.shape)}")
    found = input_ids == placeholder_id
    if missing := torch.nonzero(~found.any(dim=1)).flatten().tolist():
        raise DataError(f"row {missing[0]} of input_ids has no placeholder (token {placeholder_id}) to replace")
    first = found & (found.cumsum(dim=1) == 1)
    return _clip_features(model, input_ids, pseudo_tokens, first)


def _clip_features(model: Any, input_ids: Tensor, words: Tensor, places: Tensor) -> Tensor:
    """`text_features` with the places of the pseudo-tokens given, (B, T) bool."""
    from transformers.masking_utils import create_causal_mask  # seconds to import, and other towers do without

    text = model.text_model
    table = text.embeddings.token_embedding
    _check_words(words, len(input_ids), table.embedding_dim)
    if input_ids.shape[1] > (limit := text.config.max_position_embeddings):
        raise ShapeError(f"input_ids has {input_ids.shape[1]} columns; the model reads {limit} tokens at most")
    hidden = text.embeddings(inputs_embeds=_put(words, places, table(input_ids)))
    mask = create_causal_mask(config=text.config, inputs_embeds=hidden, attention_mask=None, past_key_values=None)
    hidden = text.encoder(inputs_embeds=hidden, attention_mask=mask, is_causal=True).last_hidden_state
    hidden = text.final_layer_norm(hidden)
    # Configurations written before the end token's id was mended say 2: then it is the highest id of a row.
    ends = input_ids if (end := text.config.eos_token_id) == 2 else (input_ids == end).int()
    pooled = hidden[torch.arange(len(hidden), device=hidden.device), ends.argmax(dim=1)]
    projected: Tensor = model.text_projection(pooled)
    return projected


class ClipTower:
    """CLIP's text tower with its tokenizer, both transformers'. The model is frozen and put into evaluation mode."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model.eval().requires_grad_(False), tokenizer
        self._limit = int(model.text_model.config.max_position_embeddings)

    @property
    def word_dim(self) -> int:
        return int(self._model.text_model.config.hidden_size)

    @property
    def device(self) -> torch.device:
        return torch.device(self._model.device)

    def features(self, sentences: Sequence[Sentence], words: Tensor) -> Tensor:
        if not sentences:
            return self._none()
        slot = self._tokenizer.bos_token_id  # what stands in its place is not read; only the end's id may not
        pieces = iter(self._pieces([part for sentence in sentences for part in sentence.parts]))
        rows = [[next(pieces) for _ in sentence.parts] for sentence in sentences]
        for sentence, (first, *_) in zip(sentences, rows, strict=True):
            if len(first) + 3 > self._limit:  # start, pseudo-token, end
                raise DataError(f"the pseudo-token is beyond the {self._limit} tokens that CLIP reads of {sentence}")
        joined = [[*first, *(token for piece in others for token in (slot, *piece))] for first, *others in rows]
        within = self._limit - 1  # where the end of a sentence that is cut stands
        places = [[place for place in _places([len(piece) for piece in row]) if place < within] for row in rows]
        ids = self._batch(joined)
        return _clip_features(self._model, ids, words, _marked(places, ids.shape[1], ids.device))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        if not texts:
            return self._none()
        pooled = self._model.text_model(input_ids=self._batch(self._pieces(texts))).pooler_output
        projected: Tensor = self._model.text_projection(pooled)
        return projected

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self._tokenizer(list(texts), add_special_tokens=False).input_ids)

    def _none(self) -> Tensor:
        """Features of nothing, which the model itself does not compute."""
        return torch.empty(0, self._model.text_projection.out_features, dtype=self._model.dtype, device=self.device)

    def _batch(self, rows: list[list[int]]) -> Tensor:
        """Between start and end, cut, and padded on the right, where a causal model does not look."""
        start, end, pad = (getattr(self._tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
        full = [[start, *row[: self._limit - 2], end] for row in rows]
        length = max(map(len, full))
        return torch.tensor([row + [pad] * (length - len(row)) for row in full], device=self.device)


class CatalogueTower:
    """The text tower of the catalogue's encoder, which has `tokenise` and `text`; frozen there already."""

    def __init__(self, encoder: Any) -> None:
        self._tokenise, self._text = encoder.tokenise, encoder.text

    @property
    def word_dim(self) -> int:
        return int(self._text.width)

    @property
    def device(self) -> torch.device:
        return torch.device(self._text.position.device)

    def features(self, sentences: Sequence[Sentence], words: Tensor) -> Tensor:
        _check_words(words, len(sentences), self.word_dim)
        texts, places = zip(*map(_laid_out, sentences), strict=True) if sentences else ((), ())
        embeddings, mask = self._text.embed_tokens(self._tokenise(texts))
        for sentence, (first, *_) in zip(sentences, places, strict=True):
            if first > MAX_WORDS:
                raise DataError(f"the pseudo-token is beyond the words that the encoder reads of {sentence}")
        put = _put(words, _marked(places, embeddings.shape[1], self.device), embeddings)
        features: Tensor = self._text.forward_from_embeddings(put, mask)
        return features

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        features: Tensor = self._text(self._tokenise(texts))
        return features


def tower_of(encoder: Encoder) -> PseudoTokenTower:
    """The text tower of an encoder as `scot_core.encoders.load` gives it.

    Raises ConfigError for an encoder whose text tower takes no word embeddings of a caller's.
    """
    if hasattr(encoder, "tokenise") and hasattr(encoder, "text"):
        return CatalogueTower(encoder)
    model, tokenizer = getattr(encoder, "model", None), getattr(encoder, "tokenizer", None)
    if tokenizer is not None and getattr(getattr(model, "config", None), "model_type", None) == "clip":
        return ClipTower(model, tokenizer)
    raise ConfigError(
        f"encoder {encoder.spec.name} does not give its text tower to pseudo-tokens, which this method writes into "
        "sentences: embed with clip-b32, clip-l14 or catalogue, or take a method that needs vectors alone"
    )


@lru_cache(maxsize=1 << 16)
def _laid_out(sentence: Sentence) -> tuple[str, list[int]]:
    """A sentence as the catalogue's encoder takes it, and where its pseudo-token stands among its words."""
    return sentence.with_word(" $ "), _places([len(catalogue_words(part)) for part in sentence.parts])


def _places(lengths: Sequence[int]) -> list[int]:
    """Where a pseudo-token stands, behind a start token, between parts of these lengths."""
    return [1 + number + sum(lengths[: number + 1]) for number in range(len(lengths) - 1)]


def _marked(places: Sequence[Sequence[int]], length: int, device: torch.device) -> Tensor:
    """Bool (B, length), true at the places of each row that are below `length`."""
    pairs = [(row, place) for row, its in enumerate(places) for place in its if place < length]
    marked = torch.zeros(len(places), length, dtype=torch.bool)
    marked[tuple(torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T)] = True
    return marked.to(device)


def _put(words: Tensor, places: Tensor, embeddings: Tensor) -> Tensor:
    """Embeddings (B, T, W) with those at `places`, (B, T) bool, replaced by words[i] in row i."""
    return torch.where(places[..., None], words[:, None].to(embeddings.dtype), embeddings)


def _check_words(words: Tensor, rows: int, width: int) -> None:
    if tuple(words.shape) != (rows, width) or not words.is_floating_point():
        raise ShapeError(f"pseudo-tokens must be floats ({rows}, {width}), but are {words.dtype} {tuple(words.shape)}")
