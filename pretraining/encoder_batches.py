"""Drawings and batches for pretraining the catalogue encoder.

Drawings come in families, a product and three edits of it, and a batch is made of whole families: it holds
many products that differ in one or two attributes. Texts are written anew for every batch.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretraining import encoder_texts
from scot_core.catalogue.drawing import render
from scot_core.catalogue.grammar import edit
from scot_core.catalogue.world import Product, sample
from scot_core.encoders.catalogue_text import Tokeniser, Tokens
from scot_core.lake.fingerprint import digest

FAMILY = 4  # a product and three edits of it
SHARD = 2000  # images rendered between two files

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """`pixels` (B, 64, 64, 3) uint8; `shown` (B, 7) int64 value codes; texts: B captions, in the order of the
    images, then modification texts; `said` (B + M, 7) int64, -1 where a text is silent."""

    pixels: Tensor
    shown: Tensor
    tokens: Tokens
    said: Tensor


def draw_families(count: int, rng: random.Random, split: str | None) -> list[Product]:
    """`count` products of a split, in runs of `FAMILY`: one drawn freely, then edits of it."""
    products: list[Product] = []
    while len(products) < count:
        first = sample(rng, split)
        edits = (edit(first, rng, allowed=encoder_texts.within(split)).product for _ in range(FAMILY - 1))
        products += [first, *edits]
    return products[:count]


def draw_distinct(count: int, split: str, rng: random.Random) -> list[Product]:
    """`count` different products of a split."""
    products: dict[Product, None] = {}
    while len(products) < count:
        products.setdefault(sample(rng, split))
    return list(products)


def drawings(products: Sequence[Product], seed: int, folder: Path) -> Pixels:
    """(n, 64, 64, 3) uint8; rendered once into `folder` and read from there afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    out = np.empty((len(products), 64, 64, 3), dtype=np.uint8)
    began, rendered = time.monotonic(), 0
    for start in range(0, len(products), SHARD):
        part = products[start : start + SHARD]
        # the first drawings stand for the drawing code, so that a change of it is noticed
        sketch = b"".join(render(p, 64, seed + start + i).tobytes() for i, p in enumerate(part[:10]))
        path = folder / f"{digest(repr(part).encode() + sketch)}.npy"
        if not path.exists():
            images = [np.asarray(render(p, 64, seed + start + i)) for i, p in enumerate(part)]
            unfinished = path.with_suffix(".tmp.npy")
            np.save(unfinished, np.stack(images), allow_pickle=False)
            unfinished.rename(path)
            rendered += len(part)
            rate = rendered / (time.monotonic() - began)
            left = (len(products) - start - len(part)) / rate
            print(f"drawn {start + len(part)}/{len(products)}  {rate:.0f} images/s  left {left:.0f} s", flush=True)
        out[start : start + len(part)] = np.load(path, allow_pickle=False)
    return out


def augment(pixels: Tensor, rng: random.Random) -> Tensor:
    """Shifts by up to three pixels, mirrors half of the batches, changes the light of each image by 6%."""
    shifted = torch.roll(pixels, (rng.randint(-3, 3), rng.randint(-3, 3)), (1, 2))
    if rng.random() < 0.5:
        shifted = shifted.flip(2)
    light = torch.tensor([rng.uniform(0.94, 1.06) for _ in range(len(shifted))])
    return (shifted * light[:, None, None, None]).clamp_(0, 255).to(torch.uint8)


def batches(
    products: Sequence[Product],
    pixels: Pixels,
    tokenise: Tokeniser,
    *,
    seed: int,
    steps: range,
    families: int,
    modifications: int,
    split: str | None,
) -> Iterator[Batch]:
    """One batch for each of `steps`, of `families` and `modifications`; each depends on seed and step alone."""
    shown = torch.tensor([encoder_texts.codes(product.attributes()) for product in products])
    groups = len(products) // FAMILY
    for step in steps:
        epoch, place = divmod(step, groups // families)
        order = np.random.default_rng((seed, epoch)).permutation(groups)
        chosen = order[place * families : (place + 1) * families]
        rows: list[int] = (chosen[:, None] * FAMILY + np.arange(FAMILY)).ravel().tolist()
        rng = random.Random(f"{seed}/{step}")
        texts = [encoder_texts.caption_of(products[row], rng) for row in rows]
        asked = rng.choices(rows, k=modifications)
        texts += [encoder_texts.modification_of(products[row], rng, split) for row in asked]
        yield Batch(
            pixels=augment(torch.from_numpy(pixels[rows]), rng),
            shown=shown[rows],
            tokens=encoder_texts.forget_words(tokenise([text.text for text in texts]), rng),
            said=torch.tensor([encoder_texts.codes(text.says) for text in texts]),
        )
