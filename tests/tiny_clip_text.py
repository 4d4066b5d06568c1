"""CLIP's text tower with a few thousand random numbers, and a tokenizer that has `$`, letters and punctuation."""

from __future__ import annotations

import string
from typing import Any

import torch
import transformers

WIDTH, DIM, LIMIT = 16, 12, 77
_SIGNS = [*string.ascii_lowercase, *string.digits, "$", ".", ",", "'"]
WORDS = [*_SIGNS, *(sign + "</w>" for sign in _SIGNS), "spare", "<|startoftext|>", "<|endoftext|>"]
DOLLAR, SPARE, START, END = (WORDS.index(word) for word in ("$</w>", "spare", "<|startoftext|>", "<|endoftext|>"))


def tokenizer() -> Any:
    return transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(WORDS)}, merges=[])


def _sizes(eos: int) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": DIM,
        "vocab_size": len(WORDS),
        "max_position_embeddings": LIMIT,
        "bos_token_id": START,
        "eos_token_id": eos,
        "pad_token_id": END,
    }


def model(eos: int = END, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> Any:
    """CLIPTextModelWithProjection; `eos` 2 is what the configurations of OpenAI's CLIPs say."""
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig.from_dict({**_sizes(eos), "attn_implementation": attention})
    return _filled(transformers.CLIPTextModelWithProjection(config), dtype)


def whole_model() -> Any:
    """CLIPModel: both towers, as the published encoders hold it."""
    torch.manual_seed(0)
    vision = {**_sizes(END), "image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(text_config=_sizes(END), vision_config=vision, projection_dim=DIM)
    return _filled(transformers.CLIPModel(config), torch.float32)


def _filled(made: Any, dtype: torch.dtype) -> Any:
    for name, parameter in made.named_parameters():  # wide enough that different inputs end far apart
        torch.nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.2)
    return made.to(dtype).eval()
