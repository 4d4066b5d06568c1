"""Where language models run on this machine; where there is no driver, nothing heavy is loaded to find no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

DRIVERS: Final = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, the same below WSL, AMD


class Gpu(NamedTuple):
    """One that torch can use."""

    name: str
    gigabytes: float


def gpus() -> tuple[Gpu, ...]:
    """Every visible CUDA device; CUDA_VISIBLE_DEVICES says which are visible."""
    if not any(Path(driver).exists() for driver in DRIVERS):
        return ()
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = map(torch.cuda.get_device_properties, range(count))
    return tuple(Gpu(one.name, one.total_memory / 1e9) for one in found)


def devices() -> tuple[str, ...]:
    """All of `gpus` ("cuda:0", ...), else the CPU alone."""
    return tuple(f"cuda:{index}" for index in range(len(gpus()))) or ("cpu",)


def device() -> str:
    """The first of `devices`: where one model is tuned or writes."""
    return devices()[0]
