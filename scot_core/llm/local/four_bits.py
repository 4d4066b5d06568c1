"""4-bit layers on CPUs: every CPU computes the same, up to float32's rounding.

bitsandbytes 0.50 computes otherwise on some, without a word:

- With AVX512-BF16, a layer in evaluation mode packs its weights anew and multiplies in bfloat16, or fails where its
  widths do not suit that.
- With AVX-512, weights are unpacked row by row; a row that is no whole number of blocks (an input width that 16
  divides and the block size, 64, does not) takes its scales from other rows' blocks.

So Scot unpacks the weights itself, as the one sequence of blocks that they were quantised as, and leaves the product
to torch. What bitsandbytes finds out about the CPU then decides nothing.
"""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.nn.modules import Linear4bit
from torch import nn


def unpacked(layer: Linear4bit) -> torch.Tensor:
    """The weight (out, in) of a 4-bit layer, in the dtype it had when it was quantised."""
    weight: Any = layer.weight
    blocks = copy.copy(weight.quant_state)
    shape, size = weight.quant_state.shape, blocks.blocksize
    count = shape.numel()
    # Two codes to the byte: where the last one has no neighbour, there is one in its byte all the same.
    blocks.shape = torch.Size((count // size, size) if count % size == 0 else (1, count + count % 2))
    values: torch.Tensor = bnb.functional.dequantize_4bit(weight.data, blocks)
    return values.flatten()[:count].reshape(shape)


class _Product(torch.autograd.Function):
    """x Wᵀ + b. W is unpacked for either pass: kept from one to the other, it would take a dense model's memory."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Linear4bit) -> torch.Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, unpacked(layer), layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0] @ unpacked(ctx.layer), None


def _forward(layer: Linear4bit, x: torch.Tensor) -> Any:
    return _Product.apply(x, layer)


def compute_alike(model: nn.Module) -> None:
    """Make every 4-bit layer of a model, whose weights are frozen, compute what it computes on any other CPU."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
