"""The tuned model as a folder that any server loads: the 4-bit base and its adapter as plain weights.

vLLM serves adapters beside a base only for architectures it knows LoRA for, and Falcon's is not one of them. The
adapter was trained on the 4-bit weights; merging it into those, as numbers, keeps what the local path computes.
`scot merge FOLDER` writes such a folder from the lake.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from scot_core.errors import ModelError
from scot_core.lake import Dataset
from scot_core.llm.local.devices import devices
from scot_core.llm.local.four_bits import dequantise
from scot_core.llm.local.generator import Generator
from scot_core.llm.local.weights import resolve


def merge(
    base: str, adapter: Path, target: Path, *, revision: str | None = None, device: str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
) -> Path:  # fmt: skip
    """Write base + adapter as safetensors, with config and tokenizer, into `target`.

    Args:
        base: as `scot_core.llm.local.generator.load_base` takes it.
        adapter: a PEFT folder.
        target: a folder that is not there yet, or empty.
        revision: of the base.
        device: where the layers are put together; all weights in `dtype` must fit.
        dtype: of what is written.

    Raises:
        ModelError: as `Generator.load`, or there is something in `target` already.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target} is no empty folder: name a new folder")
    generator = Generator.load(base, adapter, revision=revision, device=device)
    dequantise(generator.model, dtype)
    inner: Any = generator.model.get_base_model()
    config = AutoConfig.from_pretrained(resolve(base), revision=revision, dtype=dtype)
    models: Any = AutoModelForCausalLM  # typed in parts only
    plain = models.from_config(config, dtype=dtype)
    plain.load_state_dict({name: value.to("cpu", dtype) for name, value in inner.state_dict().items()})
    plain.generation_config = inner.generation_config
    plain.save_pretrained(str(target))
    generator.tokenizer.save_pretrained(str(target))
    return target


def merge_dataset(adapters: Dataset, target: Path) -> Path:
    """`merge` for an adapter of the lake, on the first device of this machine."""
    config = adapters.config
    with tempfile.TemporaryDirectory() as folder:
        adapter = adapters.files_in(Path(folder)) / "adapter"
        return merge(config["base"], adapter, target, revision=config["revision"], device=devices()[0])
