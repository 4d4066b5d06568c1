"""Captions of the catalogue and seed triplets of its grammar, committed without drawing or asking anything."""

from __future__ import annotations

import random

from scot_core.catalogue.grammar import teach
from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.world import sample
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.schema import pair_id

SOURCE = "catalogue"


def commit_captions(lake: Lake, count: int, seed: int = 0) -> Dataset:
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[caption(sample(rng, "seen"), mentioned(rng), rng.getrandbits(30))] = None
    images = [f"image-{seed}-{number}" for number in range(count)]
    identity = fingerprint("captions", 1, {"count": count, "seed": seed}, [])
    draft = lake.draft(Identity("captions", SOURCE, "captions", identity, {}))
    columns = {
        "pair_id": [pair_id(SOURCE, image, text) for image, text in zip(images, texts, strict=True)],
        "source": [SOURCE] * count,
        "image_id": images,
        "caption": list(texts),
        "image": [{"bytes": b"png", "path": "a.png"}] * count,
    }
    draft.write_part(0, columns)
    return draft.commit(1, rows_in=count)


def commit_seeds(lake: Lake, captions: Dataset, count: int) -> Dataset:
    """Right edits for the first captions."""
    rows = captions.read(["pair_id", "source", "image_id", "caption"]).to_pylist()[:count]
    taught = [teach(row["caption"], random.Random(number)) for number, row in enumerate(rows)]
    identity = fingerprint("seed", 1, {"count": count}, [captions.fingerprint])
    draft = lake.draft(Identity("triplets", SOURCE, "seed", identity, {}, [captions.reference]))
    columns = {
        **{name: [row[name] for row in rows] for name in ("pair_id", "source", "image_id", "caption")},
        "kind": ["seed"] * count,
        "modification": [modification for modification, _ in taught],
        "modified_caption": [modified for _, modified in taught],
        "model": ["grammar"] * count,
    }
    draft.write_part(0, columns)
    return draft.commit(1, rows_in=count)
