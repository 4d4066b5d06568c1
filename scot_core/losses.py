"""The training objective of SCOT (§3.3, eqs 4-9), its ablations, and InfoNCE as a named departure.

Every loss is called alike, `loss(composed, target, caption) -> scalar`, on three (N, D) batches:

- composed: embeddings V_c that the Combiner made of reference image and modification text,
- target: text embeddings T_u of the modified captions, row i belonging to row i of `composed`,
- caption: text embeddings T of the original captions (hard negatives; some losses leave them out).

Similarity is the cosine, computed here: callers need not normalise. float64 stays float64; float32,
float16 and bfloat16 are computed and returned in float32, under autocast too.

Values of the literal loss carry log N, so they are not comparable between batch sizes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from scot_core.errors import ConfigError, ShapeError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def scot_loss(
    composed: Tensor,
    target: Tensor,
    caption: Tensor,
    *,
    alpha_pos: float = 10.0,
    alpha_neg: float = 0.1,
    margin: float = 0.2,
) -> Tensor:
    """The loss as the paper writes it, eqs 4 and 7-9: one logarithm over the whole batch, no temperature.

    The Heaviside gate of eq. 6 is a constant mask with a strict `>`: entries at or below the margin, and
    the diagonal of the modified captions, stay in the sum as exp(0) = 1 and pass no gradient.

    Returns a scalar, float32 or float64. Raises ShapeError where the batches do not fit together.
    """
    composed, target, caption = _unit_rows(composed, target, caption)
    similarity = _similarity(composed, target)
    positive = -_log_sum_exp(similarity.diagonal())
    negative = _log_sum_exp(_without_diagonal(_gated(similarity, margin)))
    negative = negative + _log_sum_exp(_gated(_similarity(composed, caption), margin))
    return alpha_pos * positive + alpha_neg * negative


def scot_loss_without_margin(
    composed: Tensor, target: Tensor, caption: Tensor, *, alpha_pos: float = 10.0, alpha_neg: float = 0.1
) -> Tensor:
    """Ablation: every negative counts, however far away (eq. 5 in place of eq. 7, S in place of S_λ in eq. 8)."""
    composed, target, caption = _unit_rows(composed, target, caption)
    similarity = _similarity(composed, target)
    positive = -_log_sum_exp(similarity.diagonal())
    negative = _log_sum_exp(_without_diagonal(similarity)) + _log_sum_exp(_similarity(composed, caption))
    return alpha_pos * positive + alpha_neg * negative


def scot_loss_without_captions(
    composed: Tensor,
    target: Tensor,
    caption: Tensor,
    *,
    alpha_pos: float = 10.0,
    alpha_neg: float = 0.1,
    margin: float = 0.2,
) -> Tensor:
    """Ablation: original captions are no negatives (eq. 7 in place of eq. 8); `caption` is not used."""
    composed, target, _ = _unit_rows(composed, target, caption)
    similarity = _similarity(composed, target)
    positive = -_log_sum_exp(similarity.diagonal())
    negative = _log_sum_exp(_without_diagonal(_gated(similarity, margin)))
    return alpha_pos * positive + alpha_neg * negative


def infonce_loss(composed: Tensor, target: Tensor, caption: Tensor, *, temperature: float = 0.05) -> Tensor:
    """Departure: softmax of each composed embedding over the batch's modified captions (the form of eq. 1,
    composed to text); `caption` is not used."""
    composed, target, _ = _unit_rows(composed, target, caption)
    return _cross_entropy(_similarity(composed, target), temperature)


def infonce_with_captions_loss(
    composed: Tensor, target: Tensor, caption: Tensor, *, temperature: float = 0.05
) -> Tensor:
    """Departure: InfoNCE whose negatives are the other modified captions and all original captions; but one whose
    embedding equals the row's own modified caption, so that it is the same text, is no negative of that row."""
    composed, target, caption = _unit_rows(composed, target, caption)
    texts = torch.cat([target, caption])
    return _cross_entropy(
        _similarity(composed, texts).masked_fill(_repeats(texts, len(target)), -torch.inf), temperature
    )


LOSSES: dict[str, Callable[..., Tensor]] = {
    "scot": scot_loss,
    "scot-without-margin": scot_loss_without_margin,
    "scot-without-captions": scot_loss_without_captions,
    "infonce": infonce_loss,
    "infonce-with-captions": infonce_with_captions_loss,
}


def parameters(name: str) -> list[str]:
    """The names of a loss's own parameters. Raises ConfigError for a name that is not in LOSSES."""
    if name not in LOSSES:
        raise ConfigError(f"there is no loss {name!r}; choose one of {', '.join(LOSSES)}")
    signature = inspect.signature(LOSSES[name]).parameters.values()
    return [parameter.name for parameter in signature if parameter.kind is parameter.KEYWORD_ONLY]


def by_name(name: str, **given: float) -> Loss:
    """The loss a configuration names, with its own parameters bound (`by_name("scot", margin=0.3)`).

    Raises ConfigError for a name that is not in LOSSES and for a parameter the loss does not have.
    """
    known = parameters(name)
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(f"loss {name!r} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
    return partial(LOSSES[name], **given)


def _gated(similarity: Tensor, margin: float) -> Tensor:
    """S_λ of eq. 6; the comparison carries no gradient."""
    return functional.threshold(similarity, margin, 0.0)


def _without_diagonal(similarity: Tensor) -> Tensor:
    """S · (1 - δ): the diagonal becomes 0, so it stays in the sum of eqs 5 and 7 as exp(0) = 1."""
    return similarity.diagonal_scatter(similarity.new_zeros(len(similarity)))


def _log_sum_exp(values: Tensor) -> Tensor:
    return torch.logsumexp(values.flatten(), dim=0)


def _cross_entropy(similarity: Tensor, temperature: float) -> Tensor:
    own = torch.arange(len(similarity), device=similarity.device)
    return functional.cross_entropy(similarity / temperature, own)


def _repeats(texts: Tensor, rows: int) -> Tensor:
    """Whether text j (M, D) is one of the first `rows` texts, i, over again, (rows, M) bool; j = i is not."""
    text: Tensor = torch.unique(texts.detach(), dim=0, return_inverse=True)[1]
    same: Tensor = text[:rows, None] == text
    return same.fill_diagonal_(False)


def _similarity(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of unit rows, (N, M). Autocast would round them to half precision: it is kept out."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.T


def _unit_rows(composed: Tensor, target: Tensor, caption: Tensor) -> list[Tensor]:
    """The batches with rows scaled to length one, in float32 or float64."""
    batches = {"composed": composed, "target": target, "caption": caption}
    for name, batch in batches.items():
        _check(name, batch, composed)
    full = torch.float64 if composed.dtype == torch.float64 else torch.float32
    return [_unit(batch.to(full)) for batch in batches.values()]


def _unit(rows: Tensor) -> Tensor:
    """A zero row stays zero, and its gradient stays finite: its similarities are 0."""
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norms > 0, norms, torch.ones_like(norms))


def _check(name: str, batch: Tensor, composed: Tensor) -> None:
    if batch.ndim != 2 or 0 in batch.shape:
        raise ShapeError(f"{name} must be a batch (N, D) with N, D >= 1, but has shape {tuple(batch.shape)}")
    if not batch.is_floating_point():
        raise ShapeError(f"{name} must hold floats, but has dtype {batch.dtype}")
    for what, ours, theirs in (
        ("shape", tuple(composed.shape), tuple(batch.shape)),
        ("dtype", composed.dtype, batch.dtype),
        ("device", composed.device, batch.device),
    ):
        if ours != theirs:
            raise ShapeError(f"composed has {what} {ours}, but {name} has {what} {theirs}; they must be equal")
