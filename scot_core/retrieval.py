"""Exact nearest-neighbour retrieval: ranks by counting, top-k, and the order within a few candidates.

Scores are inner products of the vectors as given (callers normalise for the cosine). The order is defined once:
a higher score first, and among equal scores the lower gallery index first. It is the same for every chunk size, thread
count and device (`scot_core.scores`).

Work is done in chunks of queries and of gallery vectors; the extra memory does not grow with either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from scot_core.nearest import top_k
from scot_core.scores import blocks, count, exact_scores, product_error, query_chunks, scores_of
from scot_core.vectors import gallery_indices, like, pair, score_dtype

__all__ = ["order_within", "ranks", "top_k"]

# Elements of one block of scores, off and on a GPU: counting reads it several times, near the caches (8 MB).
_COUNTED = {False: 1 << 21, True: 1 << 26}


@torch.no_grad()
def ranks(queries: Any, gallery: Any, targets: Any, exclude: Any = None) -> Any:
    """The 0-based rank of each target: how many gallery vectors come before it in the query's order.

    queries (Q, D), gallery (G, D) as for `top_k`. targets: gallery indices, integers (Q,) or (Q, T), padded with
    -1. exclude: gallery indices that are taken out of a query's gallery, (Q,) or (Q, E), padded with -1.
    Returns int64 of the shape of `targets`; -1 where the target is -1 or is itself excluded.

    Raises ShapeError and DataError as `top_k` does, and DataError for an index outside the gallery.
    """
    q, g = pair(queries, gallery)
    wanted = gallery_indices("targets", targets, len(q), len(g), q.device)
    removed = None if exclude is None else gallery_indices("exclude", exclude, len(q), len(g), q.device)
    error = product_error(q, g)
    found = torch.full_like(wanted, -1)
    for rows in query_chunks(q):
        out = None if removed is None else removed[rows]
        found[rows] = _rank_rows(q[rows], g, wanted[rows], out, error[rows])
    return like(queries, found.reshape(tuple(targets.shape) if isinstance(targets, Tensor) else np.shape(targets)))


@torch.no_grad()
def order_within(queries: Any, gallery: Any, candidates: Any) -> Any:
    """Each query's own few candidates, best first, in the same order as everywhere.

    queries (Q, D), gallery (G, D) as for `top_k`; candidates: gallery indices, integers (Q, C), padded with -1.
    Returns int64 (Q, C): the same indices sorted, padding last. Raises as `ranks` does.
    """
    q, g = pair(queries, gallery)
    given = gallery_indices("candidates", candidates, len(q), len(g), q.device)
    sorted_rows = [_sort_rows(q[rows], g, given[rows])[1] for rows in query_chunks(q)]
    return like(queries, torch.cat(sorted_rows) if sorted_rows else given)


def _rank_rows(q: Tensor, g: Tensor, targets: Tensor, removed: Tensor | None, error: Tensor) -> Tensor:
    """Ranks of (Qc, T) targets for one chunk of queries."""
    ignore = targets < 0
    if removed is not None:
        ignore |= (targets[:, :, None] == removed[:, None, :]).any(-1)
    if bool(ignore.all()):
        return torch.full_like(targets, -1)
    exact = scores_of(q, g, targets.clamp_min(0))
    counts = _before_among(exact, targets, ignore)
    high, low = ((exact + sign * error[:, None]).to(score_dtype(q)) for sign in (1, -1))
    columns = [t for t in range(targets.shape[1]) if not bool(ignore[:, t].all())]
    # The targets of a query are compared with one another above; here they are rivals no more.
    taken = targets if removed is None else torch.cat([targets, removed], dim=1)
    for start, block in blocks(q, g, _COUNTED, taken):
        for t in columns:
            above, reach = block > high[:, t, None], block >= low[:, t, None]
            clear = count(above)
            counts[:, t] += clear
            rows = (count(reach) > clear).nonzero().flatten()
            if len(rows):
                near = reach[rows] ^ above[rows]
                counts[rows, t] += _near_before(q[rows], g, start, near, exact[rows, t], targets[rows, t])
    return counts.masked_fill(ignore, -1)


def _before_among(exact: Tensor, targets: Tensor, ignore: Tensor) -> Tensor:
    """How many of a query's other targets (Qc, T) come before each of them."""
    earlier = torch.tril(torch.ones(targets.shape[1], targets.shape[1], dtype=torch.bool, device=targets.device), -1)
    repeats = ((targets[:, :, None] == targets[:, None, :]) & earlier).any(-1)
    rivals = ~(ignore | repeats)[:, None, :]
    higher = exact[:, None, :] > exact[:, :, None]
    tied_first = (exact[:, None, :] == exact[:, :, None]) & (targets[:, None, :] < targets[:, :, None])
    return (rivals & (higher | tied_first)).sum(-1)


def _near_before(q: Tensor, g: Tensor, start: int, near: Tensor, exact: Tensor, target: Tensor) -> Tensor:
    """How many of the near ties (Qc, Gc) of each query really come before its target."""
    rows, columns = near.nonzero(as_tuple=True)
    indices = columns + start
    before = torch.zeros(len(q), dtype=torch.int64, device=q.device)
    score = exact_scores(q, g, rows, indices)
    wins = (score > exact[rows]) | ((score == exact[rows]) & (indices < target[rows]))
    return before.index_add_(0, rows, wins.long())


def _sort_rows(q: Tensor, g: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """(scores, indices) of (Qc, C) candidates by score, then index; padding (-1) last with score -inf."""
    candidates = candidates.sort(dim=1).values
    if not candidates.numel() or not len(g):
        return torch.full(candidates.shape, -torch.inf, dtype=torch.float64, device=q.device), candidates
    scores = scores_of(q, g, candidates.clamp_min(0)).masked_fill(candidates < 0, -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores, candidates.gather(1, order)
