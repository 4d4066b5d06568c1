"""Checkpoints of a training run: weights and optimizer as safetensors, the position as JSON, no pickle.

A checkpoint is a folder `step-<number>` that appears by one rename, so that what is there is whole. Runs
whose batches depend on seed and step alone continue from it as if they had never stopped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scot_core.errors import ModelError

_PREFIX = "step-"


def _state_tensors(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"{names[id(parameter)]}/{key}"] = torch.as_tensor(value).detach().contiguous()
    return tensors


def save(
    folder: Path,
    step: int,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    note: Mapping[str, Any],
    losses: Sequence[float] = (),
) -> None:
    """Write the checkpoint of a step, then drop the older ones.

    Args:
        folder: where checkpoints live; created when missing.
        step: steps done.
        parameters: the trained parameters by name.
        optimizer: the optimizer over exactly these parameters.
        note: JSON-able; `load` returns the checkpoint only to a caller with an equal note.
        losses: the loss of each step so far, if the caller wants them back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{_PREFIX}{step:07d}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    save_file({name: p.detach().contiguous() for name, p in parameters.items()}, unfinished / "weights.safetensors")
    names = {id(p): name for name, p in parameters.items()}
    save_file(_state_tensors(optimizer, names), unfinished / "optimizer.safetensors")
    (unfinished / "state.json").write_text(
        json.dumps({"step": step, "note": dict(note), "losses": list(losses)}, sort_keys=True)
    )
    final = folder / f"{_PREFIX}{step:07d}"
    shutil.rmtree(final, ignore_errors=True)
    unfinished.rename(final)
    for other in folder.glob(f"{_PREFIX}*"):
        if other != final:
            shutil.rmtree(other)


def load(
    folder: Path,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    note: Mapping[str, Any],
) -> tuple[int, list[float]]:
    """Put parameters and optimizer back to the newest checkpoint; returns the steps done and their losses.

    Without a checkpoint these are 0 and none.

    A checkpoint with another note belongs to another run and is left aside.

    Raises:
        ModelError: a checkpoint that cannot be read, or holds other parameters.
    """
    found = sorted(folder.glob(f"{_PREFIX}*"))
    if not found:
        return 0, []
    newest = found[-1]
    try:
        state = json.loads((newest / "state.json").read_text())
        if state["note"] != dict(note):
            return 0, []
        weights = load_file(newest / "weights.safetensors")
        moments = load_file(newest / "optimizer.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(f"checkpoint {newest} cannot be read ({error}); delete the folder to start over") from error
    if set(weights) != set(parameters) or any(weights[n].shape != p.shape for n, p in parameters.items()):
        raise ModelError(f"checkpoint {newest} is of another model; delete the folder to start over")
    by_name: dict[str, dict[str, torch.Tensor]] = {name: {} for name in parameters}
    for key, value in moments.items():
        name, _, entry = key.rpartition("/")
        by_name[name][entry] = value
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            # Not load_state_dict: it casts, and numbers parameters by position.
            optimizer.state[parameter] = {
                k: v if k == "step" else v.to(parameter.device) for k, v in by_name[name].items()
            }
    return int(state["step"]), list(state["losses"])
