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

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scot_core.errors import ConfigError, DataError
from scot_core.vectors import gallery_indices, lengths, like, pair, score_dtype

# Elements of one block of scores, off and on a GPU. Counting reads a block several times and wants it small, near
# the caches (8 MB); top_k reads it once and pays for each block (32 MB).
_COUNTED = {False: 1 << 21, True: 1 << 26}
_SEARCHED = {False: 1 << 23, True: 1 << 26}
_QUERY_ROWS = {False: 1024, True: 4096}
# Gallery vectors of which top_k looks at the best first, and near ties at rank k that are nothing unusual.
_GROUP, _SLACK = 16, 16
# Terms of exact scores at once: on a CPU they stay in its second cache.
_TERMS = {False: 1 << 16, True: 1 << 22}
# Unit roundoff of the inputs of a float32 product, by torch's precision setting for it.
_ROUNDOFF = {"tf32": 2.0**-10, "bf16": 2.0**-7}

# Products of bfloat16, where a CPU has them, are worth it from so many queries on, of vectors no longer than that.
_ROUNDED_FROM, _ROUNDED_ROWS, _ORDINARY, _BFLOAT16 = 64, 4096, 1e6, 2.0**-8

Entries = tuple[Tensor, Tensor, Tensor]  # of a table of scores: query rows, gallery indices, scores


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
    error, k = _product_error(q, g), min(k, len(g))
    rounded = _rounded_error(q, g, error)
    scores = torch.empty((len(q), k), dtype=torch.float64, device=q.device)
    indices = torch.empty((len(q), k), dtype=torch.int64, device=q.device)
    for rows in _query_chunks(q):
        if k:
            some = None if rounded is None else rounded[rows]
            scores[rows], indices[rows] = _top_k_rows(q[rows], g, k, error[rows], some)
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
    score = _exact(q, g, rows, indices)
    wins = (score > exact[rows]) | ((score == exact[rows]) & (indices < target[rows]))
    return before.index_add_(0, rows, wins.long())


def _top_k_rows(q: Tensor, g: Tensor, k: int, error: Tensor, rounded: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(scores, indices) of the k best for one chunk of queries.

    What scores less than a query's floor, the k-th best score so far less the error of both, is not among its k best.
    What is left at the end, seldom many more than k, is compared exactly. A query that too much is left for is crowded:
    it is asked again where vectors were rounded to bfloat16 (`rounded` is then the error), else looked at by itself.
    """
    dtype = score_dtype(q)
    best = torch.full((len(q), k), -torch.inf, dtype=dtype, device=q.device)
    floor = best[:, 0].clone()
    crowded = torch.zeros(len(q), dtype=torch.bool, device=q.device)
    found: list[Entries] = []
    many = (2 if rounded is None else 8) * (k + _SLACK)
    product = dtype if rounded is None else torch.bfloat16
    for start, block in _gallery_blocks(q, g, product):
        groups = block.view(-1, _GROUP, len(q))
        maxima = groups.amax(1).to(dtype)
        hits = maxima >= floor.masked_fill(crowded, torch.inf)
        if int(_count(hits).sum()) > k * len(q):  # the maxima alone raise the floor
            floor = _raised(floor, torch.cat([best, maxima.T], 1), k, error, rounded)
            crowded |= (maxima >= floor).sum(0) > many
            hits = maxima >= floor.masked_fill(crowded, torch.inf)
        group, row = hits.nonzero(as_tuple=True)
        scores = groups[group, :, row].to(dtype)
        entry, member = ((scores >= floor[row, None]) & (scores > -torch.inf)).nonzero(as_tuple=True)
        row, index, score = row[entry], start + group[entry] * _GROUP + member, scores[entry, member]
        best = _largest(torch.cat([best, _ragged(row, score, len(q), -torch.inf)], 1), k)
        floor = _raised(floor, best, k, error, rounded)
        found.append((row, index, score))
        if sum(len(row) for row, _, _ in found) > 2 * many * len(q):
            found = [_reaching(found, floor, crowded)]
            crowded |= torch.bincount(found[0][0], minlength=len(q)) > many
    row, index, _ = _reaching(found, floor, crowded)
    scores = _ragged(row, _exact(q, g, row, index), len(q), -torch.inf, at_least=k)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    scores, indices = scores[:, :k], _ragged(row, index, len(q), -1, at_least=k).gather(1, order[:, :k])
    again = crowded.nonzero().flatten()
    if rounded is not None and len(again):
        scores[again], indices[again] = _top_k_rows(q[again], g, k, error[again])
    else:
        for one in again.tolist():
            scores[one], indices[one] = _top_k_crowded(q[one], g, k, floor[one])
    return scores, indices


def _gallery_blocks(q: Tensor, g: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Yield (first gallery index, scores (Gc, Qc)), Gc filled up with -inf to whole groups; good until the next."""
    width = max(256, _SEARCHED[q.is_cuda] // max(1, len(q))) // _GROUP * _GROUP
    buffer = torch.empty((min(width, -(-len(g) // _GROUP) * _GROUP), len(q)), dtype=dtype, device=q.device)
    columns = q.to(dtype).T
    for start in range(0, len(g), width):
        part = g[start : start + width].to(dtype)
        _multiply(part, columns, buffer[: len(part)])
        filled = -(-len(part) // _GROUP) * _GROUP
        buffer[len(part) : filled] = -torch.inf
        yield start, buffer[:filled]


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    """The matrix product. On a CPU numpy's BLAS is as fast on either make, which torch's is not but for bfloat16."""
    if out.is_cuda or out.dtype == torch.bfloat16:
        with torch.autocast(out.device.type, enabled=False):
            torch.mm(left, right, out=out)
    else:
        np.matmul(left.numpy(), right.numpy(), out=out.numpy())


def _largest(scores: Tensor, k: int) -> Tensor:
    """The k largest of each row, in any order."""
    if scores.is_cuda:
        return scores.topk(k, dim=1, sorted=False).values
    below = scores.shape[1] - k
    return torch.from_numpy(np.partition(scores.numpy(), below, axis=1)[:, below:]) if below else scores


def _raised(floor: Tensor, scores: Tensor, k: int, error: Tensor, rounded: Tensor | None) -> Tensor:
    """The floor (Q,) after scores (Q, n >= k) of different gallery vectors were seen.

    Rounding keeps the order: what is at least a number is, once rounded, at least that number rounded.
    """
    least = _largest(scores, k).amin(1).double()
    if rounded is None:
        return torch.maximum(floor, (least - 2 * error).to(floor.dtype))
    least -= 2 * rounded + least.abs() * _BFLOAT16
    return torch.maximum(floor, least.to(torch.bfloat16).to(floor.dtype))


def _reaching(found: Sequence[Entries], floor: Tensor, crowded: Tensor) -> Entries:
    """The entries of queries that are not crowded which reach the floor, by query, then index."""
    row, index, score = (torch.cat(columns) for columns in zip(*found, strict=True))
    kept = ((score >= floor[row]) & ~crowded[row]).nonzero().flatten()
    kept = kept[index[kept].argsort()]
    kept = kept[row[kept].argsort(stable=True)]
    return row[kept], index[kept], score[kept]


def _ragged(row: Tensor, values: Tensor, rows: int, padding: float, at_least: int = 0) -> Tensor:
    """Values as a table (rows, n): each in its row, in the order given, n as large as need be."""
    counts = torch.bincount(row, minlength=rows)
    order = row.argsort(stable=True)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row[order]]
    width = max(at_least, int(counts.max()) if rows else 0)
    table = torch.full((rows, width), padding, dtype=values.dtype, device=row.device)
    table[row[order], place] = values[order]
    return table


def _top_k_crowded(query: Tensor, g: Tensor, k: int, floor: Tensor) -> tuple[Tensor, Tensor]:
    """The k best of one query among everything that may reach rank k, when ties reach beyond the kept ones."""
    scores = torch.empty(0, dtype=torch.float64, device=g.device)
    indices = torch.empty(0, dtype=torch.int64, device=g.device)
    for start, block in _blocks(query[None], g, _SEARCHED):
        reach = (block[0] >= floor).nonzero().flatten() + start
        scores = torch.cat([scores, _exact(query[None], g, torch.zeros_like(reach), reach)])
        indices = torch.cat([indices, reach])
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
    rows = torch.arange(len(q), device=q.device).repeat_interleave(indices.shape[1])
    return _exact(q, g, rows, indices.flatten()).view(indices.shape)


def _exact(q: Tensor, g: Tensor, row: Tensor, index: Tensor) -> Tensor:
    """Exact scores (n,) of pairs of a query and a gallery vector."""
    scores = torch.empty(len(row), dtype=torch.float64, device=q.device)
    step = max(1, _TERMS[q.is_cuda] // q.shape[1])
    for at in range(0, len(row), step):
        some = slice(at, at + step)
        scores[some] = _dot(q[row[some]], g[index[some]])
    return scores


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner products (n,) of rows (n, D) in float64, summed pairwise in an order that depends on D alone.

    Built from elementwise operations only, so that equal vectors give equal bits wherever they stand.
    """
    terms = right.to(torch.float64, copy=True)
    terms *= left.double()
    while (width := terms.shape[-1]) > 1:
        half = width // 2
        terms[:, :half] += terms[:, half : 2 * half]
        if width % 2:
            terms[:, half] = terms[:, 2 * half]
        terms = terms[:, : half + width % 2]
    return terms[:, 0]


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


def _rounded_error(q: Tensor, g: Tensor, error: Tensor) -> Tensor | None:
    """As `_product_error`, of products of vectors that were rounded to bfloat16, before these are rounded themselves.

    None where that would not be faster: it is on CPUs with instructions for it, and enough queries.
    """
    if q.is_cuda or q.dtype != torch.float32 or len(q) < _ROUNDED_FROM or not _multiplies_bfloat16():
        return None
    lost = [torch.cat([_lost(some) for some in torch.split(part, _ROUNDED_ROWS)]) for part in (q, g)]
    sizes = [torch.linalg.vector_norm(part, dim=1).double() for part in (q, g)]
    longest, most = sizes[1].max(), lost[1].max()
    if float(longest) > _ORDINARY or float(sizes[0].max()) > _ORDINARY:
        return None
    tiny = torch.where(sizes[0] > 0, _ORDINARY * q.shape[1] * float(torch.finfo(torch.float32).tiny), 0.0)
    bound: Tensor = lost[0] * longest + (sizes[0] + lost[0]) * most + 2 * error + tiny
    return bound


def _lost(rows: Tensor) -> Tensor:
    """Lengths of what rounding to bfloat16 takes from rows, themselves rounded up."""
    norms: Tensor = torch.linalg.vector_norm(rows - rows.bfloat16(), dim=1)
    return norms.double() * 1.001


def _multiplies_bfloat16() -> bool:
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


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
