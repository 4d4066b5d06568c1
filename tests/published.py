"""Published benchmarks in miniature: annotation files of the published form, and drawn pictures for their images."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from scot_core.benchmarks.fashioniq import CATEGORIES
from scot_core.catalogue.drawing import render
from scot_core.catalogue.world import sample

GALLERY = 12
SIZE = 48


def write_fashioniq(root: Path, split: str = "val") -> Path:
    """Two queries and twelve images a category; image ids are like `dress-03`, files lie under `images/`."""
    for number, category in enumerate(CATEGORIES):
        ids = [f"{category}-{i:02d}" for i in range(GALLERY)]
        queries = [
            {"candidate": ids[0], "target": ids[3], "captions": ["is red", "has a star."]},
            {"candidate": ids[1], "target": ids[7], "captions": ["is larger", "and blue"]},
        ]
        _write(root / "captions" / f"cap.{category}.{split}.json", queries)
        _write(root / "image_splits" / f"split.{category}.{split}.json", ids)
        draw({image: root / "images" / f"{image}.jpg" for image in ids}, number)
    return root


def write_cirr(root: Path) -> Path:
    """Split test1: three queries over twelve images under `test1/`, targets hidden."""
    ids = [f"test1-{i}" for i in range(GALLERY)]
    queries = [
        {"pairid": i, "reference": ids[i], "caption": f"make it {colour}", "img_set": {"id": 1, "members": ids[:6]}}
        for i, colour in enumerate(("red", "green", "blue"))
    ]
    _write(root / "captions" / "cap.rc2.test1.json", queries)
    _write(root / "image_splits" / "split.rc2.test1.json", {image: f"./test1/{image}.png" for image in ids})
    draw({image: root / "test1" / f"{image}.png" for image in ids}, 3)
    return root


def draw(files: dict[str, Path], seed: int) -> None:
    rng = random.Random(seed)
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        render(sample(rng, "seen"), SIZE, rng.getrandbits(30)).convert("RGB").save(path)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
