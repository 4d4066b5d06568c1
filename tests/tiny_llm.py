"""A tiny random Falcon with 7B's shape choices, and a tokenizer: real architectures that fit into a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import FalconConfig, FalconForCausalLM, PreTrainedTokenizerFast

from scot_core.config import FinetuneConfig

END = "<|end|>"
EXAMPLES = [
    (f"caption: a {colour} {noun}\nedit:", f" make it {other}\na {other} {noun}")
    for colour in ("red", "green", "blue")
    for other in ("black", "white")
    for noun in ("mug", "lamp", "vase", "cup")
]


def build_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["".join(pair) for pair in EXAMPLES], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    wrapped.save_pretrained(folder)
    return wrapped


def on(base: str, config: FinetuneConfig, **changes: Any) -> FinetuneConfig:
    """A configuration with another base, and other changes."""
    return config.model_copy(update={"base": base, **changes})


def build_falcon(folder: Path) -> str:
    """Weights, config and tokenizer in a folder; returns its name."""
    tokenizer = build_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = FalconConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            multi_query=True,
            parallel_attn=True,
            bias=False,
            new_decoder_architecture=False,
            alibi=False,
            hidden_dropout=0.1,
            attention_dropout=0.1,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
            initializer_range=0.2,
        )
        FalconForCausalLM(config).save_pretrained(folder)
    return str(folder)
