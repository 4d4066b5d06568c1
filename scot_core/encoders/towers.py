"""How each family of published encoders turns pixels and tokens into vectors: a few lines of calls for each.

The vision tower is apart from what follows it, because only the tower may run in reduced precision. Every family
gives image vectors as (n, tokens, dim): one token, or the 32 queries of BLIP-2, which pooling makes one of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Family:
    """Calls into one class of transformers; models and configurations are transformers' own."""

    model: str  # the class
    model_type: str  # what config.json says
    dim: Callable[[Any], int]
    see: Callable[[Any, Tensor], Tensor]  # normalised pixels (n, 3, S, S) -> the tower's output, in any precision
    image: Callable[[Any, Tensor], Tensor]  # that, in float32 -> (n, tokens, dim), not normalised
    text: Callable[[Any, Tensor, Tensor], Tensor]  # ids and mask (n, T) int64 -> (n, dim), not normalised


def _queries(model: Any, seen: Tensor) -> Tensor:
    """The Q-Former's query tokens look at the image (BLIP-2, LAVIS `extract_features`)."""
    queries = model.query_tokens.expand(len(seen), -1, -1)
    outputs = model.qformer(query_embeds=queries, encoder_hidden_states=seen)
    return _tensor(model.vision_projection(outputs.last_hidden_state))


def _cls_without_queries(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The Q-Former as a text encoder: word embeddings only, `query_length` 0 selects the text's feed-forward."""
    words = model.embeddings(input_ids=ids)
    outputs = model.qformer(query_embeds=words, query_length=0, attention_mask=mask)
    return _tensor(model.text_projection(outputs.last_hidden_state[:, 0]))


def _blip_text(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    outputs = model.text_encoder(input_ids=ids, attention_mask=mask)
    return _tensor(model.text_proj(outputs.last_hidden_state[:, 0]))


def _clip_text(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    return _tensor(model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output)


def _siglip_text(model: Any, ids: Tensor, _: Tensor) -> Tensor:
    """Padding is part of what SigLIP reads: all texts have one length and there is no mask."""
    return _tensor(model.get_text_features(input_ids=ids).pooler_output)


def _tensor(value: Any) -> Tensor:
    from torch import Tensor

    assert isinstance(value, Tensor)
    return value


CLIP: Final = Family(
    model="CLIPModel",
    model_type="clip",
    dim=lambda config: int(config.projection_dim),
    see=lambda model, pixels: model.vision_model(pixel_values=pixels).pooler_output,
    image=lambda model, seen: model.visual_projection(seen)[:, None],
    text=_clip_text,
)
SIGLIP: Final = Family(
    model="SiglipModel",
    model_type="siglip",
    dim=lambda config: int(config.vision_config.hidden_size),
    see=lambda model, pixels: model.vision_model(pixel_values=pixels).pooler_output,
    image=lambda _, seen: seen[:, None],
    text=_siglip_text,
)
BLIP: Final = Family(
    model="BlipForImageTextRetrieval",
    model_type="blip",
    dim=lambda config: int(config.image_text_hidden_size),
    see=lambda model, pixels: model.vision_model(pixel_values=pixels).last_hidden_state[:, 0],
    image=lambda model, seen: model.vision_proj(seen)[:, None],
    text=_blip_text,
)
BLIP2: Final = Family(
    model="Blip2ForImageTextRetrieval",
    model_type="blip-2",
    dim=lambda config: int(config.image_text_hidden_size),
    see=lambda model, pixels: model.vision_model(pixel_values=pixels).last_hidden_state,
    image=_queries,
    text=_cls_without_queries,
)
