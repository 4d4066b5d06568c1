"""What a Falcon of 7B's shape computes, written out for a batch of rows on a CPU: the same logits, up to rounding.

Transformers' forward takes every product by itself and copies the one head of keys and values for each head of queries.
Here, with x the states of all tokens of all rows, a block is

    [q k v h] = norm(x) [Wqkv W1]          one product
    x' = x + attention(q, k, v) W0 + gelu(h) W2

Heads of queries are rows of one product with the keys, which lie where they were first written. Prompts are read a few
rows at a time, so that what is in between stays in the processor's cache, and of their last block only what the next
token is drawn from is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import FalconForCausalLM

_TOKENS_AT_ONCE: Final = 1024  # of prompts: a few MB of states
NEVER: Final = -1e9  # of a score; a row that may look at nothing must not come to 0 / 0


@dataclass(frozen=True, slots=True)
class _Block:
    norm: nn.Module
    inward: Tensor  # (hidden, (heads + 2) * size + ffn)
    attended: Tensor  # (heads * size, hidden)
    outward: Tensor  # (ffn, hidden)
    act: nn.Module


class Falcon:
    """The weights of a model, laid out for `Reading`."""

    def __init__(self, model: Any) -> None:
        """Take a `FalconForCausalLM` that `is_plain`; its fused weights are copies, the others are its own."""
        body = model.transformer
        self.heads: int = model.config.num_attention_heads
        self.size: int = model.config.hidden_size // self.heads
        self.embedding, self.norm, self.head = body.word_embeddings, body.ln_f, model.lm_head.weight.T
        self.frequencies: Tensor = body.rotary_emb.inv_freq
        order = by_pairs(self.heads, self.size)
        self.blocks = [
            _Block(
                block.input_layernorm,
                torch.cat([block.self_attention.query_key_value.weight[order], block.mlp.dense_h_to_4h.weight]).T,
                block.self_attention.dense.weight.T,
                block.mlp.dense_4h_to_h.weight.T,
                block.mlp.act,
            )
            for block in body.h
        ]

    def reading(self, room: int) -> Reading:
        """Nothing read yet, of up to `room` tokens a row."""
        return Reading(self, room)


class Reading:
    """Rows of tokens read so far: their keys and values, (blocks, 2, B, room, size)."""

    def __init__(self, model: Falcon, room: int) -> None:
        self._model, self._room, self._read = model, room, 0
        self._cache = torch.empty(0)

    def read(self, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Read (B, S) more tokens at their positions; returns the logits after the last, (B, V).

        `mask`, (B, tokens read in all), is 0 at padding, which stands to the left of the tokens it is read with.
        """
        if not self._read:
            blocks, size = len(self._model.blocks), self._model.size
            self._cache = torch.zeros(blocks, 2, len(tokens), self._room, size)
        rows = max(1, _TOKENS_AT_ONCE // tokens.shape[1])
        logits = []
        for start in range(0, len(tokens), rows):
            part = slice(start, start + rows)
            padding = int((mask[part, self._read :] == 0).sum(dim=1).min()) if tokens.shape[1] > 1 else 0
            logits.append(
                self._part(self._cache[:, :, part], tokens[part, padding:], mask[part], positions[part, padding:])
            )
        self._read += tokens.shape[1]
        return torch.cat(logits)

    def repeat(self, rows: int) -> None:
        """One row becomes many that begin with it."""
        self._cache = self._cache.repeat_interleave(rows, dim=2)

    def keep(self, rows: Tensor) -> None:
        """Go on with these alone, in their order."""
        for block in self._cache:  # what is read of them moves up, in place
            block[:, : len(rows), : self._read] = block[:, rows, : self._read]
        self._cache = self._cache[:, :, : len(rows)]

    def _part(self, cache: Tensor, tokens: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        model, (count, length), end = self._model, tokens.shape, mask.shape[1]
        heads, size = model.heads, model.size
        attention = (heads + 2) * size
        turn = torch.polar(torch.ones(()), positions[..., None] * model.frequencies)[:, :, None]
        allowed = mask[:, None].bool() & torch.ones(length, end, dtype=torch.bool).tril(end - length)
        bias = torch.where(allowed, 0.0, NEVER).repeat_interleave(heads, dim=1)
        x = model.embedding(tokens).flatten(0, 1)
        for block, (keys, values) in zip(model.blocks, cache, strict=True):
            inner = block.norm(x) @ block.inward
            qkv = inner[:, :attention].view(count, length, heads + 2, size)
            torch.view_as_complex(qkv[:, :, :-1].unflatten(-1, (-1, 2))).mul_(turn)
            keys[:, end - length : end], values[:, end - length : end] = qkv[:, :, -2], qkv[:, :, -1]
            if block is model.blocks[-1]:
                x, inner = (states.view(count, length, -1)[:, -1] for states in (x, inner))
                qkv, bias = qkv[:, -1:], bias[:, -heads:]
            scores = torch.baddbmm(
                bias, qkv[:, :, :heads].reshape(count, -1, size), keys[:, :end].mT, alpha=1 / math.sqrt(size)
            )
            seen = torch.bmm(scores.softmax(dim=-1), values[:, :end]).view(len(x), -1)
            x = torch.addmm(x, seen, block.attended).addmm_(block.act(inner[:, attention:]), block.outward)
        logits: Tensor = model.norm(x) @ model.head
        return logits


def by_pairs(heads: int, size: int) -> Tensor:
    """The order of queries, keys and values in which each head's (i, i + size / 2), but the values', are neighbours.

    Rotary embedding turns the two together: side by side, they are one complex number.
    """
    pairs = torch.arange(size).view(2, -1).T.flatten()
    turned = torch.cat([pairs + head * size for head in range(heads + 1)])
    return torch.cat([turned, torch.arange(size) + (heads + 1) * size])


def has_shape(model: nn.Module) -> bool:
    """Whether it is a Falcon of 7B's shape, on a CPU."""
    if not isinstance(model, FalconForCausalLM):
        return False
    config: Any = model.config
    return (
        config.multi_query
        and config.parallel_attn
        and not (config.bias or config.alibi or config.new_decoder_architecture)
        and config.rope_parameters["rope_type"] == "default"
        and config.ffn_hidden_size % 2 == 0  # complex numbers lie at even places
        and all(weight.device.type == "cpu" for weight in model.parameters())
    )


def is_plain(model: nn.Module) -> bool:
    """Whether `Falcon` computes what this model does: it `has_shape`, and its weights are float32."""
    return (
        has_shape(model)
        and all(weight.dtype == torch.float32 for weight in model.parameters())
        and not any(isinstance(module, BaseTunerLayer) for module in model.modules())
    )
