"""A folder of transformers, read safely: safetensors alone, nothing from a hub, no code of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from scot_core.errors import ModelError


def config_of(folder: Path) -> Any:
    """The configuration. Raises ModelError where it cannot be read."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the configuration in {folder} cannot be read ({error}): download it again") from error


def model_of(folder: Path) -> Any:
    """The model, frozen, float32. Raises ModelError where its weights are missing, damaged or incomplete."""
    from transformers import AutoModel

    try:
        model, loading = AutoModel.from_pretrained(
            str(folder),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # safetensors, json and torch each raise kinds of their own
        raise ModelError(f"the weights in {folder} do not load: {error}") from error
    absent = sorted(name for name in loading["missing_keys"] if "pooler" not in name)  # no pooler is asked
    if absent:  # transformers would go on with random numbers in their place
        raise ModelError(f"the weights in {folder} lack {len(absent)} tensors, {absent[0]} first: download them again")
    return model.eval().requires_grad_(False)
