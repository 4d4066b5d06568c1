"""Several fits of one encoder as one: their vectors side by side, turned to where pictures and captions lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scot_core.encoders.fitted import Projections


@torch.no_grad()
def joined(fits: Sequence[Projections], images: Tensor, texts: Tensor) -> Projections:
    """Projections whose cosines are about the mean of those of the fits, and whose vectors are as long as one fit's.

    Every fit turns the space in its own way, so neither vectors nor weights of several can be averaged; but the inner
    products of their vectors side by side are the mean of theirs. Of these K·dim directions the `dim` are kept along
    which the features that they were fitted to, `images` (n, D_image) and `texts` (m, D_text), lie most. All of it is
    linear, and so becomes part of the second layers.
    """
    first = fits[0]
    if len(fits) == 1:
        return first
    hidden = {name: len(fits) * getattr(first.shapes, name) for name in ("image_hidden", "text_hidden")}
    whole = Projections(first.shapes.model_copy(update=hidden)).eval()
    whole.mean.copy_(first.mean)
    whole.deviation.copy_(first.deviation)
    sides = [
        _side_by_side(whole.image, [fit.image for fit in fits], (images - first.mean) / first.deviation),
        _side_by_side(whole.text, [fit.text for fit in fits], texts),
    ]
    seen = torch.cat([functional.normalize(vectors, dim=1) for *_, vectors in sides])
    turn = torch.linalg.eigh(seen.T @ seen).eigenvectors[:, -first.shapes.dim :].T
    for last, weight, bias, _ in sides:
        last.weight.copy_(turn @ weight)
        last.bias.copy_(turn @ bias)
    return whole


def _side_by_side(
    whole: nn.Sequential, fits: Sequence[nn.Sequential], features: Tensor
) -> tuple[nn.Linear, Tensor, Tensor, Tensor]:
    """Fills the first layer; returns the last, with weight, bias and output before the turn, of length one a fit."""
    (inner, last), parts = _linear(whole), [_linear(fit) for fit in fits]
    inner.weight.copy_(torch.cat([one.weight for one, _ in parts]))
    inner.bias.copy_(torch.cat([one.bias for one, _ in parts]))
    made = [fit(features) for fit in fits]
    scales = [1 / torch.linalg.vector_norm(vectors, dim=1).mean() for vectors in made]
    weight: Tensor = torch.block_diag(*(scale * one.weight for scale, (_, one) in zip(scales, parts, strict=True)))  # type: ignore[no-untyped-call]
    bias, vectors = (
        torch.cat([scale * one for scale, one in zip(scales, of, strict=True)], -1)
        for of in ([one.bias for _, one in parts], made)
    )
    return last, weight, bias, vectors


def _linear(layers: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in layers if isinstance(layer, nn.Linear)]
