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

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scot_core.errors import ConfigError, DataError, ShapeError

# Elements of one block of scores, and queries in it, off and on a GPU: 16 MB or 256 MB in float32.
_BLOCK = {False: 1 << 22, True: 1 << 26}
_QUERY_ROWS = {False: 512, True: 4096}
# Elements of float64 terms alive at once while near ties are settled (32 MB).
_TERMS = 1 << 22
# Extra candidates kept by top_k so that near ties at rank k need no second look.
_SLACK = 16
# Unit roundoff of the inputs of a float32 product, by torch's precision setting for it.
_ROUNDOFF = {"tf32": 2.0**-10, "bf16": 2.0**-7}

_FLOATS = (np.float16, np.float32, np.float64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (np.int8, np.int16, np.int32, np.int64, torch.int8, torch.int16, torch.int32, torch.int64)


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
    q, g = _pair(queries, gallery)
    error = _product_error(q, g)
    k = min(k, len(g))
    scores = torch.empty((len(q), k), dtype=torch.float64, device=q.device)
    indices = torch.empty((len(q), k), dtype=torch.int64, device=q.device)
    for rows in _query_chunks(q):
        if k:
            scores[rows], indices[rows] = _top_k_rows(q[rows], g, k, error[rows])
    return _like(queries, scores.to(_score_dtype(q))), _like(queries, indices)


@torch.no_grad()
def ranks(queries: Any, gallery: Any, targets: Any, exclude: Any = None) -> Any:
    """The 0-based rank of each target: how many gallery vectors come before it in the query's order.

    queries (Q, D), gallery (G, D) as for `top_k`. targets: gallery indices, integers (Q,) or (Q, T), padded with
    -1. exclude: gallery indices that are taken out of a query's gallery, (Q,) or (Q, E), padded with -1.
    Returns int64 of the shape of `targets`; -1 where the target is -1 or is itself excluded.

    Raises ShapeError and DataError as `top_k` does, and DataError for an index outside the gallery.
    """
    q, g = _pair(queries, gallery)
    wanted = _indices("targets", targets, len(q), len(g), q.device)
    removed = None if exclude is None else _indices("exclude", exclude, len(q), len(g), q.device)
    error = _product_error(q, g)
    found = torch.full_like(wanted, -1)
    for rows in _query_chunks(q):
        out = None if removed is None else removed[rows]
        found[rows] = _rank_rows(q[rows], g, wanted[rows], out, error[rows])
    return _like(queries, found.reshape(np.shape(targets)))


@torch.no_grad()
def order_within(queries: Any, gallery: Any, candidates: Any) -> Any:
    """Each query's own few candidates, best first, in the same order as everywhere.

    queries (Q, D), gallery (G, D) as for `top_k`; candidates: gallery indices, integers (Q, C), padded with -1.
    Returns int64 (Q, C): the same indices sorted, padding last. Raises as `ranks` does.
    """
    q, g = _pair(queries, gallery)
    given = _indices("candidates", candidates, len(q), len(g), q.device)
    sorted_rows = [_sort_rows(q[rows], g, given[rows])[1] for rows in _query_chunks(q)]
    return _like(queries, torch.cat(sorted_rows) if sorted_rows else given)


def _rank_rows(q: Tensor, g: Tensor, targets: Tensor, removed: Tensor | None, error: Tensor) -> Tensor:
    """Ranks of (Qc, T) targets for one chunk of queries."""
    ignore = targets < 0
    if removed is not None:
        ignore |= (targets[:, :, None] == removed[:, None, :]).any(-1)
    exact = _scores_of(q, g, targets.clamp_min(0)) if len(g) else targets.double()
    high, low = (exact + error[:, None]).float(), (exact - error[:, None]).float()
    if q.dtype == torch.float64:
        high, low = exact + error[:, None], exact - error[:, None]
    counts = torch.zeros_like(targets)
    columns = [t for t in range(targets.shape[1]) if not bool(ignore[:, t].all())]
    for start, block in _blocks(q, g, removed):
        for t in columns:
            above = block > high[:, t, None]
            counts[:, t] += above.sum(1)
            near = (block >= low[:, t, None]) ^ above
            counts[:, t] += _near_before(q, g, start, near, exact[:, t], targets[:, t])
    return counts.masked_fill(ignore, -1)


def _near_before(q: Tensor, g: Tensor, start: int, near: Tensor, exact: Tensor, target: Tensor) -> Tensor:
    """How many of the near ties (Qc, Gc) of each query really come before its target."""
    rows, columns = near.nonzero(as_tuple=True)
    indices = columns + start
    rivals = indices != target[rows]
    rows, indices = rows[rivals], indices[rivals]
    before = torch.zeros(len(q), dtype=torch.int64, device=q.device)
    step = max(1, _TERMS // q.shape[1])
    for at in range(0, len(rows), step):
        row, index = rows[at : at + step], indices[at : at + step]
        score = _dot(q[row], g[index])
        wins = (score > exact[row]) | ((score == exact[row]) & (index < target[row]))
        before.index_add_(0, row, wins.long())
    return before


def _top_k_rows(q: Tensor, g: Tensor, k: int, error: Tensor) -> tuple[Tensor, Tensor]:
    """(scores, indices) of the k best for one chunk of queries."""
    keep = min(k + _SLACK, len(g))
    best = torch.empty((len(q), 0), dtype=_score_dtype(q), device=q.device)
    where = torch.empty((len(q), 0), dtype=torch.int64, device=q.device)
    for start, block in _blocks(q, g, None):
        values, columns = block.topk(min(keep, block.shape[1]), dim=1)
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


def _top_k_crowded(query: Tensor, g: Tensor, k: int, floor: Tensor) -> tuple[Tensor, Tensor]:
    """The k best of one query among everything that may reach rank k, when ties reach beyond the kept ones."""
    scores = torch.empty(0, dtype=torch.float64, device=g.device)
    indices = torch.empty(0, dtype=torch.int64, device=g.device)
    for start, block in _blocks(query[None], g, None):
        reach = (block[0] >= floor).nonzero().flatten() + start
        step = max(1, _TERMS // g.shape[1])
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
    step = max(1, _TERMS // max(1, q.shape[1] * indices.shape[1]))
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


def _blocks(q: Tensor, g: Tensor, removed: Tensor | None) -> Iterator[tuple[int, Tensor]]:
    """Yield (first gallery index, scores (Qc, Gc)) with removed entries at -inf."""
    width = max(256, _BLOCK[q.is_cuda] // max(1, len(q)))
    dtype = _score_dtype(q)
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
    query_norms, gallery_norms = _norms("queries", q), _norms("gallery", g)
    longest = gallery_norms.max() if len(g) else torch.zeros((), dtype=torch.float64, device=q.device)
    size = query_norms * longest
    if bool((size > 1e37).any()) and q.dtype != torch.float64:
        raise DataError("vectors are too long for float32 inner products; normalise them")
    unit = 2.0**-53 if q.dtype == torch.float64 else 2.0**-24
    setting = torch.backends.cuda.matmul if q.is_cuda else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    inputs = 0.0 if q.dtype == torch.float64 else 2 * _ROUNDOFF.get(setting.fp32_precision, 0.0)
    # Underflow adds at most the smallest normal number per term; a zero vector has no error at all.
    tiny = torch.where(size > 0, q.shape[1] * float(torch.finfo(torch.float32).tiny), 0.0)
    return size * ((q.shape[1] + 4) * unit + inputs) + tiny


def _norms(name: str, vectors: Tensor) -> Tensor:
    """Lengths (N,) in float64. Raises DataError naming the first row that is not finite."""
    step = max(1, _TERMS // vectors.shape[1])
    parts = [vectors[at : at + step].double().norm(dim=1) for at in range(0, len(vectors), step)]
    norms = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64, device=vectors.device)
    if len(bad := (~norms.isfinite()).nonzero()):
        raise DataError(f"{name}: row {int(bad[0])} holds NaN or infinity ({len(bad)} such rows in all)")
    return norms


def _score_dtype(vectors: Tensor) -> torch.dtype:
    return torch.float64 if vectors.dtype == torch.float64 else torch.float32


def _pair(queries: Any, gallery: Any) -> tuple[Tensor, Tensor]:
    if isinstance(queries, Tensor) != isinstance(gallery, Tensor):
        raise ShapeError(
            f"queries are {type(queries).__name__}, gallery is {type(gallery).__name__}; give numpy or torch for both"
        )
    q, g = _vectors("queries", queries), _vectors("gallery", gallery)
    for what, ours, theirs in (
        ("width", q.shape[1], g.shape[1]),
        ("dtype", q.dtype, g.dtype),
        ("device", q.device, g.device),
    ):
        if ours != theirs:
            raise ShapeError(f"queries have {what} {ours}, gallery has {what} {theirs}; they must be equal")
    return q, g


def _vectors(name: str, given: Any) -> Tensor:
    if not isinstance(given, (np.ndarray, Tensor)):
        raise ShapeError(f"{name} must be a numpy array or a torch tensor, not {type(given).__name__}")
    if given.ndim != 2 or given.shape[1] == 0:
        raise ShapeError(f"{name} must be (N, D) with D >= 1, but has shape {tuple(given.shape)}")
    if given.dtype not in _FLOATS:
        raise ShapeError(f"{name} must hold floats, but has dtype {given.dtype}")
    if isinstance(given, Tensor):
        return given.detach()
    with warnings.catch_warnings():
        # Arrow hands out read-only arrays; nothing here writes to its inputs.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(given))


def _indices(name: str, given: Any, rows: int, size: int, device: torch.device) -> Tensor:
    """Gallery indices as int64 (Q, n). Raises where they are no integers, misshapen or outside the gallery."""
    values = given.detach() if isinstance(given, Tensor) else np.asarray(given)
    if values.dtype not in _INTEGERS and 0 not in values.shape:
        raise ShapeError(f"{name} must hold integers, but has dtype {values.dtype}")
    if values.ndim not in (1, 2) or len(values) != rows:
        raise ShapeError(
            f"{name} must be ({rows},) or ({rows}, n), one row per query, but has shape {tuple(values.shape)}"
        )
    tensor = torch.as_tensor(values, device=device).long()
    tensor = tensor[:, None] if tensor.ndim == 1 else tensor
    bad = ((tensor < -1) | (tensor >= size)).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"{name} row {row} names gallery index {int(tensor[row, column])}, but the gallery has {size} rows"
        )
    return tensor


def _like(example: Any, result: Tensor) -> Any:
    return result if isinstance(example, Tensor) else result.numpy()
