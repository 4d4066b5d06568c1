"""LAVIS's first-stage BLIP-2, built from a dict of its weights; imports `lavis`, so only where `make lavis` was run.

Nothing is computed here: towers, projections and processors are LAVIS's own. What differs is where the files come
from: LAVIS fetches them from its server and from the hub while it builds, this takes them from the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lavis.models.blip2_models.blip2 import LayerNorm
from lavis.models.blip2_models.blip2_qformer import Blip2Qformer
from lavis.models.blip2_models.Qformer import BertConfig, BertLMHeadModel
from lavis.models.eva_vit import VisionTransformer
from lavis.processors.blip_processors import BlipCaptionProcessor, BlipImageEvalProcessor
from torch import Tensor, nn
from transformers import BertTokenizer

from scot_core.encoders.spec import EncoderSpec
from scot_core.errors import ModelError

__all__ = ["BlipCaptionProcessor", "BlipImageEvalProcessor", "build"]

VIT_BLOCKS = 39
"""ViT-g's 40th block is in its checkpoint; LAVIS's `create_eva_vit_g` leaves it out."""
VIT_HEAD = 88
UNUSED = ("Qformer.cls.", "itm_head.", "temp")
"""Parts of the model that no embedding passes through: a checkpoint may lack them."""


class LocalBlip2(Blip2Qformer):  # type: ignore[misc]
    """LAVIS's `blip2` with its files from a folder, and the vision tower in the precision asked for."""

    def __init__(self, weights: Mapping[str, Tensor], bert: Path, spec: EncoderSpec) -> None:
        self._weights, self._bert, self._vision_dtype = weights, bert, getattr(torch, spec.precision)
        super().__init__(img_size=spec.image_size, num_query_token=weights["query_tokens"].shape[1], embed_dim=spec.dim)
        del self._weights

    def init_tokenizer(self) -> Any:
        """As LAVIS's, from the folder."""
        tokenizer = BertTokenizer.from_pretrained(str(self._bert), local_files_only=True)
        tokenizer.add_special_tokens({"bos_token": "[DEC]"})
        return tokenizer

    def init_vision_encoder(self, name: str, size: int, *_: Any) -> tuple[nn.Module, nn.Module]:
        """LAVIS's `create_eva_vit_g`, with the shapes of the weights in place of constants, which are the same."""
        width = self._weights["visual_encoder.cls_token"].shape[-1]
        hidden = self._weights["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0]
        blocks = {key.split(".")[2] for key in self._weights if key.startswith("visual_encoder.blocks.")}
        tower = VisionTransformer(
            img_size=size,
            patch_size=self._weights["visual_encoder.patch_embed.proj.weight"].shape[-1],
            use_mean_pooling=False,
            embed_dim=width,
            depth=min(VIT_BLOCKS, len(blocks)),
            num_heads=width // VIT_HEAD,
            mlp_ratio=(hidden + 0.5) / width,  # it takes int(width * ratio)
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )
        return tower, LayerNorm(width)

    def init_Qformer(self, queries: int, vision_width: int, cross_attention_freq: int = 2) -> tuple[nn.Module, Any]:  # noqa: N802
        """As LAVIS's, from the folder's config and without BERT's own weights, which the checkpoint replaces."""
        config = BertConfig.from_pretrained(str(self._bert), local_files_only=True)
        config.encoder_width = vision_width
        config.add_cross_attention = True
        config.cross_attention_freq = cross_attention_freq
        config.query_length = queries
        return BertLMHeadModel(config), nn.Parameter(torch.zeros(1, queries, config.hidden_size))

    def maybe_autocast(self, dtype: torch.dtype = torch.float16) -> AbstractContextManager[Any]:
        """Around the vision tower only. LAVIS's own always takes float16 on a GPU and float32 on a CPU."""
        reduced = self._vision_dtype != torch.float32
        return torch.autocast(self.device.type, self._vision_dtype if reduced else None, enabled=reduced)


def build(weights: Mapping[str, Tensor], bert: Path, spec: EncoderSpec, tokens: int, device: str) -> LocalBlip2:
    """The frozen model of `spec`, which reads `tokens` tokens of a text. `bert` holds config.json and vocab.txt of
    bert-base-uncased.

    Raises ModelError for weights that are not all there, or do not fit the config.
    """
    try:
        model = LocalBlip2(weights, bert, spec)
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ModelError(f"the LAVIS weights do not fit the config in {bert}: {reason}") from error
    lacking = [name for name in missing if not name.startswith(UNUSED) and not name.endswith("position_ids")]
    if lacking:
        raise ModelError(f"the LAVIS weights beside {bert} lack {len(lacking)} tensors, {lacking[0]} first")
    model.eval().requires_grad_(False)
    for layer in model.visual_encoder.modules():  # as LAVIS's convert_weights_to_fp16; autocast keeps the norms exact
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(getattr(torch, spec.precision))
    # extract_features gives the tokenizer no limit
    model.tokenizer = partial(model.tokenizer, truncation=True, max_length=tokens)
    return model.to(device)  # type: ignore[no-any-return]
