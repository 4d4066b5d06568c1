"""A layer with ReLU and dropout: dropout(relu(x Wᵀ + b)), in training on a CPU as fast as its matrix products.

Torch's own way takes a random number of 32 bits for each element, keeps both results and both masks, and asks the
kernel for fresh pages for each. Here a byte decides about an element, the result says what passes back, and everything
else is done in place; masks are comparisons of float32, for torch takes longer over booleans than over a sum.

Products are oneDNN's, which torch has for what it compiles and otherwise leaves to MKL: on a CPU of AMD, which is not
MKL's own, they take a tenth less. Not those of weights' gradients, whose factors are both turned. (numpy's BLAS would
be as fast, but has threads of its own, which wait for torch's at every layer.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.weak import WeakTensorKeyDictionary

_BYTE = 256
_HAS_ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if _HAS_ONEDNN else None
_KEPT = WeakTensorKeyDictionary()  # weights that have passed back: the memory of their last gradient, or None


def activated(layer: nn.Linear, x: Tensor, dropped: float, *, training: bool) -> Tensor:
    """dropout(relu(x Wᵀ + b)) of x (B, in), (B, out); the share `dropped` is left out in training, by torch's seed.

    Where autocast asks a CPU for bfloat16, products are computed in it, and the result is float32.
    """
    if training and _BYTE * dropped % 1 == 0 and _on_cpu(layer, x):
        result: Tensor = _Activated.apply(x, layer.weight, layer.bias, int(_BYTE * dropped))  # type: ignore[no-untyped-call]
        return result
    return functional.dropout(functional.relu(layer(x)), dropped, training)


def zero_grad(parameters: Iterable[nn.Parameter]) -> None:
    """As a model's own, but the next gradients of `activated` layers take the memory of these.

    The kernel would clear fresh pages for each: at the paper's size, 200 MB a step. So whoever still holds one of these
    gradients finds the next in it.
    """
    for weight in parameters:
        if weight in _KEPT:
            _KEPT[weight] = weight.grad if weight.device.type == "cpu" and weight.dtype == torch.float32 else None
        weight.grad = None


def _on_cpu(layer: nn.Linear, x: Tensor) -> bool:
    return x.dtype == layer.weight.dtype == torch.float32 and x.device.type == "cpu"


class _Activated(torch.autograd.Function):
    """Of x (B, in), weight (out, in) and bias (out,), of whose results `dropped` of 256 are left out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dropped: int) -> Tensor:
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        x, weight, scale = x.to(precision), weight.to(precision), _BYTE / (_BYTE - dropped)
        if precision == torch.float32:
            out = linear(x, weight, bias).relu_()  # oneDNN would do that, too, but make 0 of what is no number
        else:
            out = torch.mm(x, weight.T).float().add_(bias).relu_()
        if dropped:
            out.mul_(scale)
            _where_above(out, _bytes(out.numel()).view(out.shape).float(), dropped - 0.5, out)
        ctx.save_for_backward(x, weight, out)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, out = ctx.saved_tensors
        passed = _where_above(gradients[0], out, 0, torch.empty_like(out))
        if ctx.scale != 1:
            passed.mul_(ctx.scale)
        factor = passed.to(x.dtype)
        back = None
        if ctx.needs_input_grad[0]:
            back = linear(factor, weight.T) if factor.dtype == torch.float32 else torch.mm(factor, weight).float()
        if factor.dtype != torch.float32:
            return back, torch.mm(factor.T, x).float(), passed.sum(0), None
        kept, _KEPT[weight] = _KEPT.get(weight, None), None  # type: ignore[no-untyped-call]
        return back, torch.mm(factor.T, x, out=kept), passed.sum(0), None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b of float32 x (n, k), weight (m, k) and bias (m,), (n, m)."""
    if _ONEDNN is None:
        return functional.linear(x, weight, bias)
    product: Tensor = _ONEDNN(x, weight, bias, "none", [], "")
    return product


def _where_above(values: Tensor, compared: Tensor, threshold: float, out: Tensor) -> Tensor:
    """Values where what they are compared with is above a threshold, elsewhere 0: torch's fastest way to mask."""
    torch.ops.aten.threshold_backward.grad_input(values, compared, threshold, grad_input=out)
    return out


def _bytes(count: int) -> Tensor:
    """Random bytes (count,) uint8, drawn eight at once."""
    drawn = torch.empty(-(-count // 8), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    return drawn.view(torch.uint8)[:count]
