"""Falcon written out computes what transformers' forward does: whatever the shape, the padding and the rows kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import FalconConfig, FalconForCausalLM

from scot_core.config import FinetuneConfig
from scot_core.llm.local import falcon, falcon_tuning, finetune
from scot_core.llm.local import generator as local
from scot_core.llm.local.decode import LibraryReading
from scot_core.llm.local.weights import CATALOGUE_FALCON

SEVEN_B: dict[str, Any] = {"multi_query": True, "parallel_attn": True, "bias": False, "alibi": False}


def build(**changes: Any) -> Any:
    """A random Falcon in evaluation mode."""
    given = {
        "vocab_size": 50,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        **SEVEN_B,
        **changes,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = FalconForCausalLM(FalconConfig(**given, initializer_range=0.3))
        return model.eval()


SHAPES = [
    build(),
    build(num_hidden_layers=1, hidden_size=64, num_attention_heads=4, activation="relu"),
    build(num_hidden_layers=3, hidden_size=20, num_attention_heads=1, ffn_hidden_size=34, rope_theta=500.0),
]


@torch.inference_mode()
def assert_alike(model: Any, prompts: list[list[int]], steps: int, *, shared: int = 0, drop: int | None = None) -> None:
    """Both ways read the same: a beginning that rows share, the rows, padded on the left, and further tokens."""
    assert falcon.is_plain(model)
    longest = max(map(len, prompts))
    ways: list[Any] = [LibraryReading(model), falcon.Falcon(model).reading(shared + longest + steps)]
    if shared:
        before = torch.arange(shared)[None] % model.config.vocab_size
        for way in ways:
            way.read(before, torch.ones_like(before), torch.arange(shared)[None])
            way.repeat(len(prompts))
    tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    own = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    mask = torch.tensor([[1] * shared + row for row in own])
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, shared:]
    for step in range(steps + 1):
        expected, found = (way.read(tokens, mask, positions) for way in ways)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
        if step == 1 and drop is not None and len(prompts) > 1:
            kept = torch.tensor([row for row in range(len(prompts)) if row != drop % len(prompts)])
            expected, mask, positions = expected[kept], mask[kept], positions[kept]
            for way in ways:
                way.keep(kept)
        tokens = expected.argmax(dim=-1)[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)


@given(
    st.sampled_from(range(len(SHAPES))),
    st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=12), min_size=1, max_size=6),
    st.integers(0, 3),
    st.sampled_from([0, 1, 7]),
    st.none() | st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_any_shape_reads_as_the_library_does(
    shape: int, prompts: list[list[int]], steps: int, shared: int, drop: int | None
) -> None:
    assert_alike(SHAPES[shape], prompts, steps, shared=shared, drop=drop)


def test_prompts_of_more_tokens_than_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(falcon, "_TOKENS_AT_ONCE", 20)
    prompts = [[(3 * row + place) % 50 for place in range(1 + row // 2)] for row in range(14)]
    assert_alike(SHAPES[0], prompts, 3, shared=5, drop=2)
    assert_alike(SHAPES[0], [[7] * 30], 2)


def test_the_shipped_falcon_reads_as_the_library_does() -> None:
    generator = local.Generator.load(CATALOGUE_FALCON)
    texts = ["caption: a red mug\nedit:", "caption: a photo of a large pink trainer, on a green lawn\nedit: make it"]
    assert_alike(generator.model, [list(generator.tokenizer(text).input_ids) for text in texts], 12)


@pytest.mark.parametrize(
    "changes",
    [
        {"ffn_hidden_size": 33},
        {"alibi": True},
        {"bias": True},
        {"parallel_attn": False},
        {"multi_query": False},
        {"new_decoder_architecture": True, "num_kv_heads": 1},
        {"new_decoder_architecture": True, "num_attention_heads": 4, "num_kv_heads": 2},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ],
    ids=str,
)
def test_another_architecture_is_left_to_the_library(changes: dict[str, Any]) -> None:
    assert not falcon.is_plain(build(**changes))


def test_other_weights_than_float32_are_left_to_the_library() -> None:
    assert not falcon.is_plain(build().to(torch.bfloat16))
    assert not falcon.is_plain(local.load_base(CATALOGUE_FALCON)[0])  # its layers are 4-bit


# ----------------------------------------------------------------------------------------------- tuning


@pytest.fixture(scope="module")
def adapted() -> Any:
    """The shipped Falcon in 4 bits with an adapter that is not at its start."""
    model = finetune._adapted(local.load_base(CATALOGUE_FALCON, device="cpu")[0], FinetuneConfig(rank=4, alpha=6))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


TOKENS = st.lists(st.integers(1, 4), min_size=1, max_size=9)  # so few kinds that rows begin alike


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=7))
@settings(max_examples=25, deadline=None)
def test_losses_and_gradients_of_tuning_are_the_librarys(adapted: Any, rows: list[tuple[list[int], list[int]]]) -> None:
    assert falcon_tuning.can_be_tuned(adapted)
    examples = [finetune._Example(*row) for row in rows]
    found = []
    for way in (finetune._summed(adapted, 0), finetune._library_loss(adapted, 0)):
        adapted.zero_grad()
        loss: Any = way(examples)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in adapted.parameters() if p.requires_grad)])
    for ours, expected in zip(*found, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()) + 1e-6)


def test_other_falcons_are_tuned_by_the_library() -> None:
    config = FinetuneConfig(rank=4)
    assert not falcon_tuning.can_be_tuned(finetune._adapted(build(activation="gelu"), config))  # not in 4 bits
