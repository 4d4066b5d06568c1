"""Checkpoints of a training: one safetensors file with weights, the optimizer's moments and how far it is; no pickle.

The file appears by one rename, so that what is there is whole. A training whose batches depend on seed and step alone
goes on from it as if it had never stopped.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from scot_core.errors import ModelError

logger = logging.getLogger(__name__)


def save(
    path: Path,
    trained: Mapping[str, Tensor],
    optimizer: Optimizer,
    step: int,
    *,
    note: Mapping[str, Any] | None = None,
    record: Sequence[Any] = (),
) -> None:
    """Write the checkpoint of a step in place of the one before.

    Args:
        path: the file.
        trained: what training changes, by name: the optimizer's parameters, and buffers.
        optimizer: AdamW over these.
        step: steps done.
        note: JSON-able; says whose checkpoint it is.
        record: JSON-able; what the caller wants back, such as the losses so far.

    Raises ModelError where it cannot be written.
    """
    tensors = {f"weight/{name}": value.detach().cpu().contiguous() for name, value in trained.items()}
    for name, value in trained.items():
        state = optimizer.state.get(value, {})
        tensors |= {f"{moment}/{name}": torch.as_tensor(of).detach().cpu().contiguous() for moment, of in state.items()}
    temporary = path.with_suffix(".tmp")
    about = {"step": str(step), "note": _canonical(note), "record": json.dumps(list(record))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata=about)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot write the checkpoint {path} ({error}): is its disk full?") from error


def restore(
    path: Path, trained: Mapping[str, Tensor], optimizer: Optimizer, *, note: Mapping[str, Any] | None = None
) -> tuple[int, list[Any]]:
    """Put weights and optimizer back to the checkpoint; returns the steps done and the record.

    These are 0 and [] where there is none, or one with another note. One that cannot be read or holds other weights
    counts as none as well, and is logged.
    """
    if not path.exists():
        return 0, []
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        step, record = int(about["step"]), list(json.loads(about["record"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("the checkpoint %s cannot be read (%s): starting over", path, error)
        return 0, []
    if about.get("note") != _canonical(note):
        return 0, []
    weights = {key.removeprefix("weight/"): t for key, t in tensors.items() if key.startswith("weight/")}
    shapes = {name: value.shape for name, value in trained.items()}
    known = {key.partition("/")[2] for key in tensors} <= set(shapes)
    if not known or {name: value.shape for name, value in weights.items()} != shapes:
        logger.warning("the checkpoint %s is of another model: starting over", path)
        return 0, []
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(weights[name])
    # Not load_state_dict: it casts, and numbers parameters by position.
    for key, moment in tensors.items():
        kind, _, name = key.partition("/")
        if kind != "weight":
            # The step counter lies on the device only where the whole update is one kernel there.
            stays = kind == "step" and not optimizer.defaults.get("fused")
            place = "cpu" if stays else trained[name].device
            optimizer.state[trained[name]][kind] = moment.to(place, copy=True)  # out of the file, which goes away
    return step, record


def _canonical(note: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(note or {}), sort_keys=True)
