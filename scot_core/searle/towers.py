"""Text towers that read a pseudo-word, and those of CLIP and of the catalogue's encoder.

A pseudo-word is a vector in the space of a tower's word embeddings. It is put where a sentence has it by position,
never by looking for a token: what a user writes cannot be taken for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from scot_core.encoders import Encoder
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.searle.sentences import Sentence


class PseudoWordTower(Protocol):
    """A frozen text tower. Rows do not depend on the other rows of a call, up to floating-point rounding."""

    @property
    def word_dim(self) -> int:
        """W, the dimension of word embeddings."""
        ...

    @property
    def device(self) -> torch.device: ...

    def features(self, sentences: Sequence[Sentence], words: Tensor) -> Tensor:
        """Sentence i with words[i] of (B, W) -> (B, D), not normalised, differentiable in `words`.

        Sentences that are too long are cut. Raises DataError naming one whose pseudo-word would be cut off, and
        ShapeError for words that do not fit.
        """
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Ordinary texts -> (B, D), not normalised, without gradients."""
        ...


def text_features(model: Any, input_ids: Tensor, pseudo_tokens: Tensor, placeholder_id: int) -> Tensor:
    """Features (B, D), not normalised, of texts whose first `placeholder_id` is replaced by a pseudo-word.

    `model` is transformers' CLIPTextModelWithProjection (or a CLIPModel), `input_ids` (B, T) int64, `pseudo_tokens`
    (B, W) of any float dtype; they take the dtype of the model's embeddings. The replacement comes before the
    positional embedding; the rest is the model's own, pooling at the end-of-text token included. With the embedding
    of the placeholder itself as pseudo-words this is `model(input_ids).text_embeds`. Differentiable in
    `pseudo_tokens`.

    Raises DataError naming the row that has no placeholder, ShapeError where shapes or dtypes do not fit.
    """
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ShapeError(f"input_ids must be integers (B, T), but are {input_ids.dtype} {tuple(input_ids.shape)}")
    found = input_ids == placeholder_id
    if missing := torch.nonzero(~found.any(dim=1)).flatten().tolist():
        raise DataError(f"row {missing[0]} of input_ids has no placeholder (token {placeholder_id}) to replace")
    return _clip_features(model, input_ids, pseudo_tokens, found.int().argmax(dim=1))


def _clip_features(model: Any, input_ids: Tensor, words: Tensor, places: Tensor) -> Tensor:
    """`text_features` with the places (B,) of the pseudo-words given."""
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
        before = self._pieces([sentence.before for sentence in sentences])
        after = self._pieces([sentence.after for sentence in sentences])
        for sentence, piece in zip(sentences, before, strict=True):
            if len(piece) + 3 > self._limit:  # start, pseudo-word, end
                raise DataError(f"the pseudo-word is beyond the {self._limit} tokens that CLIP reads of {sentence}")
        slot = self._tokenizer.bos_token_id  # what stands in its place is not read; only the end's id may not
        ids = self._batch([[*first, slot, *rest] for first, rest in zip(before, after, strict=True)])
        places = torch.tensor([len(piece) + 1 for piece in before], dtype=torch.int64)
        return _clip_features(self._model, ids, words, places.to(self.device))

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
        # Start token and words before it: the pseudo-word comes next.
        places = (self._tokenise([sentence.before for sentence in sentences]).index != 0).sum(dim=1)
        embeddings, mask = self._text.embed_tokens(self._tokenise([s.with_word(" $ ") for s in sentences]))
        if beyond := torch.nonzero(places >= mask.sum(dim=1)).flatten().tolist():
            raise DataError(f"the pseudo-word is beyond the words that the encoder reads of {sentences[beyond[0]]}")
        features: Tensor = self._text.forward_from_embeddings(_put(words, places, embeddings), mask)
        return features

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        features: Tensor = self._text(self._tokenise(texts))
        return features


def tower_of(encoder: Encoder) -> PseudoWordTower:
    """The text tower of an encoder as `scot_core.encoders.load` gives it.

    Raises ConfigError for an encoder whose text tower takes no word embeddings of a caller's.
    """
    if hasattr(encoder, "tokenise") and hasattr(encoder, "text"):
        return CatalogueTower(encoder)
    model, tokenizer = getattr(encoder, "model", None), getattr(encoder, "tokenizer", None)
    if tokenizer is not None and getattr(getattr(model, "config", None), "model_type", None) == "clip":
        return ClipTower(model, tokenizer)
    raise ConfigError(
        f"encoder {encoder.spec.name} does not give its text tower to pseudo-words, which this method writes into "
        "sentences: embed with clip-b32, clip-l14 or catalogue, or take a method that needs vectors alone"
    )


def _put(words: Tensor, places: Tensor, embeddings: Tensor) -> Tensor:
    """Embeddings (B, T, W) with row `places[i]` of text i replaced by words[i]."""
    here = torch.arange(embeddings.shape[1], device=embeddings.device) == places[:, None]
    return torch.where(here[..., None], words[:, None].to(embeddings.dtype), embeddings)


def _check_words(words: Tensor, rows: int, width: int) -> None:
    if tuple(words.shape) != (rows, width) or not words.is_floating_point():
        raise ShapeError(f"pseudo-words must be floats ({rows}, {width}), but are {words.dtype} {tuple(words.shape)}")
