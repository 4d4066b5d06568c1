"""Where a language model's weights lie and which ones they are, without loading a library that could run them."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from scot_core.errors import ConfigError, ModelError
from scot_core.llm.local import smollm2
from scot_core.llm.local.smollm2 import SMOLLM2

CATALOGUE_FALCON: Final = "catalogue-falcon"
SHIPPED: Final = {CATALOGUE_FALCON: Path(__file__).parents[2] / "catalogue" / "weights" / "falcon"}
# What decides what a model writes: configuration, weights, tokenizer, chat template.
_WEIGHT_FILES: Final = ("*.json", "*.safetensors", "*.model", "*.jinja")
_NOT_THE_MODEL: Final = ("provenance.json",)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def resolve(name_or_path: str) -> str:
    """The folder of a named model, an existing folder as it is, or a hub id (`owner/name`).

    `smollm2` is converted on this machine when it is asked for the first time.

    Raises:
        ModelError: a path that does not exist, or a named model that is not installed.
    """
    if name_or_path == SMOLLM2:
        return str(smollm2.folder())
    if name_or_path in SHIPPED:
        name_or_path = str(SHIPPED[name_or_path])
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") != 1:
        raise ModelError(
            f"no language model at {name_or_path!r}: give a folder that holds config.json, tokenizer.json and "
            f"*.safetensors, a hub id such as tiiuae/falcon-7b-instruct, or {', '.join((*SHIPPED, SMOLLM2))}"
        )
    return name_or_path


def pinned(name: str, revision: str | None) -> str:
    """The revision of a hub id, which must be a commit: what a branch or tag names changes behind one's back.

    Raises:
        ConfigError: no revision, or one that is no commit hash.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    given = "has no revision" if revision is None else f"has the revision {revision!r}, which is no commit"
    raise ConfigError(
        f"the language model {name} is on a hub and {given}: set finetune.revision (or invert.phrases.revision) to the "
        f"40 hex digits of a commit (`hf models info {name}` prints the newest as sha), or the base to the folder of a "
        "download"
    )


def weights_revision(name_or_path: str, revision: str | None = None) -> str:
    """What identifies the weights in a fingerprint: a folder's content (32 hex), a hub id's commit (40 hex).

    Raises:
        ModelError: a path that does not exist, or a named model that is not installed.
        ConfigError: a hub id without a commit.
    """
    if name_or_path == SMOLLM2:
        return smollm2.revision()
    name = resolve(name_or_path)
    return _digest(Path(name)) if Path(name).is_dir() else pinned(name, revision)


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
