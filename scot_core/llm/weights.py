"""Where a language model's weights lie and which ones they are, without loading a library that could run them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Final

from scot_core.errors import ModelError

CATALOGUE_FALCON: Final = "catalogue-falcon"
SHIPPED: Final = {CATALOGUE_FALCON: Path(__file__).parents[1] / "catalogue" / "weights" / "falcon"}
# What decides what a model writes: configuration, weights, tokenizer, chat template.
_WEIGHT_FILES: Final = ("*.json", "*.safetensors", "*.bin", "*.model", "*.jinja")
_NOT_THE_MODEL: Final = ("provenance.json",)


def resolve(name_or_path: str) -> str:
    """The folder of a shipped model, an existing folder as it is, or a hub id (`owner/name`).

    Raises:
        ModelError: a path that does not exist.
    """
    if name_or_path in SHIPPED:
        name_or_path = str(SHIPPED[name_or_path])
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") != 1:
        raise ModelError(
            f"no language model at {name_or_path!r}: give a folder that holds config.json, tokenizer.json and "
            f"*.safetensors, a hub id such as tiiuae/falcon-7b-instruct, or {', '.join(SHIPPED)}"
        )
    return name_or_path


def weights_revision(name_or_path: str, revision: str | None = None) -> str:
    """What identifies the weights in a fingerprint: a folder's content (32 hex), a hub id's revision.

    Raises:
        ModelError: a path that does not exist.
    """
    name = resolve(name_or_path)
    if Path(name).is_dir():
        return _digest(Path(name))
    return revision or "unpinned"


@lru_cache(maxsize=8)
def _digest(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted({p for pattern in _WEIGHT_FILES for p in folder.glob(pattern)}):
        if path.name in _NOT_THE_MODEL:
            continue
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
