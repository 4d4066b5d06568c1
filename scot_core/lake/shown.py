"""What views say of a lake's datasets, and an index of their manifests, for lakes of thousands.

The index is a file under `SCOT_CACHE` (~/.cache/scot), and may be removed at any time. It holds what was read of each
manifest beside what a local disk says of the manifest and of its folder: their inodes, sizes and times of change. Where
one of these is another, the manifest is read again, with every check; so is one that changed within a tick of the clock
before it was read. An index that is not the very bytes that were written is not used. Object stores have none.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from scot_core.errors import LakeError
from scot_core.lake.dataset import Dataset
from scot_core.lake.fingerprint import digest
from scot_core.lake.manifest import MANIFEST
from scot_core.lake.names import Reference, part_name
from scot_core.lake.schema import TABLES
from scot_core.lake.storage import cache_folder

if TYPE_CHECKING:
    from scot_core.lake import Lake

logger = logging.getLogger(__name__)

FORMAT: Final = 2  # of the index, and of what makes a manifest whole: another number is another index
FEW: Final = 32  # datasets for which no index is kept
TICK_NS: Final = 2_000_000_000  # of the coarsest clock of a file system

_Mark = list[int]


class Shown(NamedTuple):
    """A committed dataset, as views and the files they may read need it."""

    table: str
    key: str
    source: str
    stage: str
    created_at: str
    """ISO 8601 in UTC, with microseconds: sorts as the moments do."""
    rows_in: int
    rows_out: int
    rejected: int
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    usd: float
    characters: dict[str, int] | None
    """In each column of text; None where the manifest does not say."""
    inputs: list[str]
    sizes: list[int]
    """Bytes of each part."""

    @property
    def reference(self) -> Reference:
        return Reference(self.table, self.key)

    @property
    def parts(self) -> Iterator[str]:
        """Names in the lake."""
        return (f"{self.table}/{self.key}/{part_name(index)}" for index in range(len(self.sizes)))


def of_dataset(dataset: Dataset) -> Shown:
    """What is shown of a dataset."""
    rows, usage = dataset.manifest.rows, dataset.usage
    return Shown(
        dataset.table, dataset.key, dataset.source, dataset.stage,
        dataset.created_at.isoformat(timespec="microseconds"), rows.given, rows.out, rows.rejected,
        usage.seconds, usage.prompt_tokens, usage.completion_tokens, usage.usd, dataset.manifest.characters,
        list(map(str, dataset.inputs)), [part.bytes for part in dataset.parts],
    )  # fmt: skip


def read(lake: Lake) -> tuple[list[Shown], list[LakeError]]:
    """Every committed dataset, oldest first, and why others cannot be read: what `Lake.read` says of them."""
    if not lake.storage.is_local:
        datasets, damaged = lake.read()
        return list(map(of_dataset, datasets)), damaged
    began, index = time.time_ns(), _load(lake.url)
    found: list[Shown] = []
    damaged, new = [], False
    keep: dict[str, tuple[_Mark, Shown]] = {}
    for table in TABLES:
        elsewhere = os.path.islink(f"{lake.url}/{table}")  # noqa: PTH114 - as below
        for key in _keys(lake, table):
            name = f"{table}/{key}"
            mark = None if elsewhere else _mark(f"{lake.url}/{name}")
            known = index.get(name)
            if known is not None and known[0] == mark:
                keep[name] = known
                found.append(known[1])
                continue
            try:
                dataset = lake.table(table).find(key)
            except LakeError as error:
                damaged.append(error)
                continue
            if dataset is not None:
                found.append(of_dataset(dataset))
                if mark is not None and max(mark[-4:]) + TICK_NS < began:
                    keep[name], new = (mark, found[-1]), True
    if new and len(keep) >= FEW:
        _save(lake.url, keep)
    return sorted(found, key=lambda one: (one.created_at, one.table, one.key)), damaged


def _keys(lake: Lake, table: str) -> list[str]:
    """What `Storage.names` says, which takes ten times as long."""
    try:
        return sorted(os.listdir(f"{lake.url}/{table}"))  # noqa: PTH208 - as below
    except OSError:
        return lake.storage.names(table)


def _mark(folder: str) -> _Mark | None:
    """What a disk says of a dataset's folder and manifest, times last; None where they are not what they must be."""
    try:
        outer, inner = os.lstat(folder), os.lstat(f"{folder}/{MANIFEST}")
    except OSError:
        return None
    if not stat.S_ISDIR(outer.st_mode) or not stat.S_ISREG(inner.st_mode):
        return None  # a link, which must be looked at
    return [outer.st_dev, outer.st_ino, inner.st_ino, inner.st_size,
            outer.st_mtime_ns, outer.st_ctime_ns, inner.st_mtime_ns, inner.st_ctime_ns]  # fmt: skip


def _file(url: str) -> Path:
    return cache_folder() / "manifests" / f"{digest(os.path.realpath(url).encode())}.json"


def _load(url: str) -> Mapping[str, tuple[_Mark, Shown]]:
    """Empty where there is no index, or not the one that was written."""
    try:
        seal, _, body = _file(url).read_bytes().partition(b"\n")
        if seal.decode() != digest(body):
            return {}
        content = json.loads(body)
        if content["format"] != FORMAT:
            return {}
        return {f"{shown[0]}/{shown[1]}": (mark, Shown(*shown)) for mark, shown in content["datasets"]}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _save(url: str, datasets: Mapping[str, tuple[_Mark, Shown]]) -> None:
    path = _file(url)
    body = json.dumps({"format": FORMAT, "lake": url, "datasets": list(datasets.values())}).encode()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(digest(body).encode() + b"\n" + body)
        temporary.replace(path)
    except OSError as error:
        logger.debug("no index of manifests can be kept at %s: %r", path, error)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
