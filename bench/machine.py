"""What the figures below were measured on: the first lines of `make bench`."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
import torch


def processor() -> str:
    """Its name as Linux tells it, else as Python does."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.is_file() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def short_name() -> str:
    """Of the processor, in a word or four."""
    return f"{processor()}, {os.cpu_count()} cores"


def main() -> None:
    known = torch.cpu.get_capabilities()
    flags = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if known.get(name)]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(f"{processor()}, {os.cpu_count()} cores, {', '.join(flags) or 'no AVX2'}; {', '.join(gpus) or 'no GPU'}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
