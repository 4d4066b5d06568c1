"""`scot doctor --calibrate`: the paper's untrained rows with each pooling, on tiny encoders and drawn pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scot.calibrate import METRICS, Row, calibrate, lines, names, verdict
from scot_core import benchmarks, encoders
from scot_core.benchmarks.baselines import BASELINES
from scot_core.config.settings import settings
from scot_core.encoders.pretrained import PretrainedEncoder
from scot_core.errors import ConfigError
from tests.published import write_fashioniq
from tests.tiny_encoders import save


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("SCOT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SCOT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_what_is_missing_is_said(machine: Path) -> None:
    with pytest.raises(ConfigError, match=r"blip2 is not on this machine.*data: fashioniq: missing under .*captions"):
        calibrate("blip2")
    save("blip2", machine / "weights" / "blip2")
    write_fashioniq(machine / "data" / "fashioniq")
    (machine / "data" / "fashioniq" / "images" / "shirt-05.jpg").unlink()
    with pytest.raises(ConfigError, match=r"FashionIQ: data: fashioniq: .*1 of 36 images are missing"):
        calibrate("blip2")
    with pytest.raises(ConfigError, match="one of clip-b32, clip-l14, blip, blip2"):
        calibrate("siglip2")


def test_each_pooling_is_measured_beside_the_paper_s_rows(machine: Path) -> None:
    save("blip2", machine / "weights" / "blip2")
    root = write_fashioniq(machine / "data" / "fashioniq")
    rows = {(row.pooling, row.method): row for row in calibrate("blip2")}
    assert set(rows) == {(p, m) for p in ("mean", "first", "maxsim") for m in ("image-only", "text-only", "image+text")}
    assert dict(rows["mean", "image+text"].printed)["R@10"] == 29.21
    benchmark = benchmarks.load("fashioniq", root, category="dress")
    for pooling in ("mean", "first"):
        encoder = encoders.load("blip2", pooling=pooling)
        scores = []
        for category in ("dress", "shirt", "toptee"):
            benchmark = benchmarks.load("fashioniq", root, category=category)
            vector = {i: encoder.embed_images([Image.open(root / "images" / f"{i}.jpg")])[0] for i in benchmark.gallery}
            images = np.stack([vector[query.reference] for query in benchmark.queries])
            texts = encoder.embed_texts([query.modification for query in benchmark.queries])
            queries = BASELINES["image+text"](images, texts)
            scores.append(benchmark.score(queries, np.stack([vector[i] for i in benchmark.gallery])))
        for metric in METRICS:
            mean = np.mean([score[metric] for score in scores])
            assert rows[pooling, "image+text"].measured[metric] == pytest.approx(mean)


def test_maxsim_takes_the_nearest_vector_of_an_image(machine: Path) -> None:
    save("blip2", machine / "weights" / "blip2")
    root = write_fashioniq(machine / "data" / "fashioniq")
    found = {row.method: row for row in calibrate("blip2") if row.pooling == "maxsim"}
    encoder = encoders.load("blip2")
    assert isinstance(encoder, PretrainedEncoder)
    hits = []
    for category in ("dress", "shirt", "toptee"):
        benchmark = benchmarks.load("fashioniq", root, category=category)
        pictures = [encoder.pixels(Image.open(root / "images" / f"{i}.jpg")) for i in benchmark.gallery]
        tokens = encoder.image_tokens(np.stack(pictures)).numpy()
        for query in benchmark.queries:
            text = encoder.embed_texts([query.modification])[0]
            order = np.argsort(-(tokens @ text).max(1), kind="stable")
            hits.append(benchmark.gallery.index(query.targets[0]) in order[:10])
    assert found["text-only"].measured["R@10"] == pytest.approx(100 * np.mean(hits))


def test_an_encoder_of_one_vector_has_one_pooling(machine: Path) -> None:
    save("clip-b32", machine / "weights" / "clip-b32")
    write_fashioniq(machine / "data" / "fashioniq")
    rows = calibrate("clip-b32")
    assert [row.pooling for row in rows] == ["cls-eos"] * 3 and len(list(lines(rows))) == 4
    assert "nothing is settled" in verdict(rows) and names()[0] == "clip-b32"


def test_the_verdict_goes_by_what_the_paper_prints() -> None:
    printed = {"R@10": 20.0, "R@50": 40.0}

    def row(pooling: str, off: float) -> Row:
        return Row(pooling, "text-only", {metric: value + off for metric, value in printed.items()}, printed)

    assert verdict([row("mean", 3.0), row("first", 0.2)]).startswith("pooling first agrees")
    assert verdict([row("mean", 3.0), row("first", -4.0)]).startswith("pooling mean comes nearest, 3.00 points")
