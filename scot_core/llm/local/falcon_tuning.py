"""The loss of a Falcon of 7B's shape with LoRA on its four products, on a CPU: the library's, up to rounding, in about
half the time.

A batch is a list of tokens, each there once: rows that begin alike share what they begin with, and nothing is padded.
Attention alone goes along rows. With x the states of the tokens, n = norm(x), and every W a weight with its adapter
added (W + s B A), a block and the gradients it hands back are

    [k v] = n Wkv     [q h] = n Wqh     x' = x + attention(q, k, v) W0 + gelu(h) W2

The last block asks only for the tokens that a completion is predicted from. Weights are unpacked once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

from scot_core.llm.local.falcon import NEVER, by_pairs, has_shape
from scot_core.llm.local.four_bits import unpacked

_aten: Any = torch.ops.aten
Loras = tuple[Tensor, ...]  # A and B of query_key_value, dense_h_to_4h, dense, dense_4h_to_h


@dataclass(frozen=True, slots=True)
class _Block:
    norm: nn.LayerNorm
    inward: Tensor  # ((heads + 2) * size + ffn, hidden)
    attended: Tensor  # (hidden, heads * size)
    outward: Tensor  # (hidden, ffn)
    loras: Loras
    scale: float


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where tokens (T) stand in B rows of L places, and which of them (A) ask, at Q places a row."""

    turn: Tensor  # (T, 1, size / 2) complex
    tokens: Tensor  # (B * L,) at each place; at padding any
    first: Tensor  # (T,) the first place of each token
    again: Tensor  # (n,) places of tokens that were met before
    asks: Tensor | None  # (A,) tokens; None for all
    asked: Tensor  # (B * Q,) of those that ask, at each place; at padding any
    answers: Tensor  # (A,) the place that answers each
    bias: Tensor  # (B or 1, Q * heads, L)


class FalconTuning:
    """Computes losses of a model whose adapters learn."""

    def __init__(self, model: Any) -> None:
        """Take a PEFT model that `can_be_tuned`; its adapters stay its own, its weights are copied, unpacked."""
        inner = model.get_base_model()
        self._config, body = inner.config, inner.transformer
        self._heads: int = self._config.num_attention_heads
        self._size: int = self._config.hidden_size // self._heads
        self._embedding, self._norm, self._head = body.word_embeddings, body.ln_f, inner.lm_head
        self._frequencies: Tensor = body.rotary_emb.inv_freq
        self._order = by_pairs(self._heads, self._size).roll(2 * self._size)  # keys and values first
        self._blocks = [self._block(block) for block in body.h]

    def _block(self, block: Any) -> _Block:
        layers = (
            block.self_attention.query_key_value, block.mlp.dense_h_to_4h,
            block.self_attention.dense, block.mlp.dense_4h_to_h,
        )  # fmt: skip
        name = layers[0].active_adapters[0]
        inward, up, attended, outward = (unpacked(layer.get_base_layer()) for layer in layers)
        loras = tuple(half[name].weight for layer in layers for half in (layer.lora_A, layer.lora_B))
        inward = torch.cat([inward[self._order], up])
        return _Block(block.input_layernorm, inward, attended, outward, loras, layers[0].scaling[name])

    def loss(self, examples: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Tensor:
        """The sum of -log p over the tokens of the completions, of token ids (prompt, completion), neither empty."""
        ids, everyone, last, predicted, wanted = self._laid_out(examples)
        x = self._embedding(ids)
        for block in self._blocks:
            rows = last if block is self._blocks[-1] else everyone
            a, b, *others = block.loras
            x = _Attending.apply(x, block, rows, self._heads, a, b[self._order], *others)
        logits = self._head(self._norm(x))
        return functional.cross_entropy(logits[predicted], wanted, reduction="sum")

    def _laid_out(
        self, examples: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> tuple[Tensor, _Rows, _Rows, Tensor, Tensor]:
        """Token ids (T,), all tokens and those that ask, and of the latter which predict which token."""
        nodes: dict[tuple[int, int], int] = {}  # a token after a token
        rows: list[list[int]] = []
        for prompt, completion in examples:
            row, before = [], -1
            for token in (*prompt, *completion[:-1]):
                before = nodes.setdefault((before, token), len(nodes))
                row.append(before)
            rows.append(row)
        length = max(map(len, rows))
        place = torch.tensor([row + [0] * (length - len(row)) for row in rows]).flatten()
        real = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows]).flatten()
        first, again = _first(place, real, len(nodes))
        starts = [len(prompt) - 1 for prompt, _ in examples]
        asking = [row[start:] for row, start in zip(rows, starts, strict=True)]
        width = max(map(len, asking))
        queries = torch.tensor([row + [-1] * (width - len(row)) for row in asking]).flatten()
        some, asked = queries[queries >= 0].unique(return_inverse=True)
        places = torch.zeros_like(queries)
        places[queries >= 0] = asked
        answers, _ = _first(places, queries >= 0, len(some))
        at = first % length  # positions of the tokens
        turn = torch.polar(torch.ones(()), at[:, None].float() * self._frequencies)[:, None]
        keys = torch.arange(length)
        after = torch.tensor(starts)[:, None, None] + torch.arange(width)[:, None] < keys  # (B, Q, L)
        everyone = _Rows(turn, place, first, again, None, place, first, self._bias((keys[:, None] < keys)[None]))
        last = _Rows(turn, place, first, again, some, places, answers, self._bias(after))
        wanted = torch.tensor([token for _, completion in examples for token in completion])
        return torch.tensor([token for _, token in nodes]), everyone, last, asked, wanted

    def _bias(self, after: Tensor) -> Tensor:
        return torch.where(after, NEVER, 0.0).repeat_interleave(self._heads, dim=1)


def _first(tokens: Tensor, real: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first places (count,) of tokens among places, and those where tokens stand once more."""
    places = real.nonzero().flatten()
    first = torch.full((count,), len(tokens)).scatter_reduce_(0, tokens[places], places, "amin")
    return first, places[first[tokens[places]] != places]


def can_be_tuned(model: Any) -> bool:
    """Whether `FalconTuning` computes what this PEFT model does: a 4-bit Falcon of 7B's shape on a CPU, all adapted."""
    inner = model.get_base_model()
    if not has_shape(inner) or inner.config.activation != "gelu":
        return False
    layers = [module.get_base_layer() for module in inner.modules() if isinstance(module, BaseTunerLayer)]
    return len(layers) == 4 * len(inner.transformer.h) and all(isinstance(layer, Linear4bit) for layer in layers)


class _Attending(torch.autograd.Function):
    """A block: of x (T, hidden), the states (A, hidden) of the tokens that ask. Only x and adapters have gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: _Block, rows: _Rows, heads: int, *loras: Tensor) -> Tensor:
        attended, size = block.attended.shape[1], block.attended.shape[1] // heads
        narrow = attended + 2 * size
        inward = torch.cat([
            torch.addmm(block.inward[:narrow], loras[1], loras[0], alpha=block.scale),
            torch.addmm(block.inward[narrow:], loras[3], loras[2], alpha=block.scale),
        ])  # fmt: skip
        keyed, asking = inward[: 2 * size], inward[2 * size :]
        into = torch.addmm(block.attended, loras[5], loras[4], alpha=block.scale)
        out = torch.addmm(block.outward, loras[7], loras[6], alpha=block.scale)
        n, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], block.norm.weight, block.norm.bias, block.norm.eps)
        some, back, turn = (t if rows.asks is None else t[rows.asks] for t in (n, x, rows.turn))
        kv, qh = n @ keyed.T, some @ asking.T
        _turned(kv[:, :size], rows.turn)
        _turned(qh[:, :attended], turn)
        batch = len(rows.tokens) // rows.bias.shape[2]
        kv = kv[rows.tokens].view(batch, -1, 2 * size)
        q = qh[:, :attended][rows.asked].view(batch, -1, size)
        shares = torch.baddbmm(rows.bias, q, kv[..., :size].mT, alpha=1 / math.sqrt(size)).softmax(dim=-1)
        seen = torch.bmm(shares, kv[..., size:]).view(-1, attended)[rows.answers]
        act = functional.gelu(qh[:, attended:])
        ctx.save_for_backward(x, n, mean, rstd, some, kv, q, qh, shares, seen, act, keyed, asking, into, out, *loras)
        ctx.block, ctx.rows, ctx.turn = block, rows, turn
        return torch.addmm(back, seen, into.T).addmm_(act, out.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, n, mean, rstd, some, kv, q, qh, shares, seen, act, keyed, asking, into, out, *loras = ctx.saved_tensors
        block, rows, (g,) = ctx.block, ctx.rows, gradients
        attended, size = seen.shape[1], kv.shape[2] // 2
        of_qh = torch.empty_like(qh)
        _aten.gelu_backward.grad_input(g @ out, qh[:, attended:], grad_input=of_qh[:, attended:])
        of_seen = q.new_zeros(len(rows.asked), attended)
        of_seen[rows.answers] = g @ into
        of_seen = of_seen.view_as(q)
        of_kv = torch.empty_like(kv)
        of_kv[..., size:] = torch.bmm(shares.mT, of_seen)
        of_scores = _aten._softmax_backward_data(torch.bmm(of_seen, kv[..., size:].mT), shares, -1, shares.dtype)
        of_scores *= 1 / math.sqrt(size)
        of_kv[..., :size] = torch.bmm(of_scores.mT, q)
        of_qh[:, :attended] = torch.bmm(of_scores, kv[..., :size]).view(-1, attended)[rows.answers]
        flat = of_kv.view(-1, 2 * size)
        of_kv = flat[rows.first].index_add_(0, rows.tokens[rows.again], flat[rows.again])
        _turned(of_kv[:, :size], rows.turn.conj())
        _turned(of_qh[:, :attended], ctx.turn.conj())
        of_a, of_b = _adapter(of_qh[:, :attended], some, loras[0], loras[1][2 * size :])
        keyed_a, keyed_b = _adapter(of_kv, n, loras[0], loras[1][: 2 * size])
        changes = [
            of_a + keyed_a, torch.cat([keyed_b, of_b]),
            *_adapter(of_qh[:, attended:], some, *loras[2:4]), *_adapter(g, seen, *loras[4:6]),
            *_adapter(g, act, *loras[6:8]),
        ]  # fmt: skip
        torch._foreach_mul_(changes, block.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_n = of_kv @ keyed
            of_n = of_n.addmm_(of_qh, asking) if rows.asks is None else of_n.index_add_(0, rows.asks, of_qh @ asking)
            norm = block.norm
            of_x, *_ = _aten.native_layer_norm_backward(
                of_n, x, x.shape[-1:], mean, rstd, norm.weight, norm.bias, [True, False, False]
            )
            of_x = of_x.add_(g) if rows.asks is None else of_x.index_add_(0, rows.asks, g)
        return of_x, None, None, None, *changes


def _turned(states: Tensor, turn: Tensor) -> None:
    """Rotary embedding of heads (T, heads * size), in place."""
    torch.view_as_complex(states.unflatten(-1, (-1, turn.shape[-1], 2))).mul_(turn)


def _adapter(g: Tensor, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of A and B of g = d(x (B A)ᵀ)."""
    return (g @ b).T @ x, g.T @ (x @ a.T)
