"""A layer with ReLU and dropout: dropout(relu(x Wᵀ + b)), in training on a CPU as fast as its matrix products.

Torch's own way takes a random number of 32 bits for each element, keeps both results and both masks, and asks the
kernel for fresh pages for each. Here a byte decides about an element, one mask serves either pass, everything else is
done in place, and numpy multiplies: its BLAS is as fast on CPUs of either make, and large arrays of its come in huge
pages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
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
    plain = x.dtype == layer.weight.dtype == torch.float32 and x.device.type == "cpu"
    return plain and not torch.is_autocast_enabled("cpu")


class _Activated(torch.autograd.Function):
    """Of x (B, in), weight (out, in) and bias (out,), of whose results `dropped` of 256 are left out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dropped: int) -> Tensor:
        out = _array(x) @ _array(weight).T
        out += _array(bias)
        kept = out > 0
        if dropped:
            kept &= _bytes(out.size).reshape(out.shape) >= dropped
        ctx.save_for_backward(x, weight)
        ctx.kept, ctx.scale = kept.view(np.int8), _BYTE / (_BYTE - dropped)
        return torch.from_numpy(_masked(out, ctx, out))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        arrived = _array(gradients[0])
        passed = _masked(arrived, ctx, np.empty(arrived.shape, arrived.dtype))
        back = torch.from_numpy(passed @ _array(weight)) if ctx.needs_input_grad[0] else None
        return back, torch.from_numpy(passed.T @ _array(x)), torch.from_numpy(passed.sum(0)), None


def _masked(values: np.ndarray, ctx: Any, out: np.ndarray) -> np.ndarray:
    np.multiply(values, ctx.kept, out=out)
    if ctx.scale != 1:
        out *= ctx.scale
    return out


def _array(values: Tensor) -> np.ndarray:
    return values.detach().numpy()


def _bytes(count: int) -> np.ndarray:
    """Random bytes (count,), drawn eight at once."""
    drawn = torch.empty(-(-count // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    return drawn.numpy().view(np.uint8)[:count]
