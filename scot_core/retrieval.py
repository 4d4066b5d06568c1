"""Exact nearest-neighbour retrieval: ranks by counting, top-k, and the order within a few candidates.

Scores are inner products of the vectors as given (callers normalise for the cosine). The order is defined once:
a higher score first, and among equal scores the lower gallery index first.

Matrix products give slightly different last digits for different shapes, threads and devices, so that equal
vectors could get unequal scores. They are therefore only used to sort out what is clearly above or below: pairs
closer than the product's rounding error are compared by `_dot`, which works in float64 and in one fixed order of
summation. The result is the same for every chunk size, thread count and device.

Work is done in chunks of queries and of gallery vectors; the extra memory does not grow with either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scot_core.errors import ConfigError, DataError
from scot_core.vectors import TERMS, gallery_indices, lengths, like, pair, score_dtype

# Elements of one block of scores, off and on a GPU. Counting reads a block several times and wants it small, near
# the caches (8 MB); top_k reads it once and pays for each block (32 MB).
_COUNTED = {False: 1 << 21, True: 1 << 26}
_SEARCHED = {False: 1 << 23, True: 1 << 26}
_QUERY_ROWS = {False: 512, True: 4096}
# Extra candidates kept by top_k so that near ties at rank k need no second look.
_SLACK = 16
# Unit roundoff of the inputs of a float32 product, by torch's precision setting for it.
_ROUNDOFF = {"tf32": 2.0**-10, "bf16": 2.0**-7}


@torch.no_grad()
def top_k(queries: Any, gallery: Any, k: int) -> tuple[Any, Any]:
    """The k best gallery vectors of each query, best first, ties by the lower index.

    queries (Q, D) and gallery (G, D): both numpy or both torch, one float dtype, one device. k above G is clipped
    to G. Returns (scores, indices), each (Q, min(k, G)): scores in the inputs' dtype (float32 for half precision),
    indices int64, of the kind and on the device of the inputs.

    Raises ShapeError (shapes, dtypes, devices), DataError (NaN or infinity, naming the row), ConfigError (k < 1).
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, not {k}")
    q, g = pair(queries, gallery)
    error = _product_error(q, g)
    k = min(k, len(g))
    scores = torch.empty((len(q), k), dtype=torch.float64, device=q.device)
    indices = torch.empty((len(q), k), dtype=torch.int64, device=q.device)
    for rows in _query_chunks(q):
        if k:
            scores[rows], indices[rows] = _top_k_rows(q[rows], g, k, error[rows])
    return like(queries, scores.to(score_dtype(q))), like(queries, indices)


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
    error = _product_error(q, g)
    found = torch.full_like(wanted, -1)
    for rows in _query_chunks(q):
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
    sorted_rows = [_sort_rows(q[rows], g, given[rows])[1] for rows in _query_chunks(q)]
    return like(queries, torch.cat(sorted_rows) if sorted_rows else given)


def _rank_rows(q: Tensor, g: Tensor, targets: Tensor, removed: Tensor | None, error: Tensor) -> Tensor:
    """Ranks of (Qc, T) targets for one chunk of queries."""
    ignore = targets < 0
    if removed is not None:
        ignore |= (targets[:, :, None] == removed[:, None, :]).any(-1)
    if bool(ignore.all()):
        return torch.full_like(targets, -1)
    exact = _scores_of(q, g, targets.clamp_min(0))
    counts = _before_among(exact, targets, ignore)
    high, low = ((exact + sign * error[:, None]).to(score_dtype(q)) for sign in (1, -1))
    columns = [t for t in range(targets.shape[1]) if not bool(ignore[:, t].all())]
    # The targets of a query are compared with one another above; here they are rivals no more.
    taken = targets if removed is None else torch.cat([targets, removed], dim=1)
    for start, block in _blocks(q, g, _COUNTED, taken):
        for t in columns:
            above, reach = block > high[:, t, None], block >= low[:, t, None]
            clear = _count(above)
            counts[:, t] += clear
            rows = (_count(reach) > clear).nonzero().flatten()
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


def _count(mask: Tensor) -> Tensor:
    """True entries of each row (numpy counts booleans many times faster than torch does on a CPU)."""
    return (
        mask.sum(1)
        if mask.is_cuda
        else torch.from_numpy(np.add.reduce(mask.numpy().view(np.int8), axis=1, dtype=np.int32))
    )


def _near_before(q: Tensor, g: Tensor, start: int, near: Tensor, exact: Tensor, target: Tensor) -> Tensor:
    """How many of the near ties (Qc, Gc) of each query really come before its target."""
    rows, columns = near.nonzero(as_tuple=True)
    indices = columns + start
    before = torch.zeros(len(q), dtype=torch.int64, device=q.device)
    step = max(1, TERMS // q.shape[1])
    for at in range(0, len(rows), step):
        row, index = rows[at : at + step], indices[at : at + step]
        score = _dot(q[row], g[index])
        wins = (score > exact[row]) | ((score == exact[row]) & (index < target[row]))
        before.index_add_(0, row, wins.long())
    return before


def _top_k_rows(q: Tensor, g: Tensor, k: int, error: Tensor) -> tuple[Tensor, Tensor]:
    """(scores, indices) of the k best for one chunk of queries."""
    keep = min(k + _SLACK, len(g))
    best = torch.empty((len(q), 0), dtype=score_dtype(q), device=q.device)
    where = torch.empty((len(q), 0), dtype=torch.int64, device=q.device)
    for start, block in _blocks(q, g, _SEARCHED):
        values, columns = _largest(block, keep)
        best, where = torch.cat([best, values], 1), torch.cat([where, columns + start], 1)
        best, chosen = best.topk(min(keep, best.shape[1]), dim=1)
        where = where.gather(1, chosen)
    scores, indices = _sort_rows(q, g, where)
    if keep < len(g):
        # What was left out is at most best[:, -1]; a row is safe if that is clearly below its k-th candidate.
        unsafe = best[:, -1].double() >= best[:, k - 1].double() - 2 * error
        for row in unsafe.nonzero().flatten().tolist():
            floor = best[row, k - 1].double() - 2 * error[row]
            scores[row, :k], indices[row, :k] = _top_k_crowded(q[row], g, k, floor)
    return scores[:, :k], indices[:, :k]


def _largest(block: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """(values, columns) of the largest entries of each row, as topk gives them.

    On a wide block they are looked for only in the groups of columns with the largest maxima: the entries left out
    are no larger than any of these maxima.
    """
    width = block.shape[1]
    group = math.isqrt(width // keep)
    if group < 4:
        values, columns = block.topk(min(keep, width), dim=1)
        return values, columns
    groups, rest = divmod(width, group)
    # A group is every groups-th column: the maximum over rows of a matrix is the faster one.
    maxima = block[:, : width - rest].reshape(len(block), group, groups).amax(1)
    chosen = maxima.topk(keep, dim=1).indices
    members = torch.arange(0, width - rest, groups, device=block.device)
    columns = (chosen[:, :, None] + members).flatten(1)
    last = torch.arange(width - rest, width, device=block.device).expand(len(block), rest)
    columns = torch.cat([columns, last], dim=1)
    values, places = block.gather(1, columns).topk(keep, dim=1)
    return values, columns.gather(1, places)


def _top_k_crowded(query: Tensor, g: Tensor, k: int, floor: Tensor) -> tuple[Tensor, Tensor]:
    """The k best of one query among everything that may reach rank k, when ties reach beyond the kept ones."""
    scores = torch.empty(0, dtype=torch.float64, device=g.device)
    indices = torch.empty(0, dtype=torch.int64, device=g.device)
    for start, block in _blocks(query[None], g, _SEARCHED):
        reach = (block[0] >= floor).nonzero().flatten() + start
        step = max(1, TERMS // g.shape[1])
        for at in range(0, len(reach), step):
            index = reach[at : at + step]
            scores = torch.cat([scores, _dot(query[None], g[index])])
            indices = torch.cat([indices, index])
            order = torch.sort(scores, descending=True, stable=True).indices[:k]
            scores, indices = scores[order], indices[order]
    return scores, indices


def _sort_rows(q: Tensor, g: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """(scores, indices) of (Qc, C) candidates by score, then index; padding (-1) last with score -inf."""
    candidates = candidates.sort(dim=1).values
    if not candidates.numel() or not len(g):
        return torch.full(candidates.shape, -torch.inf, dtype=torch.float64, device=q.device), candidates
    scores = _scores_of(q, g, candidates.clamp_min(0)).masked_fill(candidates < 0, -torch.inf)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores, candidates.gather(1, order)


def _scores_of(q: Tensor, g: Tensor, indices: Tensor) -> Tensor:
    """Exact scores (Qc, C) of gallery indices (Qc, C)."""
    scores = torch.empty(indices.shape, dtype=torch.float64, device=q.device)
    step = max(1, TERMS // max(1, q.shape[1] * indices.shape[1]))
    for at in range(0, len(q), step):
        rows = slice(at, at + step)
        scores[rows] = _dot(q[rows, None, :], g[indices[rows]])
    return scores


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner products along the last dimension in float64, summed pairwise in an order that depends on D alone.

    Built from elementwise operations only, so that equal vectors give equal bits wherever they stand.
    """
    terms = left.double() * right.double()
    while (width := terms.shape[-1]) > 1:
        half = width // 2
        folded = terms[..., :half] + terms[..., half : 2 * half]
        terms = torch.cat([folded, terms[..., 2 * half :]], dim=-1) if width % 2 else folded
    return terms[..., 0]


def _blocks(
    q: Tensor, g: Tensor, sizes: dict[bool, int], removed: Tensor | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield (first gallery index, scores (Qc, Gc)) with removed entries at -inf."""
    width = max(256, sizes[q.is_cuda] // max(1, len(q)))
    dtype = score_dtype(q)
    q = q.to(dtype)
    for start in range(0, len(g), width):
        with torch.autocast(q.device.type, enabled=False):
            block = q @ g[start : start + width].to(dtype).T
        if removed is not None:
            inside = (removed >= start) & (removed < start + block.shape[1])
            rows, columns = inside.nonzero(as_tuple=True)
            block[rows, removed[rows, columns] - start] = -torch.inf
        yield start, block


def _query_chunks(q: Tensor) -> list[slice]:
    step = _QUERY_ROWS[q.is_cuda]
    return [slice(start, start + step) for start in range(0, len(q), step)]


def _product_error(q: Tensor, g: Tensor) -> Tensor:
    """A bound (Q,), float64, on how far any score of a block may be from the exact inner product.

    The classical bound D u |x||y|, which holds for every order of summation, and the rounding of the inputs where
    torch is set to use TF32 or bfloat16 for float32 products.
    """
    query_norms, gallery_norms = lengths("queries", q), lengths("gallery", g)
    longest = gallery_norms.max() if len(g) else torch.zeros((), dtype=torch.float64, device=q.device)
    size = query_norms * longest
    if bool((size > 1e37).any()) and q.dtype != torch.float64:
        raise DataError("vectors are too long for float32 inner products; normalise them")
    unit = 2.0**-53 if q.dtype == torch.float64 else 2.0**-24
    setting = torch.backends.cuda.matmul if q.is_cuda else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    inputs = 0.0 if q.dtype == torch.float64 else 2 * _ROUNDOFF.get(setting.fp32_precision, 0.0)
    # Underflow adds at most the smallest normal number per term; a zero vector has no error at all.
    tiny = torch.where(size > 0, q.shape[1] * float(torch.finfo(torch.float32).tiny), 0.0)
    return size * ((q.shape[1] + 16) * unit + inputs) + tiny
