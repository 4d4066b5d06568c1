"""φ against its definition in numpy, SEARLE's checkpoints, files and bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scot_core.errors import ConfigError, ModelError, ShapeError
from scot_core.searle import Phi

D, HIDDEN, W = 6, 10, 4
SHAPES = {"layers.0": (HIDDEN, D), "layers.3": (HIDDEN, HIDDEN), "layers.6": (W, HIDDEN)}


def searle_state() -> dict[str, Tensor]:
    """A state dict with that project's names and shapes."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, (rows, columns) in SHAPES.items():
        state[f"{name}.weight"] = torch.randn(rows, columns, generator=generator)
        state[f"{name}.bias"] = torch.randn(rows, generator=generator)
    return state


def small() -> Phi:
    torch.manual_seed(0)
    return Phi(D, HIDDEN, W).eval()


def images(rows: int = 3) -> Tensor:
    return torch.randn(rows, D, generator=torch.Generator().manual_seed(5))


def by_hand(state: dict[str, Tensor], image: Tensor) -> np.ndarray:
    x = image.double().numpy()
    gelu = np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))
    for name in SHAPES:
        x = x @ state[f"{name}.weight"].double().numpy().T + state[f"{name}.bias"].double().numpy()
        x = x if name == "layers.6" else gelu(x)
    return np.asarray(x)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"epoch": 3, "Phi": state}])
def test_it_computes_searles_network_from_its_checkpoints(wrap: Any) -> None:
    phi = small()
    phi.load_searle_state_dict(wrap(searle_state()))
    np.testing.assert_allclose(phi(images()).detach().numpy(), by_hand(searle_state(), images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: s.pop("layers.3.bias"), ModelError, ["missing layers.3.bias"]),
        (lambda s: s.update({"layers.9.bias": torch.ones(2)}), ModelError, ["unknown layers.9.bias"]),
        (lambda s: s.update({"layers.0.weight": torch.ones(3, 4)}), ShapeError, ["(3, 4)", "(10, 6)"]),
        (lambda s: s.update({"layers.0.bias": "x"}), ModelError, ["layers.0.bias", "str"]),
        (lambda s: s.update({"layers.0.bias": torch.ones(HIDDEN).long()}), ModelError, ["torch.int64"]),
    ],
)
def test_other_checkpoints_are_refused_and_change_nothing(change: Any, error: type, words: list[str]) -> None:
    phi, state = small(), searle_state()
    before = {name: value.clone() for name, value in phi.state_dict().items()}
    change(state)
    with pytest.raises(error) as caught:
        phi.load_searle_state_dict(state)
    assert all(word in str(caught.value) for word in words)
    assert all(torch.equal(before[name], value) for name, value in phi.state_dict().items())


def test_dropout_acts_in_training_only() -> None:
    phi, image = small(), images(50)
    assert torch.equal(phi(image), phi(image))
    phi.train()
    assert not torch.equal(phi(image), phi(image))
    assert phi(image[:0]).shape == (0, W)


def test_saved_and_loaded_it_is_the_same_in_the_same_bytes(tmp_path: Path) -> None:
    phi = small().double()
    phi.save(tmp_path / "a" / "b")
    loaded = Phi.load(tmp_path / "a" / "b")
    assert not loaded.training
    assert (loaded.input_dim, loaded.hidden_dim, loaded.output_dim, loaded.dropout) == (D, HIDDEN, W, 0.5)
    torch.testing.assert_close(loaded(images().double()), phi(images().double()))
    loaded.save(tmp_path / "c")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"model.safetensors", "config.json"}


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        Phi.load(tmp_path)
    small().save(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    good_weights, good_config = weights.read_bytes(), json.loads(config.read_text())
    weights.write_bytes(good_weights[:-1] + bytes([good_weights[-1] ^ 1]))
    with pytest.raises(ModelError, match="not the file that"):
        Phi.load(tmp_path)
    weights.write_bytes(good_weights)
    for change, words in (
        ({"hidden_dim": 15}, "15"),
        ({"format": 99}, "99"),
        ({"architecture": "combiner"}, "does not describe"),
        ({"input_dim": "six"}, "input_dim"),
    ):
        config.write_text(json.dumps(good_config | change))
        with pytest.raises((ModelError, ShapeError), match=words):
            Phi.load(tmp_path)
    config.write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        Phi.load(tmp_path)
    with pytest.raises(ModelError, match="cannot write"):
        small().save(weights)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v[:, :5], ["(B, 6)", "(3, 5)"]),
        (lambda v: v[0], ["(6,)"]),
        (lambda v: v.double(), ["torch.float64", "torch.float32"]),
        (lambda v: v.bfloat16(), ["torch.bfloat16", "torch.float32"]),
        (lambda v: v.to("meta"), ["meta", "cpu"]),
    ],
)
def test_bad_batches_are_refused_naming_both_sides(change: Any, words: list[str]) -> None:
    with pytest.raises(ShapeError) as caught:
        small()(change(images()))
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (1, 1, -1), (4, 4, 4, 1.0)])
def test_impossible_sizes_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError):
        Phi(*arguments)
