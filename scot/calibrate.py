"""Which pooling the paper's untrained rows were measured with: `scot doctor --calibrate`.

The paper does not say how BLIP-2's 32 vectors of an image become one. Its rows without a trained Combiner (Table 1)
need nothing but the encoder, so that measuring them with each pooling settles it; where an encoder has one vector an
image, they say whether its weights and its preprocessing are the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Final

import numpy as np
import torch

from scot.doctor import benchmark_data
from scot_core import benchmarks, encoders, paper
from scot_core.benchmarks.baselines import BASELINES
from scot_core.benchmarks.fashioniq import CATEGORIES
from scot_core.benchmarks.images import find_images
from scot_core.benchmarks.reported import BACKBONES
from scot_core.config import EmbedConfig
from scot_core.config.settings import settings
from scot_core.encoders.decoding import open_file
from scot_core.encoders.presence import encoder_missing
from scot_core.encoders.pretrained import PretrainedEncoder
from scot_core.encoders.rows import ROWS
from scot_core.errors import ConfigError
from scot_core.vectors import Vectors, unit

BENCHMARK: Final = "fashioniq"  # the paper's rows on CIRR are of test1, whose targets are hidden
METRICS: Final = ("R@10", "R@50")
MAXSIM: Final = "maxsim"  # a query is compared with each vector of an image, and the nearest counts
AGREES: Final = 0.5  # points by which rows may differ that were measured alike
_AT_ONCE: Final = 32  # pictures


@dataclass(frozen=True, slots=True)
class Row:
    """One untrained method with one pooling: metric -> percent, measured here and printed in Table 1."""

    pooling: str
    method: str
    measured: Mapping[str, float]
    printed: Mapping[str, float]

    @property
    def off(self) -> float:
        """Points between the two, the mean over the metrics."""
        return float(np.mean([abs(self.measured[metric] - self.printed[metric]) for metric in METRICS]))


def names() -> list[str]:
    """The encoders that the paper has rows of, and whose vectors before pooling are to be had here."""
    return [name for name in BACKBONES if name in ROWS]


def calibrate(name: str) -> list[Row]:
    """Untrained rows of FashionIQ with every pooling of an encoder beside the paper's.

    Raises ConfigError naming all that is missing: weights, annotations or images.
    """
    if name not in names():
        raise ConfigError(f"the paper has no untrained rows of {name!r}: calibrate one of {', '.join(names())}")
    weights, data = encoder_missing(EmbedConfig(encoder=name)), benchmark_data(BENCHMARK)
    lacking = [*([weights] if weights else []), *([] if data.ok else [f"{data.what}: {data.found}"])]
    if lacking:
        raise ConfigError(f"calibrating {name} needs its weights and FashionIQ: {'; '.join(lacking)}")
    encoder = encoders.load(name)
    assert isinstance(encoder, PretrainedEncoder), "a row of ROWS"
    root = Path(settings().data) / BENCHMARK
    found: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for category in CATEGORIES:
        benchmark = benchmarks.load(BENCHMARK, root, category=category)
        files = find_images(benchmark, root).paths
        tokens = _tokens(encoder, [files[image] for image in benchmark.image_ids])
        row = {image: place for place, image in enumerate(benchmark.image_ids)}
        references = [row[query.reference] for query in benchmark.queries]
        gallery = tokens[[row[image] for image in benchmark.gallery]]
        texts = encoder.embed_texts([query.modification for query in benchmark.queries])
        for pooling, pool in _poolings(name).items():
            images = tokens[references].mean(1) if pool is None else pool(tokens[references])
            for method, compose in BASELINES.items():
                queries = compose(images, texts)
                near = _nearest(queries, gallery) if pool is None else (queries, pool(gallery))
                found.setdefault((pooling, method), []).append(benchmark.score(*near))
    printed = {
        r.method: r.values for r in paper.TABLE_1 if (r.setting, r.backbone) == (paper.ZERO_SHOT, BACKBONES[name])
    }
    return [
        Row(pooling, method, _means(scores), printed[_spelled(method)]) for (pooling, method), scores in found.items()
    ]


def _tokens(encoder: PretrainedEncoder, files: list[Path]) -> Vectors:
    """(n, tokens, dim) float32: all vectors of each picture."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(files), _AT_ONCE):
            pixels = np.stack([encoder.pixels(open_file(file)) for file in files[start : start + _AT_ONCE]])
            parts.append(encoder.image_tokens(pixels).float().cpu().numpy())
    tokens: Vectors = np.concatenate(parts)
    return tokens


def _poolings(name: str) -> dict[str, Callable[[Vectors], Vectors] | None]:
    """How (n, tokens, dim) become (n, dim); None where they do not."""
    ways = ROWS[name].poolings
    if len(ways) == 1:
        return {ways[0]: lambda tokens: tokens[:, 0]}
    return {
        "mean": lambda tokens: unit("images", tokens.mean(1)), "first": lambda tokens: tokens[:, 0], MAXSIM: None,
    }  # fmt: skip


def _nearest(queries: Vectors, gallery: Vectors) -> tuple[Vectors, Vectors]:
    """Queries (Q, D) and galleries of tokens (G, T, D) as vectors whose products are the nearest token's, (Q, G)."""
    each = (queries @ gallery[:, token].T for token in range(gallery.shape[1]))
    return reduce(np.maximum, each), np.eye(len(gallery), dtype=np.float32)


def _means(scores: list[Mapping[str, float]]) -> dict[str, float]:
    return {metric: float(np.mean([score[metric] for score in scores])) for metric in METRICS}


def _spelled(method: str) -> str:
    return {"image-only": "Image-Only", "text-only": paper.TEXT_ONLY, "image+text": "Image+Text"}[method]


def verdict(rows: list[Row]) -> str:
    """What the rows settle, in a sentence."""
    off: dict[str, list[float]] = {}
    for row in rows:
        off.setdefault(row.pooling, []).append(row.off)
    best = min(off, key=lambda pooling: np.mean(off[pooling]))
    worst = max(off[best])
    if worst <= AGREES:
        return f"pooling {best} agrees with the paper: no row is further than {worst:.2f} points away"
    return (
        f"pooling {best} comes nearest, {np.mean(off[best]):.2f} points away on average and {worst:.2f} at worst: that "
        f"is more than {AGREES}, so nothing is settled. Weights, preprocessing or the joining of captions differ, too"
    )


def lines(rows: list[Row]) -> Iterator[str]:
    """The table, a line a row."""
    yield f"{'pooling':<10}{'method':<12}" + "".join(f"{metric:>8}{'paper':>8}" for metric in METRICS)
    for row in rows:
        pairs = "".join(f"{row.measured[metric]:8.2f}{row.printed[metric]:8.2f}" for metric in METRICS)
        yield f"{row.pooling:<10}{row.method:<12}{pairs}"
