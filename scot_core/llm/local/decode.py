"""The decoding loop: a batch of prompts with one key-value cache, sampled with one random number per token.

A row's token is the inverse of its cumulative distribution at a uniform number that depends on the row's
seed and the position alone, so neither neighbours nor the vocabulary's size change what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from transformers import DynamicCache

# Finished rows leave the batch at every so many tokens: a fixed rhythm keeps runs repeatable.
_COMPACT_EVERY: Final = 4
_WORTH_SHARING: Final = 64  # tokens; fewer are read with each row, as they always were


class SeededPrompt(NamedTuple):
    """A prompt as token ids, and the seed of its random numbers."""

    prompt: list[int]
    seed: int


class Reading(Protocol):
    """Rows of tokens that a model has read."""

    def read(self, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Read (B, S) more tokens at their positions; returns the logits after the last, (B, V).

        `mask`, (B, tokens read in all), is 0 at padding, which stands to the left of the tokens it is read with.
        """

    def repeat(self, rows: int) -> None:
        """One row becomes many that begin with it."""

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows alone."""


class LibraryReading:
    """`Reading` of any causal model of transformers."""

    def __init__(self, model: Any) -> None:
        """Nothing is read yet."""
        self._model, self._cache = model, DynamicCache()

    def read(self, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=self._cache, use_cache=True,
            logits_to_keep=1,
        ).logits  # fmt: skip
        return logits[:, -1]

    def repeat(self, rows: int) -> None:
        self._cache.batch_repeat_interleave(rows)

    def keep(self, rows: torch.Tensor) -> None:
        self._cache.batch_select_indices(rows)


def uniforms(seed: int, count: int) -> np.ndarray:
    """The random numbers of one row, in [0, 1), float64; a longer row starts with those of a shorter one."""
    return np.random.Generator(np.random.Philox(key=seed)).random(count)


def pick(logits: torch.Tensor, uniform: torch.Tensor, temperature: float) -> torch.Tensor:
    """Sample one token a row from softmax(logits / temperature) by inverting its cumulative distribution.

    Args:
        logits: (B, V), any float dtype.
        uniform: (B,) float64 in [0, 1).
        temperature: 0 takes the largest logit.

    Returns:
        (B,) int64
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    # Single precision would lose the tail of a large vocabulary in the sum.
    cumulative = torch.softmax(logits.float() / temperature, dim=-1).double().cumsum(dim=-1)
    drawn = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]
    return drawn.clamp(max=logits.shape[1] - 1)


def without_repeated_bigrams(logits: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
    """Logits (B, V) with what would repeat a pair of neighbours of a row's tokens (B, T) at minus infinity."""
    rows, places = (history[:, :-1] == history[:, -1:]).nonzero(as_tuple=True)
    logits = logits.clone()
    logits[rows, history[rows, places + 1]] = -torch.inf
    return logits


@torch.inference_mode()
def decode(
    reading: Reading,
    rows: Sequence[SeededPrompt],
    *,
    end: int,
    temperature: float,
    max_new_tokens: int,
    repeat_bigrams: bool = True,
    device: torch.device | str = "cpu",
) -> list[list[int]]:
    """Continue all rows together.

    Args:
        reading: by the model that writes; it has read nothing yet.
        rows: prompts, best of similar length (they are padded on the left).
        end: id of the end-of-sequence token.
        temperature: see `pick`.
        max_new_tokens: bound on each row.
        repeat_bigrams: False keeps two neighbouring tokens, prompt included, from standing in a row again.
        device: where the model is.

    Returns:
        New token ids of each row, with the end token where it was reached.
    """
    shared = _shared(rows)
    before = torch.tensor([rows[0].prompt[:shared]], device=device, dtype=torch.long)
    if shared:
        reading.read(before, torch.ones_like(before), torch.arange(shared, device=device)[None])
        reading.repeat(len(rows))
    longest = max(len(row.prompt) for row in rows)
    own = [(longest - len(r.prompt), r.prompt[shared:]) for r in rows]
    tokens = torch.tensor([[end] * padding + ids for padding, ids in own], device=device)
    mask = torch.tensor([[1] * shared + [0] * padding + [1] * len(ids) for padding, ids in own], device=device)
    uniform = torch.from_numpy(np.stack([uniforms(r.seed, max_new_tokens) for r in rows])).to(device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, shared:]
    prompts = torch.cat([before.expand(len(rows), -1), tokens], dim=1)
    alive = torch.arange(len(rows), device=device)
    written = torch.full((len(rows), max_new_tokens), end, device=device)
    running = torch.ones(len(rows), dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        logits = reading.read(tokens, mask, positions)
        if not repeat_bigrams:
            history = torch.cat([prompts[alive], written[alive, :step]], dim=1)
            logits = without_repeated_bigrams(logits, history)
        drawn = pick(logits, uniform[alive, step], temperature)
        written[alive[running], step] = drawn[running]
        running = running & (drawn != end)
        if (step + 1) % _COMPACT_EVERY == 0:
            keep = running.nonzero()[:, 0]
            if len(keep) == 0:
                break
            if len(keep) < len(running):
                reading.keep(keep)
                alive, mask, drawn, positions, running = (x[keep] for x in (alive, mask, drawn, positions, running))
        tokens = drawn[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return [_until(row, end) for row in written.tolist()]


def _shared(rows: Sequence[SeededPrompt]) -> int:
    """Tokens that all prompts begin with, where they are so many (worked examples) that reading them once pays."""
    first, last = min(r.prompt for r in rows), max(r.prompt for r in rows)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    same = min(same, min(len(r.prompt) for r in rows) - 1)
    return same if same >= _WORTH_SHARING else 0


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row
