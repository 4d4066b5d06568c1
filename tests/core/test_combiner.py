"""The Combiner against its definition in numpy, CLIP4Cir's checkpoints, files and bad input."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from scot_core import paper
from scot_core.combiner import Combiner
from scot_core.errors import ConfigError, ModelError, ScotError, ShapeError
from scot_core.lake.fingerprint import digest

D, PROJECTION, HIDDEN = 6, 10, 14


def pair(rows: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    image, text = torch.randn(2, rows, D, generator=generator)
    return image.to(dtype), text.to(dtype)


def clip4cir_state(seed: int = 0) -> dict[str, Tensor]:
    """A state dict with that project's names and shapes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "text_projection_layer": (PROJECTION, D),
        "image_projection_layer": (PROJECTION, D),
        "combiner_layer": (HIDDEN, 2 * PROJECTION),
        "output_layer": (D, HIDDEN),
        "dynamic_scalar.0": (HIDDEN, 2 * PROJECTION),
        "dynamic_scalar.3": (1, HIDDEN),
    }
    state = {}
    for name, (rows, columns) in shapes.items():
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=generator)
        state[f"{name}.bias"] = torch.randn(rows, generator=generator)
    return state


def small() -> Combiner:
    torch.manual_seed(0)
    return Combiner(D, PROJECTION, HIDDEN).eval()


def by_hand(
    state: dict[str, Tensor], image: Tensor, text: Tensor, chosen: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(composed, weight) in float64 numpy, from CLIP4Cir's names; the weight is the Combiner's or `chosen`."""

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ state[f"{name}.weight"].double().numpy().T + state[f"{name}.bias"].double().numpy())

    def relu(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(x, 0))

    v, t = image.double().numpy(), text.double().numpy()
    joined = np.concatenate([relu(layer("text_projection_layer", t)), relu(layer("image_projection_layer", v))], axis=1)
    s = 1 / (1 + np.exp(-layer("dynamic_scalar.3", relu(layer("dynamic_scalar.0", joined)))))
    s = s if chosen is None else np.full_like(s, chosen)
    out = layer("output_layer", relu(layer("combiner_layer", joined))) + s * t + (1 - s) * v
    return out / np.linalg.norm(out, axis=1, keepdims=True), s[:, 0]


def test_it_computes_clip4cirs_combination_from_its_checkpoints() -> None:
    state = clip4cir_state()
    combiner = small()
    combiner.load_clip4cir_state_dict(state)
    image, text = pair()
    composed, weight = by_hand(state, image, text)
    np.testing.assert_allclose(combiner(image, text).detach().numpy(), composed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(combiner.modality_weight(image, text).detach().numpy(), weight, rtol=1e-5, atol=1e-6)
    for chosen in (0.0, 0.3, 1.0):
        composed, _ = by_hand(state, image, text, chosen)
        np.testing.assert_allclose(combiner(image, text, chosen).detach().numpy(), composed, rtol=1e-5, atol=1e-6)


def test_text_comes_first_and_inputs_are_not_exchangeable() -> None:
    combiner, (image, text) = small(), pair()
    assert not torch.allclose(combiner(image, text), combiner(text, image))


def test_a_whole_checkpoint_is_taken_as_well() -> None:
    bare, whole = small(), small()
    bare.load_clip4cir_state_dict(clip4cir_state())
    whole.load_clip4cir_state_dict({"epoch": 7, "Combiner": clip4cir_state()})
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda s: [s.pop(name) for name in ("output_layer.bias", "dynamic_scalar.3.weight")],
            ModelError,
            ["not a CLIP4Cir Combiner: missing output_layer.bias, dynamic_scalar.3.weight"],
        ),
        (
            lambda s: s.update({"logit_scale": s.pop("combiner_layer.bias"), "output.bias": 1}),
            ModelError,
            ["missing combiner_layer.bias; unknown logit_scale, output.bias"],
        ),
        (lambda s: s.update({"combiner_layer.weight": torch.ones(3, 4)}), ShapeError, ["(3, 4)", "(14, 20)"]),
        (lambda s: s.update({"combiner_layer.bias": "x"}), ModelError, ["combination.bias", "str"]),
        (lambda s: s.update({"combiner_layer.bias": torch.ones(HIDDEN).long()}), ModelError, ["torch.int64"]),
    ],
)
def test_other_checkpoints_are_refused_and_change_nothing(
    change: Callable[[dict[str, Tensor]], object], error: type[ScotError], words: list[str]
) -> None:
    combiner, state = small(), clip4cir_state()
    before = {name: value.clone() for name, value in combiner.state_dict().items()}
    change(state)
    with pytest.raises(error) as caught:
        combiner.load_clip4cir_state_dict(state)
    assert all(word in str(caught.value) for word in words)
    assert all(torch.equal(before[name], value) for name, value in combiner.state_dict().items())


def test_default_sizes_are_the_papers() -> None:
    with torch.device("meta"):
        combiner = Combiner(256)
    sizes = (combiner.projection_dim, combiner.hidden_dim, combiner.dropout)
    assert sizes == (paper.PROJECTION_DIM, paper.HIDDEN_DIM, paper.DROPOUT)


def test_rows_have_length_one_and_dropout_acts_in_training_only() -> None:
    combiner, (image, text) = small(), pair(50)
    torch.testing.assert_close(combiner(image, text).norm(dim=1), torch.ones(50))
    assert torch.equal(combiner(image, text), combiner(image, text))
    combiner.train()
    assert not torch.equal(combiner(image, text), combiner(image, text))
    assert ((weight := combiner.modality_weight(image, text)) > 0).all()
    assert (weight < 1).all()
    assert weight.shape == (50,)
    assert combiner(image[:0], text[:0]).shape == (0, D)


def test_saved_and_loaded_it_is_the_same_in_the_same_bytes(tmp_path: Path) -> None:
    combiner, inputs = Combiner(D, PROJECTION, HIDDEN, dropout=0.25).eval().double(), pair(dtype=torch.float64)
    combiner.save(tmp_path / "a" / "b")
    loaded = Combiner.load(tmp_path / "a" / "b")
    assert not loaded.training
    assert loaded.dropout == 0.25
    torch.testing.assert_close(loaded(*inputs), combiner(*inputs))
    loaded.save(tmp_path / "c")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"model.safetensors", "config.json"}
    loaded.train()
    loaded(*inputs).sum().backward()


def test_a_folder_says_what_its_weights_are(tmp_path: Path) -> None:
    """The format that other versions of Scot have to read."""
    small().save(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    assert (tmp_path / "config.json").read_text() == (
        '{\n  "architecture": "combiner",\n  "format": 1,\n  "feature_dim": 6,\n  "projection_dim": 10,\n'
        '  "hidden_dim": 14,\n  "dropout": 0.5,\n'
        f'  "weights_blake2b": "{hashlib.blake2b(weights, digest_size=16).hexdigest()}"\n}}\n'
    )
    layers = ["combination", "image_projection", "output", "scalar_hidden", "scalar_output", "text_projection"]
    expected = [f"{layer}.{leaf}" for layer in layers for leaf in ("bias", "weight")]
    assert sorted(safetensors.torch.load(weights)) == expected


def test_files_are_written_beside_their_places_and_put_there_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small().save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    seen: list[list[str]] = []

    def full(descriptor: int) -> None:
        assert os.fstat(descriptor).st_size == len(before["model.safetensors"])  # flushed before it is synchronised
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelError, match=f"cannot write a Combiner to {tmp_path}: No space left on device"):
        Combiner(D, PROJECTION, HIDDEN).save(tmp_path)
    assert len(seen) == 1
    assert seen[0][0].startswith(".model.safetensors.")
    assert seen[0][1:] == ["config.json", "model.safetensors"]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    combiner = small()
    with pytest.raises(ModelError, match=r"cannot read .*config.json: No such file or directory; is this a Combiner's"):
        Combiner.load(tmp_path)
    combiner.save(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    good_weights, good_config = weights.read_bytes(), json.loads(config.read_text())
    weights.write_bytes(good_weights[:-1] + bytes([good_weights[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"model.safetensors is not the file that config.json was written for"):
        Combiner.load(tmp_path)
    weights.write_bytes(good_weights)
    for change, words in (
        ({"hidden_dim": 15}, "this Combiner needs .*15"),
        ({"format": 99}, "format 99; this version of Scot reads format 1"),
        ({"architecture": "phi"}, "does not describe a Combiner"),
        ({"feature_dim": "six", "dropout": 1}, "lacks a proper value for feature_dim, dropout$"),
        ({"projection_dim": None, "hidden_dim": 2.0}, "lacks a proper value for projection_dim, hidden_dim$"),
        ({"weights_blake2b": 1}, "lacks a proper value for weights_blake2b$"),
    ):
        config.write_text(json.dumps(good_config | change))
        with pytest.raises((ModelError, ShapeError), match=words):
            Combiner.load(tmp_path)
    for text, words in (("{", "config.json is not valid JSON"), ("[]", "config.json does not describe a Combiner")):
        config.write_text(text)
        with pytest.raises(ModelError, match=words):
            Combiner.load(tmp_path)
    for content, words in (
        (b"nothing", "model.safetensors is not a readable safetensors file"),
        (safetensors.torch.save({"b": torch.ones(1), "a": torch.ones(1)}), "does not hold a Combiner: it has a, b$"),
    ):
        weights.write_bytes(content)
        config.write_text(json.dumps(good_config | {"weights_blake2b": digest(content)}))
        with pytest.raises(ModelError, match=words):
            Combiner.load(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot write a Combiner to .*: (File exists|Not a directory)"):
        small().save(tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, t: (v[:, :5], t), "image must be (B, 6) for this Combiner, but has shape (3, 5)"),
        (lambda v, t: (v, t[0]), "text must be (B, 6) for this Combiner, but has shape (6,)"),
        (lambda v, t: (v, t[:2]), "image has 3 rows, text has 2; they must be pairs"),
        (lambda v, t: (v.double(), t), "image has dtype torch.float64, the Combiner torch.float32"),
        (lambda v, t: (v, t.long()), "text has dtype torch.int64, the Combiner torch.float32"),
        (lambda v, t: (v, t.to("meta")), "text is on meta, the Combiner on cpu"),
    ],
)
def test_bad_batches_are_refused_naming_both_sides(
    change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], message: str
) -> None:
    combiner = small()
    for call in (combiner, combiner.modality_weight):
        with pytest.raises(ShapeError) as caught:
            call(*change(*pair()))
        assert str(caught.value) == message


def test_dropout_acts_in_four_places(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def recorded(layer: torch.nn.Linear, x: Tensor, dropped: float, *, training: bool) -> Tensor:
        places.append((layer.out_features, dropped, training))
        return torch.relu(layer(x))

    monkeypatch.setattr("scot_core.combiner.activated", recorded)
    combiner = Combiner(D, PROJECTION, HIDDEN, dropout=0.3)
    combiner(*pair())
    combiner.eval()(*pair())
    each = [PROJECTION, PROJECTION, HIDDEN, HIDDEN]
    assert places == [(width, 0.3, training) for training in (True, False) for width in each]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "feature_dim of a Combiner must be at least 1, not 0"),
        ((4, 0), "projection_dim .*not 0"),
        ((4, 4, -1), "hidden_dim .*not -1"),
        ((4, 4, 4, 1.0), r"dropout of a Combiner must be in \[0, 1\), not 1.0"),
        ((4, 4, 4, -0.1), r"dropout .*not -0.1"),
    ],
)
def test_impossible_sizes_are_refused(arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Combiner(*arguments)
    assert Combiner(1, 1, 1, 0.0)(torch.ones(1, 1), torch.ones(1, 1)).shape == (1, 1)


def test_autocast_may_be_used() -> None:
    combiner, (image, text) = small(), pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = combiner(image.bfloat16(), text.half())
    torch.testing.assert_close(reduced.float(), combiner(image, text), rtol=0.1, atol=0.05)
