"""A layer with ReLU and dropout: dropout(relu(x Wᵀ + b)), in training on a CPU as fast as its matrix products.

Torch's own way takes a random number of 32 bits for each element, keeps both results and both masks, and asks the
kernel for fresh pages for each. Here a byte decides about an element, one mask serves either pass, and everything else
is done in place. Torch multiplies, too: numpy's BLAS has threads of its own, which wait for torch's at every layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_BYTE = 256


def activated(layer: nn.Linear, x: Tensor, dropped: float, *, training: bool) -> Tensor:
    """dropout(relu(x Wᵀ + b)) of x (B, in), (B, out); the share `dropped` is left out in training, by torch's seed.

    Where autocast asks a CPU for bfloat16, products are computed in it, and the result is float32.
    """
    if training and _BYTE * dropped % 1 == 0 and _on_cpu(layer, x):
        result: Tensor = _Activated.apply(x, layer.weight, layer.bias, int(_BYTE * dropped))  # type: ignore[no-untyped-call]
        return result
    return functional.dropout(functional.relu(layer(x)), dropped, training)


def _on_cpu(layer: nn.Linear, x: Tensor) -> bool:
    return x.dtype == layer.weight.dtype == torch.float32 and x.device.type == "cpu"


class _Activated(torch.autograd.Function):
    """Of x (B, in), weight (out, in) and bias (out,), of whose results `dropped` of 256 are left out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dropped: int) -> Tensor:
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        x, weight = x.to(precision), weight.to(precision)
        out = _product(x, weight.T).add_(bias)
        kept = out > 0
        if dropped:
            kept &= _bytes(out.numel()).view(out.shape) >= dropped
        ctx.save_for_backward(x, weight, kept)
        ctx.scale = _BYTE / (_BYTE - dropped)
        return _masked(out, kept, ctx.scale, out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, kept = ctx.saved_tensors
        arrived = gradients[0]
        passed = _masked(arrived, kept, ctx.scale, torch.empty_like(arrived))
        factor = passed.to(x.dtype)
        back = _product(factor, weight) if ctx.needs_input_grad[0] else None
        return back, _product(factor.T, x), passed.sum(0), None


def _product(left: Tensor, right: Tensor) -> Tensor:
    """float32 (n, m), whatever the precision of the factors (n, k) and (k, m)."""
    return torch.mm(left, right).float()


def _masked(values: Tensor, kept: Tensor, scale: float, out: Tensor) -> Tensor:
    torch.mul(values, kept, out=out)
    return out if scale == 1 else out.mul_(scale)


def _bytes(count: int) -> Tensor:
    """Random bytes (count,) uint8, drawn eight at once."""
    drawn = torch.empty(-(-count // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    return drawn.view(torch.uint8)[:count]
