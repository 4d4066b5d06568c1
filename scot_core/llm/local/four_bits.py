"""4-bit layers: whether a model has them, what their weights are, and what they compute on a CPU.

Every CPU computes the same, up to float32's rounding. bitsandbytes 0.50 computes otherwise on some, without a word:

- With AVX512-BF16, a layer in evaluation mode packs its weights anew and multiplies in bfloat16, or fails where its
  widths do not suit that.
- With AVX-512, weights are unpacked row by row; a row that is no whole number of blocks (an input width that 16
  divides and the block size, 64, does not) takes its scales from other rows' blocks.

So Scot unpacks the weights itself, as the one sequence of blocks that they were quantised as, and leaves the product
to torch. What bitsandbytes finds out about the CPU then decides nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import MethodType
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.nn.modules import Linear4bit
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from scot_core.errors import ModelError


@dataclass(frozen=True, slots=True)
class FourBitCheck:
    """How many linear layers of a model are 4-bit, and the names of those that are not (the head apart)."""

    quantised: int
    plain: tuple[str, ...]


def is_four_bit(model: nn.Module) -> FourBitCheck:
    """Count the 4-bit linear layers of a model; its output head and LoRA matrices do not count as plain."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    quantised, plain = 0, []
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            quantised += 1
        elif isinstance(module, nn.Linear) and module is not head and "lora_" not in name and "lm_head" not in name:
            plain.append(name)
    return FourBitCheck(quantised, tuple(plain))


def require_four_bit(model: nn.Module, name: str) -> None:
    """Raise ModelError unless every linear layer of the model, its head apart, is 4-bit."""
    check = is_four_bit(model)
    if check.plain or not check.quantised:
        raise ModelError(
            f"{name} is not a 4-bit model: {check.quantised} linear layers are quantised, "
            f"{len(check.plain)} are not "
            f"({', '.join(check.plain[:3]) or 'there is none'}); bitsandbytes does not replace layers of their class"
        )


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


class _Adapted(torch.autograd.Function):
    """x (W + s B A)ᵀ + b: the update is added to the weight, which has fewer numbers than a batch has states.

    Gradients of A and B are products of their rank; of x there is one product where PEFT's sum has two.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, layer: Any, scale: float) -> torch.Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.layer, ctx.scale = layer, scale
        return nn.functional.linear(x, torch.addmm(unpacked(layer), b, a, alpha=scale), layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, a, b = ctx.saved_tensors
        gradient, rows = gradients[0].flatten(0, -2), x.flatten(0, -2)
        of_x = None
        if ctx.needs_input_grad[0]:  # the first block's is not wanted: nothing before it learns
            of_x = (gradient @ torch.addmm(unpacked(ctx.layer), b, a, alpha=ctx.scale)).view_as(x)
        of_a, of_b = (gradient @ b).T @ rows, gradient.T @ (rows @ a.T)
        return of_x, of_a.mul_(ctx.scale), of_b.mul_(ctx.scale), None, None


def _adapted_forward(layer: Any, x: torch.Tensor) -> Any:
    name = layer.active_adapters[0]
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return _Adapted.apply(x, a, b, layer.get_base_layer(), layer.scaling[name])


def add_before_multiplying(model: nn.Module) -> None:
    """Make every 4-bit layer with a LoRA adapter (one, plain, without dropout) compute the same by fewer products.

    For float32: added to weights of fewer digits, a small update would be lost.
    """
    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        if isinstance(layer.get_base_layer(), Linear4bit):
            layer.forward = MethodType(_adapted_forward, layer)


def _dense(layer: Any, dtype: torch.dtype) -> nn.Linear:
    """A 4-bit layer and its LoRA update as one layer: what the two compute, said once."""
    base: Any = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
    weight = unpacked(base).float()
    if isinstance(layer, BaseTunerLayer):
        adapted: Any = layer
        for adapter in layer.active_adapters:
            weight = weight + adapted.get_delta_weight(adapter).float()
    dense = nn.Linear(weight.shape[1], weight.shape[0], bias=base.bias is not None, device="meta")
    dense.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    if base.bias is not None:
        dense.bias = nn.Parameter(base.bias.to(dtype), requires_grad=False)
    return dense


def dequantise(model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Replace every 4-bit layer, with its adapter if it has one, by the dense layer it stands for, in place.

    The model computes the same function as before, up to rounding to `dtype`. 4-bit layers unpack their weights at
    each token; this does it once.
    """
    for name, module in list(model.named_modules()):
        base: Any = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        if isinstance(base, Linear4bit) and not name.endswith("base_layer"):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, _dense(module, dtype))
            del base.weight  # it refers to its layer, and would stay until somebody looks for garbage
