"""A layer with ReLU and dropout: dropout(relu(x Wᵀ + b)), in training on a CPU as fast as its matrix products.

Torch's own way takes a random number of 32 bits for each element, keeps both results and both masks, and asks the
kernel for fresh pages for each. Here a byte decides about an element, one mask serves either pass, everything else is
done in place, and numpy multiplies: its BLAS is as fast on CPUs of either make, and large arrays of its come in huge
pages.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    return x.dtype == layer.weight.dtype == torch.float32 and x.device.type == "cpu"


class _Activated(torch.autograd.Function):
    """Of x (B, in), weight (out, in) and bias (out,), of whose results `dropped` of 256 are left out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dropped: int) -> Tensor:
        ctx.x, ctx.weight = (_operand(factor.detach(), _precision()) for factor in (x, weight))
        out = _product(ctx.x, ctx.weight.T)
        out += bias.detach().numpy()
        kept = out > 0
        if dropped:
            kept &= _bytes(out.size).reshape(out.shape) >= dropped
        ctx.kept, ctx.scale = kept.view(np.int8), _BYTE / (_BYTE - dropped)
        return torch.from_numpy(_masked(out, ctx, out))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        arrived = gradients[0].numpy()
        passed = _masked(arrived, ctx, np.empty(arrived.shape, arrived.dtype))
        factor = _operand(torch.from_numpy(passed), ctx.x.dtype)
        back = torch.from_numpy(_product(factor, ctx.weight)) if ctx.needs_input_grad[0] else None
        return back, torch.from_numpy(_product(factor.T, ctx.x)), torch.from_numpy(passed.sum(0)), None


def _precision() -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32


def _operand(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values if values.dtype == dtype else _unset(values.shape, dtype).copy_(values)


def _product(left: Tensor, right: Tensor) -> np.ndarray:
    """float32 (n, m), whatever the precision of the factors (n, k) and (k, m)."""
    if left.dtype == torch.float32:
        return np.asarray(left.numpy() @ right.numpy())
    rounded = _unset((left.shape[0], right.shape[1]), left.dtype)
    return _operand(torch.mm(left, right, out=rounded), torch.float32).numpy()


def _unset(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Numpy's memory, for its huge pages."""
    return torch.from_numpy(np.empty((*shape[:-1], shape[-1] * dtype.itemsize), np.uint8)).view(dtype)


def _masked(values: np.ndarray, ctx: Any, out: np.ndarray) -> np.ndarray:
    np.multiply(values, ctx.kept, out=out)
    if ctx.scale != 1:
        out *= ctx.scale
    return out


def _bytes(count: int) -> np.ndarray:
    """Random bytes (count,), drawn eight at once."""
    drawn = torch.empty(-(-count // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    return drawn.numpy().view(np.uint8)[:count]
