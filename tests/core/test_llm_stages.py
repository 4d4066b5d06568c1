"""Stages finetune and generate on a tiny Falcon: by pinned hub commit, stopped and resumed, on one device and two."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from safetensors import safe_open

from scot_core.config import FinetuneConfig, GenerateConfig
from scot_core.errors import ConfigError, ModelError
from scot_core.lake import Dataset, Lake
from scot_core.llm.local.weights import weights_revision
from scot_core.stages.finetune import Finetune
from scot_core.stages.generate.local import Write
from tests.catalogue_rows import commit_captions, commit_seeds
from tests.running import run_here
from tests.tiny_llm import build_falcon

HUB_ID, COMMIT = "someone/tiny-falcon", "0123456789abcdef" * 2 + "01234567"
CAPTIONS, SEEDS = 30, 20


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A hub cache without a network that holds one commit of one model, and no branch."""
    cache = tmp_path_factory.mktemp("hub")
    build_falcon(cache / f"models--{HUB_ID.replace('/', '--')}" / "snapshots" / COMMIT)
    with pytest.MonkeyPatch.context() as patch:
        # in this process, and in those it starts
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setenv("HF_HUB_CACHE", str(cache))
        yield cache


def config(**given: Any) -> FinetuneConfig:
    settings: dict[str, Any] = {
        "base": HUB_ID, "revision": COMMIT, "rank": 4, "steps": 9, "batch_size": 4, "gradient_accumulation": 2,
        "learning_rate": 1e-2, "held_out": 8, "max_new_tokens": 8, "checkpoint_every": 2,
    }  # fmt: skip
    return FinetuneConfig(**{**settings, **given})


def inputs(lake: Lake) -> tuple[Dataset, Dataset]:
    captions = commit_captions(lake, CAPTIONS)
    return captions, commit_seeds(lake, captions, SEEDS)


@pytest.fixture(scope="module")
def tuned(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    run_here(Finetune(lake, config(), *inputs(lake)))
    return lake


def copy_of(lake: Lake, folder: Path) -> Lake:
    shutil.copytree(lake.url, folder / "copy")
    return Lake(folder / "copy")


# --------------------------------------------------------------------------------------------- finetune


def test_the_pinned_commit_is_what_is_tuned_and_measured(tuned: Lake) -> None:
    # The cache knows no branch: whatever did not ask for the commit would have found nothing.
    adapters = tuned.table("adapters").latest()
    assert adapters.config["weights"] == adapters.config["revision"] == COMMIT
    rows = adapters.read().to_pylist()
    assert [row["step"] for row in rows if row["metric"] == "loss"] == list(range(1, 10))
    measured = {(row["phase"], row["metric"]): row["value"] for row in rows if row["phase"] != "train"}
    shares = ("share_parsed", "share_kept", "share_right", "share_right_of_kept")
    assert set(measured) == {(phase, share) for phase in ("before", "after") for share in shares}
    assert all(0 <= value <= 100 for value in measured.values())
    names = [file.name for file in adapters.files]
    assert names == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"]


def test_a_finetune_that_was_stopped_goes_on_from_its_checkpoint(tuned: Lake, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    step = Finetune(lake, config(evaluation_batch_size=3), *inputs(lake))

    class StoppedError(Exception):
        pass

    def stop(_: int, left: Iterator[int] = iter(range(5))) -> None:
        if next(left, None) is None:
            raise StoppedError

    with pytest.raises(StoppedError):
        run_here(step, stop)
    (checkpoint,) = (step.drafts["adapters"].work_folder() / "_checkpoint").iterdir()
    with safe_open(checkpoint, framework="pt") as file:
        assert file.metadata()["step"] == "4"
    adapters = run_here(step)["adapters"]
    expected = tuned.table("adapters").latest()
    assert adapters.key == expected.key  # how many held-out captions are answered together is no part of it
    assert adapters.files == expected.files
    losses = [[r["value"] for r in d.read().to_pylist() if r["metric"] == "loss"] for d in (adapters, expected)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:12]])
def test_a_hub_id_without_a_commit_says_how_to_pin(revision: str | None, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    step = Finetune(lake, config(revision=revision), *inputs(lake))
    with pytest.raises(
        ConfigError, match=r"someone/tiny-falcon .*set finetune\.revision .*to the 40 hex digits"
    ) as failed:
        _ = step.outputs
    assert "hf models info someone/tiny-falcon" in str(failed.value) and (revision or "no revision") in str(
        failed.value
    )
    assert weights_revision("catalogue-falcon") == weights_revision("catalogue-falcon", "anything")


def test_a_commit_that_is_not_here_says_how_to_fetch_it(hub: Path, tmp_path: Path) -> None:
    other = "f" * 40
    lake = Lake(tmp_path / "lake")
    with pytest.raises(ModelError, match=f"hf download {HUB_ID} --revision {other}"):
        run_here(Finetune(lake, config(revision=other), *inputs(lake)))


# --------------------------------------------------------------------------------------------- generate


def write(lake: Lake, **more: Any) -> Write:
    settings = GenerateConfig(max_new_tokens=8, batch_size=4, shard_rows=8)
    return Write(lake, settings, lake.table("captions").latest(), lake.table("adapters").latest(), **more)


def test_two_devices_write_the_bytes_of_one(tuned: Lake, tmp_path: Path) -> None:
    expected = run_here(write(tuned))["replies"]
    assert [part.rows for part in expected.parts] == [8, 8, 8, 6]
    lake = copy_of(tuned, tmp_path)
    shutil.rmtree(Path(lake.url) / expected.name)
    ticks: list[int] = []
    with write(lake, devices=["cpu", "cpu"]) as step:
        assert step.parallel == 2
        with ThreadPoolExecutor(4) as pool:  # more threads than devices: the others wait for one
            assert all(pool.map(lambda shard: step.run(shard, ticks.append), range(4)))
        found = step.commit()["replies"]
    assert found.parts == expected.parts
    assert sum(ticks) == CAPTIONS


def test_generation_that_was_stopped_ends_with_the_same_bytes(tuned: Lake, tmp_path: Path) -> None:
    expected = run_here(write(tuned))["replies"]
    lake = copy_of(tuned, tmp_path)
    shutil.rmtree(Path(lake.url) / expected.name)

    def stop(_: int, left: Iterator[int] = iter(range(4))) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_here(write(lake), stop)
    assert len(list((Path(lake.url) / expected.name).glob("part-*"))) == 2
    found = run_here(write(lake))["replies"]
    assert found.parts == expected.parts
