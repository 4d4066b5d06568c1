"""Tables of vectors and of gallery indices as callers give them: checked, on one device, numpy or torch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scot_core.errors import DataError, ShapeError

Vectors = npt.NDArray[np.float32]
"""A table of vectors, (N, D), a row each."""

# Elements taken to float64 at once (32 MB).
TERMS = 1 << 22
# How far the length of a vector that was normalised in float32 may be from one.
_UNIT_TOLERANCE = 1e-6
_FLOATS = (np.float16, np.float32, np.float64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (np.int8, np.int16, np.int32, np.int64, torch.int8, torch.int16, torch.int32, torch.int64)


@torch.no_grad()
def unit(name: str, table: Any) -> Any:
    """Rows of a table (N, D) scaled to length one, float32 or float64, of the kind given; zero rows stay zero.

    Rows whose length is one within float32's rounding stay as they are; others are divided in float64. `name` is
    for messages. Raises ShapeError for what is no table of floats, DataError for NaN or infinity, naming the row.
    """
    given = checked(name, table)
    rows = given.to(score_dtype(given))
    norms = lengths(name, rows)
    other = ((norms > 0) & ((norms - 1).abs() > _UNIT_TOLERANCE)).nonzero().flatten()
    if rows is given and not len(other):
        return table
    rows = rows.clone() if rows is given else rows
    for part in torch.split(other, max(1, TERMS // rows.shape[1])):
        exact = rows[part].double()
        rows[part] = (exact / exact.norm(dim=1, keepdim=True)).to(rows.dtype)
    return like(table, rows)


def score_dtype(vectors: Tensor) -> torch.dtype:
    """What inner products of these vectors are computed in."""
    return torch.float64 if vectors.dtype == torch.float64 else torch.float32


def pair(queries: Any, gallery: Any) -> tuple[Tensor, Tensor]:
    """Two tables that can be multiplied. Raises ShapeError naming both sides where they cannot."""
    if isinstance(queries, Tensor) != isinstance(gallery, Tensor):
        raise ShapeError(
            f"queries are {type(queries).__name__}, gallery is {type(gallery).__name__}; give numpy or torch for both"
        )
    q, g = checked("queries", queries), checked("gallery", gallery)
    for what, ours, theirs in (
        ("width", q.shape[1], g.shape[1]),
        ("dtype", q.dtype, g.dtype),
        ("device", q.device, g.device),
    ):
        if ours != theirs:
            raise ShapeError(f"queries have {what} {ours}, gallery has {what} {theirs}; they must be equal")
    return q, g


def checked(name: str, given: Any) -> Tensor:
    """A table of floats (N, D) as a tensor that shares its memory. Raises ShapeError for anything else."""
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


def gallery_indices(name: str, given: Any, rows: int, size: int, device: torch.device) -> Tensor:
    """Gallery indices as int64 (Q, n). ShapeError or DataError where they are no integers, misshapen or outside."""
    values = given.detach() if isinstance(given, Tensor) else np.asarray(given)
    if values.dtype not in _INTEGERS and 0 not in values.shape:
        raise ShapeError(f"{name} must hold integers, but has dtype {values.dtype}")
    if values.ndim not in (1, 2) or len(values) != rows:
        raise ShapeError(
            f"{name} must be ({rows},) or ({rows}, n), one row per query, but has shape {tuple(values.shape)}"
        )
    tensor = (values if isinstance(values, Tensor) else torch.tensor(values)).to(device).long()
    tensor = tensor[:, None] if tensor.ndim == 1 else tensor
    bad = ((tensor < -1) | (tensor >= size)).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise DataError(
            f"{name} row {row} names gallery index {int(tensor[row, column])}, but the gallery has {size} rows"
        )
    return tensor


def like(example: Any, result: Tensor) -> Any:
    """A result of the kind of the example: torch or numpy."""
    return result if isinstance(example, Tensor) else result.numpy()


def lengths(name: str, vectors: Tensor) -> Tensor:
    """Lengths (N,) in float64, for bounds. Raises DataError naming the first row that is not finite."""
    step = max(1, TERMS // vectors.shape[1])
    parts = [
        torch.linalg.vector_norm(vectors[at : at + step].to(score_dtype(vectors)), dim=1)
        for at in range(0, len(vectors), step)
    ]
    norms = torch.cat(parts).double() if parts else torch.zeros(0, dtype=torch.float64, device=vectors.device)
    # Squares overflow or underflow in float32 long before the numbers themselves do.
    doubtful = (~((norms > 1e-15) & (norms < 1e15))).nonzero().flatten()
    for row in torch.split(doubtful, step):
        norms[row] = vectors[row].double().norm(dim=1)
    if len(bad := (~norms.isfinite()).nonzero()):
        raise DataError(f"{name}: row {int(bad[0])} holds NaN or infinity ({len(bad)} such rows in all)")
    return norms


def multiplies_bfloat16(*, on_gpu: bool = False) -> bool:
    """Whether this CPU, or GPU, has instructions for products of bfloat16: they take half the time of float32's."""
    if on_gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
