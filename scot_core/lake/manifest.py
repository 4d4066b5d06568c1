"""The manifest of a dataset: what was committed, as JSON. It is written last, and it is the commit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from scot_core.errors import LakeError
from scot_core.lake.fingerprint import KEY_DIGITS

MANIFEST = "_manifest.json"
FORMAT = 1
LIBRARIES = ("pyarrow", "numpy", "torch", "transformers", "peft", "bitsandbytes", "openai", "pillow")

# what readers rely on, besides table, key and fingerprint
FIELDS: dict[str, tuple[str, ...]] = {
    "rows": ("in", "out", "rejected"),
    "usage": ("seconds", "prompt_tokens", "completion_tokens", "usd"),
    **dict.fromkeys(("source", "stage", "config", "inputs", "created_at"), ()),
}
FILE_FIELDS = ("name", "bytes", "digest")


def parse(data: bytes, path: str, folder: str) -> dict[str, Any]:
    """The manifest that lies at `path`, in the folder `<table>/<key>`.

    Raises LakeError where it is of another format, damaged, or was committed for another folder.
    """
    try:
        manifest = dict(json.loads(data))
        found = manifest["format"]
        if found == FORMAT:
            _check(manifest, folder)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise LakeError(f"{path} is no whole manifest ({what}); remove it and run again: it will be rebuilt") from error
    if found != FORMAT:
        raise LakeError(f"{path} has format {found}, this version reads {FORMAT}: use the Scot that wrote it")
    return manifest


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose change could change a result."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions


def _check(manifest: Mapping[str, Any], folder: str) -> None:
    """Raises ValueError, KeyError, TypeError or AttributeError where readers could not rely on it."""
    for name, inner in FIELDS.items():
        _ = [manifest[name][field] for field in inner] if inner else manifest[name]
    for file in (*manifest["parts"], *manifest["files"]):
        _ = [file[field] for field in FILE_FIELDS]
    if f"{manifest['table']}/{manifest['key']}" != folder or not folder.endswith(manifest["fingerprint"][:KEY_DIGITS]):
        raise ValueError(f"it was committed as {manifest['table']}/{manifest['key']}")
    rows = manifest["rows"]
    if rows["out"] != sum(part["rows"] for part in manifest["parts"]) or rows["in"] != rows["out"] + rows["rejected"]:
        raise ValueError("its row counts do not add up")
