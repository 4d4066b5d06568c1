"""A layer with ReLU and dropout against torch's own, in its values, its gradients and what it leaves out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from scot_core import layers
from scot_core.layers import activated, zero_grad


def _inputs(rows: int, width: int, out: int) -> tuple[nn.Linear, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(width, out), torch.randn(rows, width, requires_grad=True)


def _gradients(layer: nn.Linear, x: Tensor, result: Tensor, arriving: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(result, (x, layer.weight, layer.bias), arriving)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(0, 9), width=st.integers(1, 9), out=st.integers(1, 9), dropped=st.sampled_from([0, 0.5, 0.75]))
def test_values_and_gradients_are_those_of_torch_with_the_same_mask(
    rows: int, width: int, out: int, dropped: float
) -> None:
    layer, x = _inputs(rows, width, out)
    arriving = torch.randn(rows, 2 * out)[:, :out]  # as a part of a wider table, which a concatenation's gradient is
    result = activated(layer, x, dropped, training=True)
    expected = functional.relu(layer(x)) * (result != 0) / (1 - dropped)
    torch.testing.assert_close(result, expected)
    if not dropped:
        torch.testing.assert_close(result, functional.relu(layer(x)))
    for ours, theirs in zip(
        _gradients(layer, x, result, arriving), _gradients(layer, x, expected, arriving), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dropped", [0, 0.5])
def test_without_onednn_the_same_comes_out(monkeypatch: pytest.MonkeyPatch, dropped: float) -> None:
    layer, x = _inputs(7, 9, 5)
    found = []
    for product in (layers._ONEDNN, None):
        monkeypatch.setattr(layers, "_ONEDNN", product)
        torch.manual_seed(1)
        result = activated(layer, x, dropped, training=True)
        found.append((result, *_gradients(layer, x, result, torch.ones(7, 5))))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("dropped", [0, 0.5])
def test_what_is_no_number_stays_none(dropped: float) -> None:
    layer, x = _inputs(7, 9, 5)
    with torch.no_grad():
        layer.weight[2, 3] = torch.nan
    torch.manual_seed(1)
    result = activated(layer, x, dropped, training=True)
    assert result[:, 2].isnan().any() and result[:, :2].isfinite().all()


def test_a_batch_that_needs_no_gradient_of_its_own_gives_those_of_the_weights() -> None:
    layer, x = _inputs(4, 3, 2)
    activated(layer, x.detach(), 0.0, training=True).sum().backward()  # type: ignore[no-untyped-call]
    functional.relu(layer(x.detach())).sum().backward()  # type: ignore[no-untyped-call]
    assert layer.weight.grad is not None
    one, x = _inputs(4, 3, 2)
    (weight,) = torch.autograd.grad(functional.relu(one(x.detach())).sum(), one.weight)
    torch.testing.assert_close(layer.weight.grad, 2 * weight)


def test_gradients_lie_where_those_of_the_step_before_did_and_are_their_own() -> None:
    layer, x = _inputs(7, 9, 5)
    second = nn.Linear(5, 3)  # not of `activated`: its gradient is let go
    parameters = [*layer.parameters(), *second.parameters()]
    places, weight = [], torch.empty(0)
    for batch in (x.detach(), 2 * x.detach(), x.detach()[:4]):
        zero_grad(parameters)
        assert all(one.grad is None for one in parameters)
        second(activated(layer, batch, 0.0, training=True)).square().sum().backward()
        (weight,) = torch.autograd.grad(second(functional.relu(layer(batch))).square().sum(), layer.weight)
        assert layer.weight.grad is not None
        places.append(layer.weight.grad.data_ptr())
        torch.testing.assert_close(layer.weight.grad, weight)
    assert len(set(places)) == 1
    second(activated(layer, x, 0.0, training=True)).square().sum().backward()  # without zero_grad they are added
    (more,) = torch.autograd.grad(second(functional.relu(layer(x))).square().sum(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, weight + more)
    zero_grad(parameters)
    zero_grad(parameters)  # also where nothing was passed back in between
    assert not {id(one) for one in second.parameters()} & {id(one) for one in layers._KEPT}


@pytest.mark.parametrize("dropped", [0.25, 0.5])
def test_as_many_are_left_out_as_are_asked_for_everywhere_and_by_the_seed(dropped: float) -> None:
    layer = nn.Linear(1, 256)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)

    def kept(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return activated(layer, torch.ones(4096, 1), dropped, training=True).detach()

    first = kept(1)
    assert set(first.unique().tolist()) == {0.0, torch.tensor(1 / (1 - dropped)).item()}  # type: ignore[no-untyped-call]
    share = (first != 0).float()
    spread = (dropped * (1 - dropped)) ** 0.5
    assert abs(share.mean() - (1 - dropped)) < 5 * spread / share.numel() ** 0.5
    for axis in (0, 1):  # the eight bytes of a draw are as good as each other
        assert (share.mean(axis) - (1 - dropped)).abs().max() < 6 * spread / share.shape[axis] ** 0.5
    assert torch.equal(kept(1), first)
    assert not torch.equal(kept(2), first)


@pytest.mark.parametrize(
    ("dropped", "training", "dtype"),
    [(0.3, True, torch.float32), (0.5, False, torch.float32), (0.5, True, torch.float64)],
)
def test_torch_does_the_rest(dropped: float, training: bool, dtype: torch.dtype) -> None:
    """A share that is no whole number of 256ths, evaluation, and other precisions."""
    layer, x = _inputs(5, 4, 3)
    layer, x = layer.to(dtype), x.to(dtype)
    torch.manual_seed(1)
    result = activated(layer, x, dropped, training=training)
    torch.manual_seed(1)
    assert torch.equal(result, functional.dropout(functional.relu(layer(x)), dropped, training))


def test_reduced_precision_rounds_the_products_alone() -> None:
    layer, x = _inputs(64, 32, 48)
    arriving = torch.randn(64, 48)

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        result = activated(layer, x, 0.0, training=True)
        return result, _gradients(layer, x, result, arriving)

    expected, gradients = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, rounded_gradients = run()
    for ours, exact in zip((rounded, *rounded_gradients), (expected, *gradients), strict=True):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, exact) or ours.ndim == 1  # a bias only hears what comes back
        assert (ours - exact).norm() < 0.1 * exact.norm()
