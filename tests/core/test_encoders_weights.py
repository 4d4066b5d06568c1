"""Where weights come from, and what is said when they do not: folders, the hub's cache, offline, damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from scot_core import encoders
from scot_core.config.settings import settings
from scot_core.encoders.convert import convert
from scot_core.encoders.rows import ROWS
from scot_core.errors import ModelError
from tests.tiny_encoders import NAMES, save

COMMIT = "0123456789" * 4
ROUNDING = 1e-6  # where a weight lies in memory may move the last bit of a product


@pytest.fixture(scope="session")
def blip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("blip2", tmp_path_factory.mktemp("published") / "blip2")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blip2: Path) -> Path:
    """`SCOT_WEIGHTS/blip2`, a copy that a test may damage; the hub's cache is empty and offline."""
    monkeypatch.setenv("SCOT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    settings.cache_clear()
    shutil.copytree(blip2, tmp_path / "weights" / "blip2")
    return tmp_path / "weights" / "blip2"


@pytest.fixture(autouse=True)
def _fresh_settings() -> object:
    yield
    settings.cache_clear()


def in_the_cache(place: Path, tmp_path: Path, commit: str, *leave_out: str) -> Path:
    """Move the folder to where the hub's client keeps a download."""
    target = tmp_path / "hub" / "models--Salesforce--blip2-itm-vit-g" / "snapshots" / commit
    target.parent.mkdir(parents=True)
    shutil.move(place, target)
    for name in leave_out:
        (target / name).unlink()
    return target


# ----------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_missing_files_are_named_with_how_to_get_them(place: Path, name: str) -> None:
    (place / name).unlink()
    commit = ROWS["blip2"].commit
    for call in (encoders.load, encoders.spec_of):
        with pytest.raises(ModelError, match=name) as failure:
            call("blip2")
        said = f"hf download Salesforce/blip2-itm-vit-g --revision {commit} --local-dir {place}"
        assert said in str(failure.value) and "\n" not in str(failure.value)


def test_every_shard_of_the_weights_must_be_there(place: Path) -> None:
    tensors = load_file(place / "model.safetensors")
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    whole = encoders.load("blip2").embed_texts(["a red mug"])
    (place / "model.safetensors").unlink()
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, place / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_allclose(encoders.load("blip2").embed_texts(["a red mug"]), whole, atol=ROUNDING)
    (place / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r": b\.safetensors missing"):
        encoders.load("blip2")
    (place / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ModelError, match=r"index\.json is damaged"):
        encoders.load("blip2")


def test_what_decides_a_vector_is_the_revision_and_nothing_else(place: Path) -> None:
    spec = encoders.spec_of("blip2")
    assert len(spec.revision) == 32
    (place / "README.md").write_text("about")
    torch.save({}, place / "pytorch_model.bin")
    assert encoders.spec_of("blip2") == spec
    (place / "tokenizer_config.json").write_text("{}")
    retokenised = encoders.spec_of("blip2")
    save("blip2", place, seed=1)
    assert len({spec.revision, retokenised.revision, encoders.spec_of("blip2").revision}) == 3


def test_a_download_of_another_commit_is_refused(place: Path) -> None:
    notes = place / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text(f"{COMMIT}\n0123abcd\n1700000000.0\n")
    assert encoders.spec_of("blip2", revision=COMMIT).revision == encoders.spec_of("blip2").revision
    with pytest.raises(ModelError, match=f"downloaded as {COMMIT}"):
        encoders.spec_of("blip2", revision="f" * 40)


def test_damage_and_the_wrong_model_are_told_apart(place: Path, tmp_path: Path) -> None:
    whole = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(whole[:5000])
    with pytest.raises(ModelError, match="do not load"):
        encoders.load("blip2")
    tensors = load_file_from(whole, tmp_path)
    del tensors["text_projection.weight"]
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors, text_projection\.weight first"):
        encoders.load("blip2")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ModelError, match=r"of type clip, where .* of type blip-2, must be"):
        encoders.load("blip2")
    (place / "config.json").write_text("no json")
    with pytest.raises(ModelError, match="cannot be read"):
        encoders.load("blip2")
    assert config["model_type"] == "blip-2"


def load_file_from(data: bytes, folder: Path) -> dict[str, torch.Tensor]:
    (folder / "whole.safetensors").write_bytes(data)
    return dict(load_file(folder / "whole.safetensors"))


def test_a_published_pickle_is_converted_once(place: Path) -> None:
    whole = encoders.load("blip2").embed_texts(["a red mug"])
    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    (place / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"scot_core\.encoders\.convert"):
        encoders.load("blip2")
    assert convert(place) == place / "model.safetensors"
    np.testing.assert_allclose(encoders.load("blip2").embed_texts(["a red mug"]), whole, atol=ROUNDING)


def test_a_pickle_that_holds_more_than_tensors_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="to convert"):
        convert(tmp_path)
    torch.save({"weight": Path("x")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="more than tensors"):
        convert(tmp_path)


# --------------------------------------------------------------------------------------------------- hub


def test_the_hub_cache_is_used_offline(place: Path, tmp_path: Path) -> None:
    expected = encoders.load("blip2").embed_texts(["a red mug"])
    in_the_cache(place, tmp_path, COMMIT)
    with pytest.raises(ModelError, match="gives 16 numbers from 32 px, where 256 from 224 px are expected"):
        encoders.load("blip2", revision=COMMIT)  # a tiny model is not what the table says is published there
    assert expected.shape == (1, 16)


def test_offline_without_weights_says_what_to_fetch(place: Path, tmp_path: Path) -> None:
    in_the_cache(place, tmp_path, COMMIT, "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors of Salesforce/blip2-itm-vit-g missing") as failure:
        encoders.load("blip2", revision=COMMIT)
    assert f"hf download Salesforce/blip2-itm-vit-g --revision {COMMIT}" in str(failure.value)
    with pytest.raises(ModelError, match=r"config\.json, model\.safetensors, tokenizer\.json"):
        encoders.load("siglip2")


def test_a_branch_is_no_revision(place: Path) -> None:
    shutil.rmtree(place)
    with pytest.raises(ModelError, match=r"'main', which is no commit .*git ls-remote https://huggingface\.co/Sales"):
        encoders.load("blip2", revision="main")


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_pinned_and_known_without_weights(place: Path, name: str) -> None:
    shutil.rmtree(place)
    spec = encoders.spec_of(name)
    row = ROWS[name]
    assert (spec.revision, spec.dim, spec.image_size) == (row.commit, row.dim, row.image.size)
    assert len(row.commit) == 40 and int(row.commit, 16)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_published_weights_find_the_caption_of_an_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs the weights in SCOT_WEIGHTS or in the hub's cache; a test downloads no gigabytes by itself."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    try:
        encoder = encoders.load(name)
    except ModelError as error:
        pytest.skip(str(error))
    images = encoder.embed_images([Image.new("RGB", (224, 224), colour) for colour in ("red", "blue", "green")])
    texts = encoder.embed_texts([f"a plain {colour} background" for colour in ("red", "blue", "green")])
    assert (images @ texts.T).argmax(1).tolist() == [0, 1, 2]
