"""The nearest gallery vectors of each query, in the exact order of `scot_core.retrieval`.

Every score is computed once, in bfloat16 where a CPU multiplies it and the queries are many, else in float32; only what
may be among the best is kept, and compared exactly at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scot_core.errors import ConfigError
from scot_core.scores import blocks, count, exact_scores, product_error, query_chunks
from scot_core.vectors import like, multiplies_bfloat16, pair, score_dtype

# Elements of one block of scores, off and on a GPU: it is read once and each block costs something (32 MB).
_SEARCHED = {False: 1 << 23, True: 1 << 26}
# Gallery vectors of which the best is looked at first, and near ties at rank k that are nothing unusual.
_GROUP, _SLACK = 16, 16

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
    error, k = product_error(q, g), min(k, len(g))
    rounded = _rounded_error(q, g, error)
    scores = torch.empty((len(q), k), dtype=torch.float64, device=q.device)
    indices = torch.empty((len(q), k), dtype=torch.int64, device=q.device)
    for rows in query_chunks(q):
        if k:
            some = None if rounded is None else rounded[rows]
            scores[rows], indices[rows] = _top_k_rows(q[rows], g, k, error[rows], some)
    return like(queries, scores.to(score_dtype(q))), like(queries, indices)


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
        if int(count(hits).sum()) > k * len(q):  # the maxima alone raise the floor
            floor = _raised(floor, torch.cat([best, maxima.T], 1), k, error, rounded)
            crowded |= (maxima >= floor).sum(0) > many
            hits = maxima >= floor.masked_fill(crowded, torch.inf)
        group, row = _places(hits)
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
    scores = _ragged(row, exact_scores(q, g, row, index), len(q), -torch.inf, at_least=k)
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


def _places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the true entries, in order (numpy finds them twice as fast as torch does on a CPU)."""
    if mask.is_cuda:
        return mask.nonzero(as_tuple=True)  # type: ignore[return-value]
    places = torch.from_numpy(np.flatnonzero(mask.numpy()))
    return places // mask.shape[1], places % mask.shape[1]


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
    for start, block in blocks(query[None], g, _SEARCHED):
        reach = (block[0] >= floor).nonzero().flatten() + start
        scores = torch.cat([scores, exact_scores(query[None], g, torch.zeros_like(reach), reach)])
        indices = torch.cat([indices, reach])
        order = torch.sort(scores, descending=True, stable=True).indices[:k]
        scores, indices = scores[order], indices[order]
    return scores, indices


def _rounded_error(q: Tensor, g: Tensor, error: Tensor) -> Tensor | None:
    """As `product_error`, of products of vectors that were rounded to bfloat16, before these are rounded themselves.

    None where that would not be faster: it is on CPUs with instructions for it, and enough queries.
    """
    if q.is_cuda or q.dtype != torch.float32 or len(q) < _ROUNDED_FROM or not multiplies_bfloat16():
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
