"""Encoders of the published architectures with a few thousand random numbers, saved as their publishers save them."""

from __future__ import annotations

import string
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

IMAGE_SIZE, PATCH, WIDTH = 32, 8, 32
TOWER = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = {**TOWER, "image_size": IMAGE_SIZE, "patch_size": PATCH}


def save(name: str, folder: Path, seed: int = 0) -> Path:
    """A tiny encoder of the kind of `scot_core.encoders.load(name)`: config, safetensors and tokenizer."""
    torch.manual_seed(seed)
    model, tokenizer = _BUILDERS[name]()
    for parameter in model.parameters():  # wide enough that different inputs end far apart, and no zeros
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _clip() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    letters = list(string.ascii_lowercase + string.digits)
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    text = {
        **TOWER,
        "vocab_size": len(words),
        "max_position_embeddings": 77,
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
        "pad_token_id": len(words) - 1,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    return transformers.CLIPModel(config), tokenizer


def _siglip() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *string.ascii_lowercase, *string.digits]
    tokenizer = transformers.GemmaTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], padding_side="right"
    )
    text = {
        **TOWER,
        "vocab_size": len(words),
        "max_position_embeddings": 64,
        "projection_size": WIDTH,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 1,
    }
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION)), tokenizer


def _bert() -> tuple[PreTrainedTokenizerBase, int]:
    pieces = [*string.ascii_lowercase, *string.digits, "-", "'", ","]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *("##" + piece for piece in pieces), "red", "mug"]
    tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})  # as LAVIS and BLIP do
    return tokenizer, len(tokenizer)


def _blip() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer, size = _bert()
    text = {
        **TOWER,
        "encoder_hidden_size": WIDTH,
        "vocab_size": size,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": size - 1,
        "sep_token_id": 3,
        "eos_token_id": 3,
    }
    config = transformers.BlipConfig(text_config=text, vision_config=VISION, image_text_hidden_size=16)
    return transformers.BlipForImageTextRetrieval(config), tokenizer


def _blip2() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    tokenizer, size = _bert()
    qformer = {
        **TOWER,
        "encoder_hidden_size": 24,
        "vocab_size": size,
        "max_position_embeddings": 512,
        "use_qformer_text_input": True,
        "cross_attention_frequency": 2,
    }
    config = transformers.Blip2Config(
        vision_config={**VISION, "hidden_size": 24},
        qformer_config=qformer,
        text_config={"model_type": "opt", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1},
        num_query_tokens=5,
        image_text_hidden_size=16,
    )
    return transformers.Blip2ForImageTextRetrieval(config), tokenizer


_BUILDERS = {"clip-b32": _clip, "clip-l14": _clip, "blip": _blip, "blip2": _blip2, "siglip2": _siglip}
NAMES = tuple(_BUILDERS)
