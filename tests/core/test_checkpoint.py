"""What a checkpoint gives back, and to whom."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scot_core import checkpoint
from scot_core.errors import ModelError


def training(seed: int, *, width: int = 3, fused: bool = False) -> tuple[dict[str, Tensor], Any, nn.Module]:
    """What is trained, its optimizer and the model: weights, a normalisation's buffers, one weight left alone."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(width, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    trained = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return trained, torch.optim.AdamW(list(model.parameters())[:-1], fused=fused), model


def steps(model: nn.Module, optimizer: Any, first: int, last: int) -> None:
    width = next(model.parameters()).shape[1]
    for step in range(first, last):
        rows = torch.randn(8, width, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(rows).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("fused", [False, True])
def test_a_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path, fused: bool) -> None:
    file = tmp_path / "new" / "one" / "file"
    trained, optimizer, model = training(0, fused=fused)
    steps(model, optimizer, 0, 3)
    note = {"seed": 0, "betas": (0.9, 0.99)}
    checkpoint.save(file, trained, optimizer, 3, note=note, record=[(1, 0.5), (3, 0.25)])
    steps(model, optimizer, 3, 6)
    again, restored, other = training(1, fused=fused)
    assert checkpoint.restore(file, again, restored, note=dict(reversed(note.items()))) == (3, [[1, 0.5], [3, 0.25]])
    steps(other, restored, 3, 6)
    assert all(torch.equal(value, again[name]) for name, value in trained.items())
    assert [path.name for path in file.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("fused", [False, True])
def test_moments_go_where_the_weights_are(tmp_path: Path, fused: bool) -> None:
    """And the count of steps with them where the whole update is one kernel; else it stays on the CPU."""
    trained, optimizer, model = training(0)
    steps(model, optimizer, 0, 2)
    checkpoint.save(tmp_path / "file", {f"model/{name}": value for name, value in trained.items()}, optimizer, 2)
    with torch.device("meta"):
        elsewhere, of_elsewhere, _ = training(1)
    of_elsewhere.defaults["fused"] = fused
    named = {f"model/{name}": value for name, value in elsewhere.items()}
    assert checkpoint.restore(tmp_path / "file", named, of_elsewhere) == (2, [])
    places = {"exp_avg": "meta", "exp_avg_sq": "meta", "step": "meta" if fused else "cpu"}
    states = [of_elsewhere.state[value] for value in of_elsewhere.param_groups[0]["params"]]
    assert all({kind: moment.device.type for kind, moment in state.items()} == places for state in states)


def test_without_a_checkpoint_of_its_own_a_training_starts_at_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    trained, optimizer, model = training(0)
    steps(model, optimizer, 0, 1)
    before = {name: value.clone() for name, value in trained.items()}
    fresh, of_fresh, _ = training(1)
    untouched = {name: value.clone() for name, value in fresh.items()}

    def refused(note: Any = None) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert checkpoint.restore(file, fresh, of_fresh, note=note) == (0, [])
        assert all(torch.equal(value, untouched[name]) for name, value in fresh.items()) and not of_fresh.state
        return "".join(caplog.messages)

    assert refused() == ""
    checkpoint.save(file, trained, optimizer, 1, note={"seed": 0})
    assert refused({"seed": 1}) == "" and refused() == ""  # another run's is nothing to speak of
    whole = file.read_bytes()
    for torn in (b"", b"not a tensor", whole[:50], whole[:-8]):
        file.write_bytes(torn)
        said = refused({"seed": 0})
        assert said.startswith(f"the checkpoint {file} cannot be read (") and said.endswith("): starting over")
        assert "None" not in said
    save_file(before, file)  # tensors, and no word about them
    assert "cannot be read" in refused()
    larger = training(0, width=5)[0]
    checkpoint.save(file, larger, optimizer, 1)
    assert refused() == f"the checkpoint {file} is of another model: starting over"


def test_a_checkpoint_that_cannot_be_written_is_one_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    weight = nn.Parameter(torch.zeros(1))
    with pytest.raises(ModelError, match="cannot write the checkpoint"):
        checkpoint.save(tmp_path / "file" / "checkpoint", {"weight": weight}, torch.optim.AdamW([weight]), 1)
