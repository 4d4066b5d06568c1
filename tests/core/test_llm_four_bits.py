"""A 4-bit layer computes what its codes say, whatever its widths are and whatever the library thinks of the CPU."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from bitsandbytes.nn.modules import Linear4bit
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from torch import nn

from scot_core.llm.local import four_bits

# QLoRA's NormalFloat (arXiv 2305.14314, appendix E).
NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip


def layer_of(outputs: int, inputs: int, *, bias: bool = False) -> Any:
    layer: Any = Linear4bit(inputs, outputs, bias=bias, compute_dtype=torch.float32, quant_type="nf4")
    layer.support_avx512bf16_for_cpu = True  # as where bitsandbytes was imported before Scot, on such a CPU
    return layer.to("cpu").requires_grad_(False)


def said(layer: Any) -> NDArray[np.float64]:
    """What codes and scales stand for, in float64: blocks of 64 along the flattened weight, doubly quantised scales."""
    state = layer.weight.quant_state
    packed = layer.weight.data.numpy().reshape(-1)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[: state.shape.numel()]
    coarse = state.state2.absmax.double().numpy()[np.arange(state.absmax.numel()) // state.state2.blocksize]
    scales = state.state2.code.double().numpy()[state.absmax.numpy()] * coarse + state.offset.double().numpy()
    values = np.array(NF4)[codes] * scales[np.arange(codes.size) // state.blocksize]
    return np.asarray(values.reshape(tuple(state.shape)), dtype=np.float64)


@given(st.integers(1, 70), st.integers(1, 200), st.booleans(), st.booleans())
@example(32, 32, False, False)  # rows shorter than a block
@example(33, 96, True, False)  # rows of one and a half blocks
@example(64, 128, True, True)
@settings(max_examples=40, deadline=None)
def test_a_layer_of_any_shape_computes_what_its_codes_say(
    outputs: int, inputs: int, bias: bool, training: bool
) -> None:
    layer = layer_of(outputs, inputs, bias=bias)
    model = nn.Sequential(layer).train(training)
    four_bits.compute_alike(model)
    weight = said(layer)
    assert np.allclose(four_bits.unpacked(layer).numpy(), weight, rtol=1e-6, atol=1e-7)
    x = torch.randn(3, inputs)
    expected = x.double().numpy() @ weight.T + (layer.bias.double().numpy() if bias else 0)
    with torch.no_grad():
        assert np.allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-4)
    wanted = x.clone().requires_grad_()
    gradient = torch.randn(3, outputs)
    model(wanted).backward(gradient)
    assert wanted.grad is not None
    assert np.allclose(wanted.grad.numpy(), gradient.double().numpy() @ weight, rtol=1e-4, atol=1e-4)


def test_the_weights_stay_as_they_were_packed() -> None:
    layer = layer_of(32, 64)
    before = layer.weight.data.clone()
    model = nn.Sequential(layer).eval()
    four_bits.compute_alike(model)
    with torch.inference_mode():
        model(torch.randn(2, 64))
    assert torch.equal(layer.weight.data, before)
    assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False)


@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 5), st.booleans())
@settings(max_examples=20, deadline=None)
def test_an_adapted_layer_computes_what_peft_does(outputs: int, inputs: int, rank: int, bias: bool) -> None:
    model = get_peft_model(
        cast(Any, nn.Sequential(layer_of(outputs, inputs, bias=bias))),
        LoraConfig(r=rank, lora_alpha=3, target_modules=["0"], init_lora_weights=False),
    )
    four_bits.compute_alike(model)
    x, gradient = torch.randn(2, 4, inputs, requires_grad=True), torch.randn(2, 4, outputs)
    found = []
    for _ in range(2):
        model.zero_grad()
        x.grad = None
        y = model(x)
        y.backward(gradient)
        found.append([y.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)])
        four_bits.add_before_multiplying(model)
    for expected, same in zip(*found, strict=True):
        assert expected is not None and same is not None
        assert torch.allclose(same, expected, rtol=1e-4, atol=1e-4)
