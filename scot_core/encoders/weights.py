"""Where a published encoder's weights lie: a folder of one's own, the hub's cache on this machine, or the hub.

A folder `<SCOT_WEIGHTS>/<name>` wins, and is identified by the digest of its content; from a hub it is the commit.
Only safetensors are read. `HF_HUB_OFFLINE=1` keeps everything local.
"""

from __future__ import annotations

import json
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from scot_core.config.settings import settings
from scot_core.errors import ModelError
from scot_core.lake.fingerprint import files_digest

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
TOKENIZERS: Final = ("tokenizer.json", "vocab.txt")
# What else decides which tokens a text becomes, where it is there.
_TOKENIZER_FILES: Final = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
_WANTED: Final = ("*.json", "*.safetensors", "*.txt", "*.model")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_HUB_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class WeightsFolder:
    """Where weights are to be found, and which: `folder` is None while they are not known to be on this machine."""

    name: str
    hub: str
    revision: str
    folder: Path | None

    @property
    def own_folder(self) -> Path:
        return own_folder(self.name)

    @property
    def command(self) -> str:
        """How to get them."""
        commit = self.revision if _COMMIT.fullmatch(self.revision) else "<commit>"
        return f"hf download {self.hub} --revision {commit} --local-dir {self.own_folder}"


def own_folder(name: str) -> Path:
    return Path(settings().weights).expanduser() / name


def place(name: str, hub: str, pinned: str | None, revision: str | None) -> WeightsFolder:
    """Which weights are meant, without loading or downloading any.

    Raises:
        ModelError: a folder that lacks files or is not what `revision` says; no commit for the hub.
    """
    folder = own_folder(name)
    if folder.is_dir():
        return _own(name, hub, pinned, revision, folder)
    commit = revision or pinned
    if commit is None or not _COMMIT.fullmatch(commit):
        given = "no revision" if commit is None else f"revision {commit!r}, which is no commit of a hub"
        raise ModelError(
            f"encoder {name} has {given}, and there is no folder {folder}: set embed.revision to the 40 hex digits "
            f"that `git ls-remote https://huggingface.co/{hub} HEAD` prints"
        )
    return WeightsFolder(name, hub, commit, None)


def fetched(wanted: WeightsFolder) -> Path:
    """The folder that holds the weights, downloaded where they are on a hub only.

    Raises:
        ModelError: files are missing and cannot be had; the message names them and how to get them.
    """
    if wanted.folder is not None:
        return wanted.folder
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    why = ""
    folder: Path | None = None
    for local in (True, False):  # the cache first: complete weights need no network
        if not local and not hub_is_reached():  # the hub's own client would try for most of a minute
            why = "not reached"
            break
        try:
            found = snapshot_download(
                wanted.hub, revision=wanted.revision, allow_patterns=list(_WANTED), local_files_only=local
            )
        except (HfHubHTTPError, EntryNotFoundError, HFValidationError, OSError, httpx.HTTPError) as error:
            why = type(error).__name__
            continue
        folder, why = Path(found), ""
        if not missing(folder):
            return folder
    lacking = ", ".join(missing(folder) if folder else (CONFIG, WEIGHTS, TOKENIZERS[0]))
    tried = f"; the hub did not help ({why})" if why else ""
    raise ModelError(f"encoder {wanted.name}: {lacking} of {wanted.hub} missing on this machine{tried}. {_get(wanted)}")


def hub_is_reached() -> bool:
    """Whether the hub answers at all; behind a proxy it is believed to."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), _HUB_S).close()
    except OSError:
        return False
    return True


def missing(folder: Path) -> list[str]:
    """The files without which a folder is no encoder, by name."""
    lacking = [] if (folder / CONFIG).is_file() else [CONFIG]
    lacking += [name for name in _weight_files(folder) if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in TOKENIZERS):
        lacking.append(" or ".join(TOKENIZERS))
    return lacking


def _deciding(folder: Path) -> list[str]:
    """The files that decide a vector, by name: not a pickle or a readme that lies beside them."""
    optional = [name for name in (*TOKENIZERS, *_TOKENIZER_FILES) if (folder / name).is_file()]
    return sorted([CONFIG, *_weight_files(folder), *optional])


def _own(name: str, hub: str, pinned: str | None, revision: str | None, folder: Path) -> WeightsFolder:
    lacking = missing(folder)
    if lacking:
        wanted = WeightsFolder(name, hub, revision or pinned or "", None)
        raise ModelError(f"encoder {name}: {', '.join(lacking)} missing in {folder}. {_get(wanted)}")
    found = files_digest((folder / name for name in _deciding(folder)), named=True)
    downloaded = _downloaded(folder)
    if revision is not None and revision != found and (not _COMMIT.fullmatch(revision) or downloaded - {revision}):
        what = f"{found} (downloaded as {', '.join(sorted(downloaded))})" if downloaded else found
        raise ModelError(
            f"{folder} holds the weights {what}, not {revision}: replace the folder or leave embed.revision"
        )
    return WeightsFolder(name, hub, found, folder)


def _downloaded(folder: Path) -> set[str]:
    """The commits that `hf download --local-dir` noted beside the files it put here."""
    notes = (folder / ".cache" / "huggingface" / "download").glob("*.metadata")
    return {note.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].strip() for note in notes}


def _weight_files(folder: Path) -> list[str]:
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return [WEIGHTS]
    try:
        return sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index} is damaged ({error}): download it again") from error


def _get(wanted: WeightsFolder) -> str:
    pickled = f"python -m scot_core.encoders.convert {wanted.own_folder}"
    return f"Get them: `{wanted.command}` (and `{pickled}` where the hub has only pytorch_model.bin)"
