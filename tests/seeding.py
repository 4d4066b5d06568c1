"""A small lake of captions and the seed stage over it, for the tests of everything that asks an endpoint."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any
from urllib.request import ProxyHandler, build_opener

from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.teacher import MODEL
from scot_core.catalogue.world import sample
from scot_core.config import EndpointConfig, SeedConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.schema import pair_id
from tests.running import run_here

CAPTIONS, SEEDS = 60, 40


def commit_captions(lake: Lake) -> Dataset:
    """Sixty captions of the catalogue's language."""
    rng = random.Random(0)
    texts: dict[str, None] = {}
    while len(texts) < CAPTIONS:
        product = sample(rng, "seen")
        texts[caption(product, mentioned(rng), rng.getrandbits(30))] = None
    ids = [f"image-{number}" for number in range(CAPTIONS)]
    draft = lake.draft(Identity("captions", "shop", "captions", fingerprint("captions", 1, {}, []), {}))
    draft.write_part(
        0,
        {
            "pair_id": [pair_id("shop", image_id, text) for image_id, text in zip(ids, texts, strict=True)],
            "source": ["shop"] * CAPTIONS,
            "image_id": ids,
            "caption": list(texts),
            "image": [{"bytes": b"png", "path": "a.png"}] * CAPTIONS,
        },
    )
    return draft.commit(1, rows_in=CAPTIONS)


def captions_of(lake: Lake) -> Dataset:
    found = lake.table("captions").datasets()
    return found[0] if found else commit_captions(lake)


def seed_config(url: str, *, max_usd: float | None = None, **config: Any) -> SeedConfig:
    """Forty seeds in three shards; a dollar a thousand tokens. The name stands in the identity, so that a teacher
    on another port is the same.
    """
    server = {
        name: config.pop(name)
        for name in ("concurrency", "attempts", "timeout_s", "tokens_per_minute")
        if name in config
    }
    endpoint = EndpointConfig(
        name="a-teacher", base_url=url, model=MODEL, max_tokens=100,
        usd_per_million_prompt=1000, usd_per_million_completion=1000, **{"concurrency": 4, "attempts": 1, **server},
    )  # fmt: skip
    settings: dict[str, Any] = {"count": SEEDS, "shard_rows": 15, "endpoint": endpoint, "max_usd": max_usd, **config}
    return SeedConfig(**settings)


def seed(lake: Lake, config: SeedConfig) -> Dataset:
    """The whole stage, step by step; returns the triplets."""
    from scot_core.stages import recipes  # loads every other stage, which takes its time

    return recipes.seed(run_here, lake, config, captions_of(lake))


def answered(url: str) -> Counter[str]:
    """How often each caption was answered, and so paid for."""
    with build_opener(ProxyHandler({})).open(url.removesuffix("/v1") + "/_calls") as response:
        return Counter(json.load(response)["answered"])


def texts(dataset: Dataset) -> list[tuple[str, str]]:
    table = dataset.read(["pair_id", "text"])
    return list(zip(table["pair_id"].to_pylist(), table["text"].to_pylist(), strict=True))
