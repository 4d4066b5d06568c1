"""The names of one BLIP-2 in transformers (`Blip2ForImageTextRetrieval`) and in LAVIS (`Blip2Qformer`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

QKV_BIAS = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.bias")
NAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^vision_model\.embeddings\.class_embedding$", "visual_encoder.cls_token"),
        (r"^vision_model\.embeddings\.position_embedding$", "visual_encoder.pos_embed"),
        (r"^vision_model\.embeddings\.patch_embedding\.", "visual_encoder.patch_embed.proj."),
        (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.", r"visual_encoder.blocks.\1.attn.qkv."),
        (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection\.", r"visual_encoder.blocks.\1.attn.proj."),
        (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"visual_encoder.blocks.\1.norm\2."),
        (r"^vision_model\.encoder\.layers\.(\d+)\.mlp\.", r"visual_encoder.blocks.\1.mlp."),
        (r"^vision_model\.post_layernorm\.", "ln_vision."),
        (r"^embeddings\.(word|position)_embeddings\.", r"Qformer.bert.embeddings.\1_embeddings."),
        (r"^qformer\.layernorm\.", "Qformer.bert.embeddings.LayerNorm."),
        (r"^qformer\.encoder\.(layer\.\d+\.(?:cross)?attention)\.attention\.", r"Qformer.bert.encoder.\1.self."),
        (r"^qformer\.encoder\.", "Qformer.bert.encoder."),
        (r"^(vision|text)_projection\.", r"\1_proj."),
        (r"^(query_tokens|itm_head\..*)$", r"\1"),
    )
]


def to_lavis(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' state as LAVIS's. Raises KeyError for a tensor that has no place there."""
    return dict(pair for name, value in state.items() for pair in _pairs(name, value))


def _pairs(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    block = QKV_BIAS.match(name)
    if block:  # LAVIS has no bias for the keys: transformers holds zeros there
        query, key, val = value.chunk(3)
        assert not torch.any(key), f"{name}: the keys have a bias, which LAVIS cannot hold"
        yield f"visual_encoder.blocks.{block[1]}.attn.q_bias", query
        yield f"visual_encoder.blocks.{block[1]}.attn.v_bias", val
        return
    for pattern, replacement in NAMES:
        if pattern.match(name):
            yield pattern.sub(replacement, name), value
            return
    raise KeyError(name)
