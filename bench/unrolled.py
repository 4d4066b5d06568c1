"""A training step of the Combiner without autograd: what torch's kernels take at the very least.

Each kernel of the step is called by hand: no graph is built, what is large and can stay stays where it is, and all
random bytes of a step are drawn at once. Nobody would train so; a step that does the same for any Combiner hardly takes
less.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from scot_core.combiner import Combiner
from scot_core.layers import linear
from scot_core.losses import scot_loss

_BYTE = 256
_threshold = torch.ops.aten.threshold_backward.grad_input


def unrolled(
    model: Combiner, data: list[Tensor], batch: int, *, dropped: int = _BYTE // 2, step: bool = True
) -> Callable[[], Tensor]:
    """One step of AdamW on float32 vectors (N, D) of images, modifications, modified captions and captions.

    `dropped` of 256 results are left out after each layer. Without `step`, the gradients are computed and no more.
    """
    dim, width, hidden = model.feature_dim, model.projection_dim, model.hidden_dim
    scale, least = _BYTE / (_BYTE - dropped), dropped - 0.5
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    drawn = [torch.empty(batch, dim) for _ in data]
    projected = torch.empty(batch, 2 * width)
    masks = torch.empty(2 * batch * (width + hidden))
    masked = torch.split(masks, [2 * batch * width, batch * hidden, batch * hidden])
    words = torch.empty(-(-len(masks) // 8), dtype=torch.int64)

    def left_out(values: Tensor, mask: Tensor) -> Tensor:
        _threshold(values.mul_(scale), mask.view(values.shape), least, grad_input=values)
        return values

    def forward(layer: nn.Linear, x: Tensor, *, relu: bool = True) -> Tensor:
        product = linear(x, layer.weight, layer.bias)
        return product.relu_() if relu else product

    def back(layer: nn.Linear, arriving: Tensor) -> Tensor:
        return linear(arriving, layer.weight.T)

    def of_weights(layer: nn.Linear, arriving: Tensor, x: Tensor) -> None:
        assert layer.weight.grad is not None and layer.bias.grad is not None
        torch.mm(arriving.T, x, out=layer.weight.grad)
        torch.sum(arriving, 0, out=layer.bias.grad)

    def passed(values: Tensor, result: Tensor) -> Tensor:
        _threshold(values, result, 0, grad_input=values)
        return values.mul_(scale)

    def of_loss(residual: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, text, target, caption = drawn
        ends = residual.detach().requires_grad_(), share.detach().requires_grad_()
        weight = torch.sigmoid(ends[1])
        composed = functional.normalize(ends[0] + weight * text + (1 - weight) * image, dim=-1)
        loss = scot_loss(composed, target, caption)
        of_residual, of_share = torch.autograd.grad(loss, ends)
        return loss.detach(), of_residual, of_share

    @torch.no_grad()
    def taken() -> Tensor:
        rows = torch.randint(len(data[0]), (batch,))
        for table, out in zip(data, drawn, strict=True):
            torch.index_select(table, 0, rows, out=out)
        image, text = drawn[:2]
        masks.copy_(words.random_(torch.iinfo(torch.int64).min, None).view(torch.uint8)[: len(masks)])
        torch.cat([forward(model.text_projection, text), forward(model.image_projection, image)], 1, out=projected)
        left_out(projected, masked[0])
        combined = left_out(forward(model.combination, projected), masked[1])
        scalar = left_out(forward(model.scalar_hidden, projected), masked[2])
        residual = forward(model.output, combined, relu=False)
        share = forward(model.scalar_output, scalar, relu=False)
        with torch.enable_grad():
            loss, of_residual, of_share = of_loss(residual, share)
        of_weights(model.output, of_residual, combined)
        of_weights(model.scalar_output, of_share, scalar)
        of_combined = passed(back(model.output, of_residual), combined)
        of_scalar = passed(back(model.scalar_output, of_share), scalar)
        of_weights(model.combination, of_combined, projected)
        of_weights(model.scalar_hidden, of_scalar, projected)
        of_projected = back(model.combination, of_combined).add_(back(model.scalar_hidden, of_scalar))
        passed(of_projected, projected)
        of_weights(model.text_projection, of_projected[:, :width], text)
        of_weights(model.image_projection, of_projected[:, width:], image)
        if step:
            optimizer.step()
        return loss

    return taken
