"""`lavis-blip2` where LAVIS or its files are not: one clear error. Runs anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from scot_core import encoders
from scot_core.config.settings import settings
from scot_core.errors import ConfigError, ModelError
from tests.lavis import weights

FILES = ("eva_vit_g.pth", "blip2_pretrained.pth", "bert-base-uncased/config.json", "bert-base-uncased/vocab.txt")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`<SCOT_WEIGHTS>/lavis-blip2`, not there yet."""
    monkeypatch.setenv("SCOT_WEIGHTS", str(tmp_path))
    settings.cache_clear()
    yield tmp_path / "lavis-blip2"
    settings.cache_clear()


@pytest.fixture
def filled(folder: Path) -> Path:
    weights.write(weights.SMALL, folder.parent / "blip2", folder)
    return folder


@pytest.mark.skipif(find_spec("lavis") is not None, reason="LAVIS is installed here")
def test_without_lavis_the_error_says_how_to_get_it(filled: Path) -> None:
    with pytest.raises(ModelError, match="make lavis"):
        encoders.load("lavis-blip2")


def test_the_spec_is_known_without_lavis(filled: Path) -> None:
    spec = encoders.spec_of("lavis-blip2", pooling="first", precision="float16")
    assert (spec.dim, spec.image_size, spec.pooling, spec.precision) == (weights.SMALL.dim, 224, "first", "float16")
    assert encoders.spec_of("lavis-blip2", revision=spec.revision).revision == spec.revision
    with pytest.raises(ModelError, match="not 0000"):
        encoders.spec_of("lavis-blip2", revision="0000")
    with pytest.raises(ConfigError, match="mean, first"):
        encoders.spec_of("lavis-blip2", pooling="maxsim")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(filled: Path, name: str) -> None:
    (filled / name).unlink()
    with pytest.raises(ModelError, match=name):
        encoders.spec_of("lavis-blip2")


def test_a_changed_file_is_another_revision(filled: Path) -> None:
    before = encoders.spec_of("lavis-blip2").revision
    checkpoint = torch.load(filled / FILES[1], weights_only=True)
    checkpoint["model"]["vision_proj.bias"] += 1
    torch.save(checkpoint, filled / FILES[1])
    assert encoders.spec_of("lavis-blip2").revision != before


def test_a_checkpoint_that_would_run_code_is_refused(filled: Path) -> None:
    torch.save({"model": {"query_tokens": Path("x").exists}}, filled / FILES[1])
    with pytest.raises(ModelError, match="more than tensors"):
        encoders.spec_of("lavis-blip2")


def test_a_truncated_checkpoint_is_named(filled: Path) -> None:
    whole = (filled / FILES[0]).read_bytes()
    (filled / FILES[0]).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"eva_vit_g\.pth is damaged"):
        encoders.spec_of("lavis-blip2")


def test_weights_of_another_model_are_refused(filled: Path) -> None:
    torch.save({"model": {"text_proj.weight": torch.zeros(2, 2)}}, filled / FILES[1])
    with pytest.raises(ModelError, match="query_tokens"):
        encoders.spec_of("lavis-blip2")
