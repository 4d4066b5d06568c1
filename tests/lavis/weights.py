"""One random BLIP-2 in two folders: as transformers publishes it (safetensors) and as LAVIS does (its .pth files)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, digits
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tests.lavis.mapping import QKV_BIAS, to_lavis

if TYPE_CHECKING:
    from transformers import Blip2Config

VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *(mark + sign for sign in ascii_lowercase + digits for mark in ("", "##")),
    *("-", ",", "'", "?", "/", "the", "red", "mug", "dog", "with", "##ing"),
]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the two towers; `FULL` are those of the published weights."""

    width: int
    blocks: int
    heads: int
    vision_mlp: int
    hidden: int
    layers: int
    text_heads: int
    text_mlp: int
    queries: int
    dim: int


SMALL = Shape(176, 3, 2, 768, 96, 4, 4, 192, 8, 32)
FULL = Shape(1408, 39, 16, 6144, 768, 12, 12, 3072, 32, 256)


def write(shape: Shape, transformers_folder: Path, lavis_folder: Path) -> None:
    """Fills both folders with the same weights, tokenizer and shapes."""
    from transformers import Blip2ForImageTextRetrieval

    with torch.device("meta"):
        blueprint = Blip2ForImageTextRetrieval(_config(shape))
    generator = torch.Generator().manual_seed(8347)
    state = {name: _random(name, value.shape, generator) for name, value in blueprint.state_dict().items()}
    for name in state:
        if name.startswith("vision_model."):
            state[name] = state[name].half().float()  # LAVIS publishes this tower, and holds it, in float16
    blueprint.load_state_dict(state, assign=True)
    blueprint.save_pretrained(transformers_folder)
    _tokenizer(transformers_folder)

    (lavis_folder / "bert-base-uncased").mkdir(parents=True)
    (lavis_folder / "bert-base-uncased" / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (lavis_folder / "bert-base-uncased" / "config.json").write_text(json.dumps(_bert(shape)))
    weights = to_lavis(state)
    tower = {name: weights.pop(name) for name in list(weights) if name.startswith("visual_encoder.")}
    torch.save(
        {name.removeprefix("visual_encoder."): value for name, value in tower.items()}, lavis_folder / "eva_vit_g.pth"
    )
    torch.save({"model": weights}, lavis_folder / "blip2_pretrained.pth")


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Values that leave every tensor a part in the result: LayerNorms near one, biases and tables of visible size."""
    values = torch.randn(shape, generator=generator)
    if QKV_BIAS.match(name):
        values[len(values) // 3 : 2 * len(values) // 3] = 0  # LAVIS's keys have no bias
    if name.endswith("bias"):
        return values * 0.1
    if "norm" in name.lower():
        return 1 + values * 0.1
    if values.dim() == 1 or "embedding" in name.replace("patch_embedding", "") or name == "query_tokens":
        return values * 0.5
    return values / math.sqrt(values[0].numel())


def _config(shape: Shape) -> Blip2Config:
    from transformers import Blip2Config

    return Blip2Config(
        vision_config={
            "hidden_size": shape.width,
            "num_hidden_layers": shape.blocks,
            "num_attention_heads": shape.heads,
            "intermediate_size": shape.vision_mlp,
            "image_size": 224,
            "patch_size": 14,
        },
        qformer_config={
            **_bert(shape),
            "vocab_size": len(VOCABULARY) + 1,  # LAVIS adds [DEC]
            "encoder_hidden_size": shape.width,
            "cross_attention_frequency": 2,
            "use_qformer_text_input": True,
        },
        num_query_tokens=shape.queries,
        image_text_hidden_size=shape.dim,
    )


def _bert(shape: Shape) -> dict[str, object]:
    return {
        "vocab_size": len(VOCABULARY),
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.text_heads,
        "intermediate_size": shape.text_mlp,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    }


def _tokenizer(folder: Path) -> None:
    from transformers import BertTokenizer

    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.save_pretrained(folder)
