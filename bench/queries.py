"""One query end to end, by φ against by its text alone: from the text to the ten nearest of a gallery.

Both know the reference's embedding, as a search over a lake does. φ gives the pseudo-token, and the text tower reads a
longer sentence with it; ranking is the same. Random weights of SEARLE's sizes do: the work does not depend on what they
learned. The two are timed in turns on the same queries, by the processor's time of one thread, whoever shares
the machine; the ratio is that of their medians.

    python bench/queries.py [--gallery 6000] [--queries 300] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import row
from scot_core.benchmarks.baselines import BASELINES
from scot_core.catalogue.queries import make
from scot_core.catalogue.wordings import KNOWN
from scot_core.encoders import load
from scot_core.methods import Compose, Queries
from scot_core.methods.words import phi_composer
from scot_core.retrieval import top_k
from scot_core.searle import Phi, tower_of
from scot_core.vectors import Vectors

ALLOWED = 1.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gallery", type=int, default=6000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    encoder, rng = load("catalogue"), np.random.default_rng(0)
    dim = encoder.spec.dim
    vectors = rng.standard_normal((asked.gallery, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tower = tower_of(encoder)
    phi = Phi(dim, 4 * dim, tower.word_dim).eval()
    drawn = make(asked.queries // 3 + 1, 6 * asked.queries + 18).queries[: asked.queries]
    texts = [query.modifications[KNOWN][0] for query in drawn]

    def query(text: str, reference: Vectors) -> Queries:
        return Queries(["reference"], reference, [(text,)], lambda: encoder.embed_texts([text]))

    def by_text(queries: Queries) -> Vectors:
        return BASELINES["text-only"](queries.images, queries.texts)

    ways: dict[str, Compose] = {
        "text-only": by_text,
        "φ": phi_composer(phi, tower),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for place, text in enumerate(texts):
        for name in sorted(ways, reverse=bool(place % 2)):
            started = time.process_time()
            top_k(ways[name](query(text, vectors[place : place + 1])), vectors, 10)
            taken[name].append(1000 * (time.process_time() - started))
    medians = {name: float(np.median(times[10:])) for name, times in taken.items()}
    ratio = medians["φ"] / medians["text-only"]
    row("query by φ", "text-only", 1 / ratio, 1 / ALLOWED)
    if asked.json:
        print(json.dumps({"ms": medians, "ratio": ratio, "allowed": ALLOWED}))
    else:
        shown = ", ".join(f"{name} {ms:.2f} ms" for name, ms in medians.items())
        print(f"{shown}: {ratio:.2f} times ({ALLOWED} allowed), {asked.gallery:,} images, {len(texts)} queries")
    raise SystemExit(ratio > ALLOWED)


if __name__ == "__main__":
    main()
