"""Ranking as Scot does it against the field's published evaluation code, at the sizes of FashionIQ, CIRR and CIRCO val.

That code (CLIP4Cir's, and SEARLE's after it) computes the full similarity matrix, sorts all of it, makes the matrix of
sorted image names, and compares that with the names of the targets (and of references and subsets). For CIRCO SEARLE's
takes `topk(50)` of one query at a time, over a new array of all image names. Both ways get the same unit vectors and
must give the same scores. Each runs in a process of its own, so that its peak memory is its own; what is reported is
the least CPU time of its repeats and the memory on top of the inputs. Both ways get one thread unless told otherwise.

    python bench/ranking.py [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import row as told
from scot_core.benchmarks.base import Benchmark, Query
from scot_core.benchmarks.circo import CIRCO
from scot_core.benchmarks.cirr import CIRR
from scot_core.benchmarks.fashioniq import FashionIQ
from scot_core.paper import CIRCO_GALLERY, CIRCO_QUERIES, CIRR_SIZES, FASHIONIQ_VAL

DIM = 256
REPEATS = 3
# What must hold on any machine: by FashionIQ and CIRR sorting names costs most, by CIRCO the product that both need.
REQUIRED = {"fashioniq-dress": 4.0, "fashioniq-shirt": 4.0, "fashioniq-toptee": 4.0, "cirr-val": 8.0, "circo-val": 1.5}
Scores = dict[str, float]
Case = tuple[Benchmark, np.ndarray, np.ndarray]


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    table = rng.standard_normal((rows, DIM), dtype=np.float32)
    for part in np.array_split(table, rows // 4096 + 1):  # in place: making inputs must not hide the peak
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return table


def with_vectors(benchmark: Benchmark, rng: np.random.Generator) -> Case:
    """Queries that lie near their targets, so that the scores are those of a working model."""
    gallery = unit(rng, len(benchmark.gallery))
    targets = benchmark.target_indices()[:, 0]
    queries = gallery[targets] + 3 * unit(rng, len(benchmark.queries))
    return benchmark, queries / np.linalg.norm(queries, axis=1, keepdims=True), gallery


def fashioniq(category: str) -> Case:
    rng = np.random.default_rng(0)
    queries, images = FASHIONIQ_VAL[category]
    names = [f"B{i:09d}" for i in range(images)]
    pairs = [rng.choice(images, 2, replace=False) for _ in range(queries)]
    annotated = [Query(str(i), names[r], "", (), (names[t],), groups=(category,)) for i, (r, t) in enumerate(pairs)]
    return with_vectors(FashionIQ("val", annotated, names, {category: names}), rng)


def cirr() -> Case:
    rng = np.random.default_rng(0)
    queries, images = CIRR_SIZES["val"]
    names = [f"dev-{i}-{i % 4}-img{i % 2}" for i in range(images)]
    sets = [[names[i] for i in rng.choice(images, 6, replace=False)] for _ in range(queries)]
    annotated = [Query(str(i), s[0], "", (), (s[1],), subset=tuple(s[1:])) for i, s in enumerate(sets)]
    return with_vectors(CIRR("val", annotated, names), rng)


def circo() -> Case:
    rng = np.random.default_rng(0)
    names = [str(4 * i + 1) for i in range(CIRCO_GALLERY)]
    truths = [rng.choice(CIRCO_GALLERY, rng.integers(2, 8), replace=False) for _ in range(CIRCO_QUERIES["val"])]
    annotated = [Query(str(i), names[0], "", (), tuple(names[j] for j in row)) for i, row in enumerate(truths)]
    return with_vectors(CIRCO("val", annotated, names), rng)


def sorted_names(benchmark: Benchmark, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    distances = 1 - torch.from_numpy(queries) @ torch.from_numpy(gallery).T
    return np.asarray(np.array(benchmark.gallery)[torch.argsort(distances, dim=-1)])


def repeated(names: list[str], columns: int) -> np.ndarray:
    return np.repeat(np.array(names), columns).reshape(len(names), columns)


def textbook_fashioniq(benchmark: Benchmark, queries: np.ndarray, gallery: np.ndarray) -> Scores:
    names = sorted_names(benchmark, queries, gallery)
    labels = names == repeated([query.targets[0] for query in benchmark.queries], names.shape[1])
    return {f"R@{k}": 100 * labels[:, :k].sum() / len(labels) for k in (10, 50)}


def textbook_cirr(benchmark: Benchmark, queries: np.ndarray, gallery: np.ndarray) -> Scores:
    names = sorted_names(benchmark, queries, gallery)
    keep = names != repeated([query.reference for query in benchmark.queries], names.shape[1])
    names = names[keep].reshape(len(names), -1)
    labels = names == repeated([query.targets[0] for query in benchmark.queries], names.shape[1])
    members = np.array([query.subset for query in benchmark.queries])
    in_subset = (names[..., None] == members[:, None, :]).sum(-1).astype(bool)
    subset_labels = labels[in_subset].reshape(len(labels), -1)
    scores = {f"R@{k}": 100 * labels[:, :k].sum() / len(labels) for k in (1, 5, 10, 50)}
    return scores | {f"Rs@{k}": 100 * subset_labels[:, :k].sum() / len(labels) for k in (1, 2, 3)}


def textbook_circo(benchmark: Benchmark, queries: np.ndarray, gallery: np.ndarray) -> Scores:
    cuts = (5, 10, 25, 50)
    precisions: dict[int, list[float]] = {k: [] for k in cuts}
    recalls: dict[int, list[float]] = {k: [] for k in cuts}
    images = torch.from_numpy(gallery)
    for query, vector in zip(benchmark.queries, torch.from_numpy(queries), strict=True):
        best = torch.topk(vector @ images.T, dim=-1, k=50).indices
        names = np.array(benchmark.gallery)[best]
        labels = np.isin(names, np.array(query.targets))
        precision = np.cumsum(labels) * labels / np.arange(1, len(labels) + 1)
        for k in cuts:
            precisions[k].append(precision[:k].sum() / min(len(query.targets), k))
            recalls[k].append((names[:k] == query.targets[0]).sum())
    means = {f"mAP@{k}": 100 * float(np.mean(precisions[k])) for k in cuts}
    return means | {f"R@{k}": 100 * float(np.mean(recalls[k])) for k in cuts}


def scot(benchmark: Benchmark, queries: np.ndarray, gallery: np.ndarray) -> Scores:
    return benchmark.score(queries, gallery)


CASES: dict[str, tuple[Callable[[], Case], Callable[[Benchmark, np.ndarray, np.ndarray], Scores]]] = {
    **{f"fashioniq-{c}": (partial(fashioniq, c), textbook_fashioniq) for c in FASHIONIQ_VAL},
    "cirr-val": (cirr, textbook_cirr),
    "circo-val": (circo, textbook_circo),
}


class Measured(TypedDict):
    """One way's least CPU time, the memory it took beside its inputs, and what it computed."""

    seconds: float
    extra_mb: float
    scores: Scores


def measure(case: str, way: str) -> Measured:
    """Least CPU time and extra memory of one way, in this process."""
    make, textbook = CASES[case]
    inputs = make()
    run = scot if way == "scot" else textbook
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        scores = run(*inputs)
        seconds.append(time.process_time() - start)
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": min(seconds), "extra_mb": extra / 1024, "scores": scores}


def in_own_process(case: str, way: str, threads: int) -> Measured:
    command = [sys.executable, __file__, "--measure", case, way]
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(pools, str(threads))}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: Measured = json.loads(done.stdout)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of either way")
    parser.add_argument("--json", action="store_true", help="print one JSON object per case")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return 0
    slow = []
    for case in CASES:
        ours, theirs = (in_own_process(case, way, arguments.threads) for way in ("scot", "textbook"))
        gaps = [abs(ours["scores"][metric] - value) for metric, value in theirs["scores"].items()]
        if max(gaps) > 1e-6:
            print(f"{case}: the two ways disagree by {max(gaps)} points", file=sys.stderr)
            return 1
        row = {
            "ratio": theirs["seconds"] / ours["seconds"],
            "scot_s": ours["seconds"],
            "textbook_s": theirs["seconds"],
            "scot_mb": ours["extra_mb"],
            "textbook_mb": theirs["extra_mb"],
        }
        peer = "SEARLE's topk(50)" if case == "circo-val" else "CLIP4Cir's sorted names"
        told(f"scores of {case}", peer, row["ratio"], REQUIRED[case])
        if row["ratio"] < REQUIRED[case]:
            slow.append(f"{case} must reach {REQUIRED[case]} x")
        if arguments.json:
            print(json.dumps({"case": case, **row}), flush=True)
        else:
            print(
                f"{case:18s} {row['ratio']:6.1f} x   {row['scot_s']:7.3f} s against {row['textbook_s']:7.3f} s   "
                f"{row['scot_mb']:6.0f} MB against {row['textbook_mb']:6.0f} MB",
                flush=True,
            )
    print("\n".join(slow), end="\n" * bool(slow), file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
