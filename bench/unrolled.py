"""A training step of the Combiner without autograd: what torch's kernels take at the very least.

Each kernel of the step is called by hand, into a buffer that stays: no graph is built, nothing is allocated but a few
rows for the loss, all random bytes of a step are drawn at once, and the projections are written where the next layer
reads them. Nobody would train so; a step that does the same for any Combiner cannot take less.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from scot_core.combiner import Combiner
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
    projected, combined, scalar = (torch.empty(batch, size) for size in (2 * width, hidden, hidden))
    of_projected, of_combined, of_scalar = (torch.empty_like(one) for one in (projected, combined, scalar))
    residual, share = torch.empty(batch, dim), torch.empty(batch, 1)
    masks = torch.empty(2 * batch * (width + hidden))
    masked = torch.split(masks, [2 * batch * width, batch * hidden, batch * hidden])
    words = torch.empty(-(-len(masks) // 8), dtype=torch.int64)
    halves = projected[:, :width], projected[:, width:]
    of_halves = of_projected[:, :width], of_projected[:, width:]

    def left_out(values: Tensor, mask: Tensor) -> None:
        _threshold(values.relu_(), mask.view(values.shape), least, grad_input=values)

    def forward(layer: nn.Linear, x: Tensor, out: Tensor, by: float = 1.0) -> None:
        torch.addmm(layer.bias * by, x, layer.weight.T, alpha=by, out=out)

    def of_weights(layer: nn.Linear, arriving: Tensor, x: Tensor) -> None:
        assert layer.weight.grad is not None and layer.bias.grad is not None
        torch.mm(arriving.T, x, out=layer.weight.grad)
        torch.sum(arriving, 0, out=layer.bias.grad)

    def passed(values: Tensor, result: Tensor) -> None:
        _threshold(values, result, 0, grad_input=values)
        values.mul_(scale)

    def of_loss(image: Tensor, text: Tensor, target: Tensor, caption: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
        image, text, target, caption = drawn
        masks.copy_(words.random_(torch.iinfo(torch.int64).min, None).view(torch.uint8)[: len(masks)])
        forward(model.text_projection, text, halves[0], scale)
        forward(model.image_projection, image, halves[1], scale)
        left_out(projected, masked[0])
        forward(model.combination, projected, combined, scale)
        left_out(combined, masked[1])
        forward(model.scalar_hidden, projected, scalar, scale)
        left_out(scalar, masked[2])
        forward(model.output, combined, residual)
        forward(model.scalar_output, scalar, share)
        with torch.enable_grad():
            loss, of_residual, of_share = of_loss(image, text, target, caption)
        of_weights(model.output, of_residual, combined)
        of_weights(model.scalar_output, of_share, scalar)
        passed(torch.mm(of_residual, model.output.weight, out=of_combined), combined)
        passed(torch.mm(of_share, model.scalar_output.weight, out=of_scalar), scalar)
        of_weights(model.combination, of_combined, projected)
        of_weights(model.scalar_hidden, of_scalar, projected)
        torch.mm(of_combined, model.combination.weight, out=of_projected)
        passed(of_projected.addmm_(of_scalar, model.scalar_hidden.weight), projected)
        of_weights(model.text_projection, of_halves[0], text)
        of_weights(model.image_projection, of_halves[1], image)
        if step:
            optimizer.step()
        return loss

    return taken
