"""Scores of queries and gallery vectors: fast ones in blocks, exact ones of pairs, and how far the two may be apart.

Matrix products give slightly different last digits for different shapes, threads and devices, so that equal
vectors could get unequal scores. They are therefore only used to sort out what is clearly above or below: pairs
closer than the product's rounding error are compared by `exact_scores`, which works in float64 and in one fixed order
of summation. What follows from them is the same for every chunk size, thread count and device.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from scot_core.errors import DataError
from scot_core.vectors import lengths, score_dtype

# By whether they lie on a GPU: queries that are asked together, and terms of exact scores at once, about a CPU's second
# cache.
_QUERY_ROWS = {False: 1024, True: 4096}
_TERMS = {False: 1 << 17, True: 1 << 22}
# Unit roundoff of the inputs of a float32 product, by torch's precision setting for it.
_ROUNDOFF = {"tf32": 2.0**-10, "bf16": 2.0**-7}


def query_chunks(q: Tensor) -> list[slice]:
    step = _QUERY_ROWS[q.is_cuda]
    return [slice(start, start + step) for start in range(0, len(q), step)]


def blocks(q: Tensor, g: Tensor, sizes: dict[bool, int], removed: Tensor | None = None) -> Iterator[tuple[int, Tensor]]:
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


def scores_of(q: Tensor, g: Tensor, indices: Tensor) -> Tensor:
    """Exact scores (Qc, C) of gallery indices (Qc, C)."""
    rows = torch.arange(len(q), device=q.device).repeat_interleave(indices.shape[1])
    return exact_scores(q, g, rows, indices.flatten()).view(indices.shape)


def exact_scores(q: Tensor, g: Tensor, row: Tensor, index: Tensor) -> Tensor:
    """Exact scores (n,) of pairs of a query and a gallery vector."""
    scores = torch.empty(len(row), dtype=torch.float64, device=q.device)
    step = max(1, _TERMS[q.is_cuda] // q.shape[1])
    for at in range(0, len(row), step):
        some = slice(at, at + step)
        scores[some] = dot(q.index_select(0, row[some]), g.index_select(0, index[some]))
    return scores


def dot(left: Tensor, right: Tensor) -> Tensor:
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


def count(mask: Tensor) -> Tensor:
    """True entries of each row (numpy counts booleans many times faster than torch does on a CPU)."""
    return (
        mask.sum(1)
        if mask.is_cuda
        else torch.from_numpy(np.add.reduce(mask.numpy().view(np.int8), axis=1, dtype=np.int32))
    )


def product_error(q: Tensor, g: Tensor) -> Tensor:
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
