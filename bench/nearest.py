"""The nearest of CIRCO's 123,403 images for 1,024 queries: `top_k` against FAISS's exact index.

FAISS (`IndexFlatIP`) computes every inner product in float32 and keeps a heap a query; equal scores come in no order
that it promises. `top_k` gives the exact order: by score, then by index, near ties compared in float64. One thread
each, CPU seconds, the least of several runs in turns. Needs `pip install faiss-cpu`; without it, it says so.

    python bench/nearest.py [--dim 256 640] [--k 10 50]
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before numpy and torch read them
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import not_measured, row
from scot_core.paper import CIRCO_GALLERY
from scot_core.retrieval import top_k

QUERIES, REPEATS, REQUIRED = 1024, 4, 1 / 1.05
Found = tuple[np.ndarray, np.ndarray]


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    table = rng.standard_normal((rows, dim), dtype=np.float32)
    return np.asarray(table / np.linalg.norm(table, axis=1, keepdims=True))


def measure(dim: int, k: int, faiss: Any) -> tuple[float, float]:
    """Least CPU seconds of (FAISS, Scot). Raises SystemExit where they find other scores."""
    rng = np.random.default_rng(0)
    gallery, queries = unit(rng, CIRCO_GALLERY, dim), unit(rng, QUERIES, dim)
    index = faiss.IndexFlatIP(dim)
    index.add(gallery)
    ways: list[Callable[[], Found]] = [lambda: index.search(queries, k), lambda: top_k(queries, gallery, k)]
    seconds = [float("inf")] * 2
    found: list[Found] = [(np.empty(0), np.empty(0))] * 2
    for _ in range(REPEATS):
        for number, way in enumerate(ways):
            start = time.process_time()
            found[number] = way()
            seconds[number] = min(seconds[number], time.process_time() - start)
    if not np.allclose(found[0][0], found[1][0], atol=1e-5):
        raise SystemExit("nearest: FAISS and Scot found other scores")
    return seconds[0], seconds[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, nargs="+", default=[256, 640])
    parser.add_argument("--k", type=int, nargs="+", default=[10, 50])
    arguments = parser.parse_args()
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        print("nearest: FAISS is not installed (pip install faiss-cpu), nothing is compared")
        not_measured("nearest vectors", "FAISS IndexFlatIP", "FAISS is not installed", REQUIRED)
        return 0
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    ratios = []
    for dim in arguments.dim:
        for k in arguments.k:
            theirs, ours = measure(dim, k, faiss)
            ratios.append(theirs / ours)
            row(f"top-{k} of {CIRCO_GALLERY:,} x {dim}", "FAISS IndexFlatIP", ratios[-1], REQUIRED)
            print(
                f"top-{k:<3d} of {CIRCO_GALLERY:,} x {dim:<4d} {ratios[-1]:5.2f} x   {ours:6.3f} s against "
                f"{theirs:6.3f} s of FAISS",
                flush=True,
            )
    return 0 if min(ratios) >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
