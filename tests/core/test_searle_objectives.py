"""The distillation loss against loops over plain numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scot_core.errors import ConfigError, ShapeError
from scot_core.searle import distillation_loss


def pair(rows: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    oti, phi = torch.randn(2, rows, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return oti.to(dtype), phi.to(dtype)


def by_hand(oti: Tensor, phi: Tensor, temperature: float) -> float:
    vectors = [*oti.tolist(), *phi.tolist()]
    unit = [[x / math.sqrt(sum(y * y for y in vector)) for x in vector] for vector in vectors]
    total, rows = 0.0, len(oti)
    for i, anchor in enumerate(unit):
        to = [math.exp(sum(a * b for a, b in zip(anchor, other, strict=True)) / temperature) for other in unit]
        partner = i + rows if i < rows else i - rows
        total -= math.log(to[partner] / sum(value for j, value in enumerate(to) if j != i))
    return total / (2 * rows)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 6), seed=st.integers(0, 99), temperature=st.sampled_from([0.05, 0.25, 1.0]))
def test_it_is_nt_xent_over_both_kinds_of_pseudo_tokens(rows: int, seed: int, temperature: float) -> None:
    oti, phi = pair(rows, seed)
    loss = distillation_loss(oti, phi, temperature=temperature)
    assert loss.dtype == torch.float64
    assert float(loss) == pytest.approx(by_hand(oti, phi, temperature), abs=1e-10)
    assert float(loss) == pytest.approx(float(distillation_loss(phi, oti, temperature=temperature)), abs=1e-10)
    scaled = distillation_loss(3 * oti, phi / 7, temperature=temperature)  # lengths do not matter
    assert float(loss) == pytest.approx(float(scaled), abs=1e-10)


def test_values_by_hand_and_the_default_temperature() -> None:
    same = torch.ones(4, 3, dtype=torch.float64)
    assert float(distillation_loss(same, same)) == pytest.approx(math.log(7))
    right = torch.eye(2, dtype=torch.float64)  # each partner at 1, the two others at 0
    assert float(distillation_loss(right, right)) == pytest.approx(math.log(1 + 2 * math.exp(-4)))
    assert float(distillation_loss(*pair(1))) == pytest.approx(0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_less_than_float64_is_computed_in_float32_under_autocast_too(dtype: torch.dtype) -> None:
    oti, phi = pair(4, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distillation_loss(oti, phi)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(by_hand(oti.double(), phi.double(), 0.25), rel=1e-5)


def test_its_gradient_is_right() -> None:
    oti, phi = pair(3)
    assert torch.autograd.gradcheck(lambda words: distillation_loss(oti, words), phi.requires_grad_())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o, p: (o[:2], p), ["(2, 5)", "(3, 5)"]),
        (lambda o, p: (o, p[0]), ["phi_tokens", "(5,)"]),
        (lambda o, p: (o[:0], p[:0]), ["(0, 5)"]),
        (lambda o, p: (o.float(), p), ["torch.float32", "torch.float64"]),
        (lambda o, p: (o.long(), p.long()), ["torch.int64"]),
        (lambda o, p: (o, p.to("meta")), ["cpu", "meta"]),
    ],
)
def test_batches_that_do_not_fit_are_refused(change: Any, words: list[str]) -> None:
    with pytest.raises(ShapeError) as caught:
        distillation_loss(*change(*pair(3)))
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(ConfigError, match="temperature"):
        distillation_loss(*pair(3), temperature=0.0)
