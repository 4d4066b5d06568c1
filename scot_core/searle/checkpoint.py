"""The state of a training under AdamW in one safetensors file: weights, moments, step and curve."""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

Curve = list[tuple[int, float]]
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save(path: Path, module: nn.Module, optimizer: Optimizer, step: int, curve: Curve) -> None:
    """Write a checkpoint after `step` steps, replacing the one before it at once."""
    tensors = {f"weight/{name}": value.detach().cpu() for name, value in module.state_dict().items()}
    for name, parameter in module.named_parameters():
        tensors |= {f"{moment}/{name}": optimizer.state[parameter][moment].detach().cpu() for moment in _MOMENTS}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"step": str(step), "curve": json.dumps(curve)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def restore(path: Path, module: nn.Module, optimizer: Optimizer) -> tuple[int, Curve]:
    """Load a checkpoint into both; returns the steps done and the curve so far. A torn or foreign one is none."""
    if not path.exists():
        return 0, []
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError:
        return 0, []
    parameters = dict(module.named_parameters())
    expected = {f"weight/{name}": tuple(value.shape) for name, value in module.state_dict().items()}
    for name, parameter in parameters.items():
        expected |= {f"{moment}/{name}": () if moment == "step" else tuple(parameter.shape) for moment in _MOMENTS}
    if {name: tuple(t.shape) for name, t in tensors.items()} != expected or not {"step", "curve"} <= set(metadata):
        return 0, []
    module.load_state_dict({n.removeprefix("weight/"): t for n, t in tensors.items() if n.startswith("weight/")})
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {m: tensors[f"{m}/{name}"].to(parameter.device) for m in _MOMENTS}
    return int(metadata["step"]), [(int(step), float(loss)) for step, loss in json.loads(metadata["curve"])]
