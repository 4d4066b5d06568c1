"""Text side of the catalogue encoder: words with hashed n-grams, and a small transformer.

A word is the sum of its own embedding (words of the vocabulary) and the mean of its n-grams' embeddings, so
a word that pretraining never saw still lands near words that are spelt like it. Each distinct word of a batch
is embedded once.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from scot_core.encoders.catalogue_spec import MAX_WORDS
from scot_core.errors import ShapeError

_PAD, _START, UNKNOWN, _FIRST = 0, 1, 2, 3  # ids before those of the vocabulary
_MAX_GRAMS = 20
_LONG = 5  # letters of a word that can be told from others by most of them
_WORD = re.compile(r"[^\W\d_]+|\d+|\$")  # "$" stands for the pseudo-token of a textual inversion


def words(text: str) -> list[str]:
    """The first `MAX_WORDS` words of a text, lower-cased."""
    return [match.group() for match in islice(_WORD.finditer(text.lower()), MAX_WORDS)]


def _is_slip(word: str, meant: str) -> bool:
    """Whether one letter too many, too few or wrong, two exchanged, or an ending of up to three tells them apart."""
    same = next((at for at, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b), min(len(word), len(meant)))
    left, right = word[same:], meant[same:]
    if not right:
        return len(left) <= 3
    return left == right[1:] or left[1:] in (right, right[1:]) or (left[:2] == right[1::-1] and left[2:] == right[2:])


@lru_cache(maxsize=1 << 16)
def _grams(word: str, buckets: int) -> tuple[int, ...]:
    """Buckets of the 3- and 4-letter pieces of <word>, padded with `buckets` to a fixed length."""
    marked = f"<{word[:64]}>"
    pieces = [marked[i : i + n] for n in (3, 4) for i in range(max(1, len(marked) - n + 1))]
    hashed = [zlib.crc32(piece.encode()) % buckets for piece in pieces[:_MAX_GRAMS]]
    return (*hashed, *[buckets] * (_MAX_GRAMS - len(hashed)))


@dataclass(frozen=True, slots=True)
class Tokens:
    """A batch of texts as distinct words and references to them (all int64).

    `word_ids` (U,), `gram_ids` (U, G): the distinct words, of which 0 is padding and 1 the start;
    `index` (B, T): which of them stands where.
    """

    word_ids: Tensor
    gram_ids: Tensor
    index: Tensor


class Tokeniser:
    """Texts to `Tokens` with a fixed vocabulary and a fixed number of n-gram buckets."""

    def __init__(self, vocabulary: Sequence[str], buckets: int) -> None:
        self._ids = {word: number for number, word in enumerate(vocabulary, start=_FIRST)}
        self._buckets = buckets

    def unknown(self, text: str) -> list[str]:
        """Words that are not in the vocabulary, each once, in order."""
        return [word for word in dict.fromkeys(words(text)) if word not in self._ids]

    def known(self, text: str) -> str:
        """A text in words of the vocabulary: those one slip or an ending away are put right, others are left out.

        A text of which nothing would be left stays as it is.
        """
        return " ".join(filter(None, map(self._known, words(text)))) or text

    def _known(self, word: str) -> str:
        if word in self._ids or len(word) < _LONG:
            return word if word in self._ids else ""
        meant = (known for known in self._ids if len(known) >= _LONG - 1 and _is_slip(word, known))
        return next(meant, "")

    def __call__(self, texts: Sequence[str]) -> Tokens:
        distinct: dict[str, int] = {}
        rows = [[1] + [distinct.setdefault(w, len(distinct) + 2) for w in words(text)] for text in texts]
        length = max(map(len, rows), default=1)
        none = (self._buckets,) * _MAX_GRAMS
        return Tokens(
            word_ids=torch.tensor([_PAD, _START] + [self._ids.get(word, UNKNOWN) for word in distinct]),
            gram_ids=torch.tensor([none, none] + [_grams(word, self._buckets) for word in distinct]),
            index=torch.tensor([row + [0] * (length - len(row)) for row in rows]).reshape(len(rows), length),
        )


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.dense = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.ReLU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor, mask: Tensor, wanted: int) -> Tensor:
        """(B, T, width) -> (B, wanted, width): the first positions, which attend to all."""
        normed = self.norm_attention(x)
        query = self._heads(self.query(normed[:, :wanted]))
        key, value = map(self._heads, self.key_value(normed).chunk(2, dim=-1))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        x = x[:, :wanted] + self.dense(attended.transpose(1, 2).flatten(2))
        return x + torch.as_tensor(self.mlp(self.norm_mlp(x)))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class TextTower(nn.Module):
    """Pre-norm transformer over word embeddings; the vector is the projected output at the start token."""

    def __init__(self, vocabulary: int, buckets: int, width: int, layers: int, heads: int, dim: int) -> None:
        super().__init__()
        self.width = width
        self.word = nn.Embedding(vocabulary + _FIRST, width, padding_idx=_PAD)
        self.gram = nn.EmbeddingBag(buckets + 1, width, mode="mean", padding_idx=buckets)
        self.position = nn.Parameter(torch.randn(MAX_WORDS + 1, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, dim, bias=False)
        for table in (self.word.weight, self.gram.weight):
            nn.init.normal_(table, std=0.05)
        with torch.no_grad():
            self.word.weight[_PAD] = 0
            self.gram.weight[-1] = 0

    def embed_tokens(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Embeddings (B, T, width) float32 and mask (B, T) bool, True where there is a word or the start.

        A pseudo-token is put in by replacing a row of the embeddings before `forward_from_embeddings`.
        """
        distinct = self.word(tokens.word_ids) + self.gram(tokens.gram_ids)
        return functional.embedding(tokens.index, distinct), tokens.index != 0

    def forward_from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width), (B, T) bool -> (B, dim), not normalised; differentiable in the embeddings.

        Position 0 is the start token. Raises `ShapeError` when the shapes do not fit.
        """
        shape, limit = tuple(embeddings.shape), len(self.position)
        if len(shape) != 3 or shape[2] != self.width or shape[1] > limit or shape[:2] != tuple(mask.shape):
            raise ShapeError(
                f"token embeddings {shape} with mask {tuple(mask.shape)} do not fit a text tower that takes "
                f"(batch, up to {limit}, {self.width}) with a mask (batch, up to {limit})"
            )
        x = embeddings + self.position[: shape[1]]
        for block in self.blocks[:-1]:
            x = block(x, mask, shape[1])
        x = self.blocks[-1](x, mask, 1)  # only the start token is read
        projected: Tensor = self.project(self.norm(x[:, 0]))
        return projected

    def forward(self, tokens: Tokens) -> Tensor:
        """A batch of texts -> (B, dim), not normalised."""
        return self.forward_from_embeddings(*self.embed_tokens(tokens))
