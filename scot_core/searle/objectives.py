"""What SEARLE minimises: cosine distances, and NT-Xent between the two makers of pseudo-tokens.

float64 stays float64; float32, float16 and bfloat16 are computed and returned in float32, under autocast too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from scot_core.errors import ConfigError, ShapeError


def distillation_loss(oti_tokens: Tensor, phi_tokens: Tensor, *, temperature: float = 0.25) -> Tensor:
    """Symmetric NT-Xent between the inverted pseudo-tokens and φ's, (B, W) each, rows belonging together.

    Both are L2-normalised. Each of the 2B vectors is an anchor once: its positive is its partner, and the sum in the
    denominator goes over the other 2B - 1 vectors, that is the positive and everything of both kinds but the anchor.
    The value is the mean over the 2B anchors (`contrastive_loss` in SEARLE's utils.py): log(2B - 1) when all vectors
    are equal, 0 for B = 1.

    Returns a scalar. Raises ShapeError where the batches do not fit together, ConfigError for a temperature that is
    not positive.
    """
    oti, phi = _pair(oti_tokens, phi_tokens)
    if not temperature > 0:
        raise ConfigError(f"the temperature of the distillation loss must be positive, not {temperature}")
    joint = functional.normalize(torch.cat([oti, phi]), dim=1)
    with torch.autocast(joint.device.type, enabled=False):  # it would round the products to half precision
        logits = joint @ joint.T / temperature
    own = torch.eye(len(joint), dtype=torch.bool, device=joint.device)
    partner = torch.arange(len(joint), device=joint.device).roll(len(oti))
    return functional.cross_entropy(logits.masked_fill(own, -torch.inf), partner)


def cosine_distances(left: Tensor, right: Tensor) -> Tensor:
    """1 - cos of rows that belong together, (B, D) each -> (B,)."""
    full = torch.promote_types(torch.promote_types(left.dtype, right.dtype), torch.float32)
    return 1 - functional.cosine_similarity(left.to(full), right.to(full), dim=1)


def _pair(oti: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
    for name, tokens in (("oti_tokens", oti), ("phi_tokens", phi)):
        if tokens.ndim != 2 or 0 in tokens.shape:
            raise ShapeError(f"{name} must be a batch (B, W) with B, W >= 1, but has shape {tuple(tokens.shape)}")
        if not tokens.is_floating_point():
            raise ShapeError(f"{name} must hold floats, but has dtype {tokens.dtype}")
    for what, ours, theirs in (
        ("shape", tuple(oti.shape), tuple(phi.shape)),
        ("dtype", oti.dtype, phi.dtype),
        ("device", oti.device, phi.device),
    ):
        if ours != theirs:
            raise ShapeError(f"oti_tokens has {what} {ours}, but phi_tokens has {what} {theirs}; they must be equal")
    full = torch.float64 if oti.dtype == torch.float64 else torch.float32
    return oti.to(full), phi.to(full)
