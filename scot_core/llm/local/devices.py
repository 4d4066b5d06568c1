"""Where language models run on this machine."""

from __future__ import annotations


def devices() -> tuple[str, ...]:
    """Every visible CUDA device ("cuda:0", ...), else the CPU alone; CUDA_VISIBLE_DEVICES says which are visible."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)


def device() -> str:
    """The first of `devices`: where one model is tuned or writes."""
    return devices()[0]
