"""A published `pytorch_model.bin` as safetensors, once, so that nothing else ever reads a pickle.

    python -m scot_core.encoders.convert FOLDER

The file is read with torch's `weights_only`, which builds tensors and runs nothing; `model.safetensors` is written
beside it.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from scot_core.encoders.weights import WEIGHTS
from scot_core.errors import ModelError, ScotError

PICKLED = "pytorch_model.bin"


def convert(folder: Path) -> Path:
    """The new file. Raises `ModelError` where there is nothing to convert, or more in it than tensors."""
    source, target = folder / PICKLED, folder / WEIGHTS
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        tensors = {name: value.contiguous().clone() for name, value in state.items()}
    except FileNotFoundError as error:
        raise ModelError(f"there is no {source} to convert") from error
    except (pickle.UnpicklingError, RuntimeError, AttributeError, EOFError) as error:
        raise ModelError(f"{source} is damaged, or holds more than tensors: {error}") from error
    save_file(tensors, target, metadata={"format": "pt"})
    return target


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m scot_core.encoders.convert FOLDER", file=sys.stderr)
        return 2
    try:
        print(convert(Path(sys.argv[1])))
    except ScotError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
