"""An image model and a sentence encoder of transformers with a few thousand random numbers, as a hub has them."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import torch
import transformers

SIZE, WIDTH = 32, 24
_TOWER: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def save(weights: Path) -> None:
    """`tiny-vit` and `tiny-bert`, folders for SCOT_WEIGHTS."""
    torch.manual_seed(0)
    vision = transformers.ViTModel(transformers.ViTConfig(**_TOWER, image_size=SIZE, patch_size=8))
    vision.save_pretrained(weights / "tiny-vit")
    prepared = {"size": {"height": SIZE, "width": SIZE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (weights / "tiny-vit" / "preprocessor_config.json").write_text(json.dumps(prepared))
    pieces = [*string.ascii_lowercase, *("##" + letter for letter in string.ascii_lowercase)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    text = transformers.BertModel(transformers.BertConfig(**_TOWER, vocab_size=len(words)))
    text.save_pretrained(weights / "tiny-bert")
    transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(weights / "tiny-bert")
