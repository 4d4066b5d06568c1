"""A committed dataset in a second lake, where work goes on that should not stand among the first one's newest."""

from __future__ import annotations

import os
from pathlib import Path

from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake
from scot_core.lake.manifest import MANIFEST
from scot_core.lake.storage import Storage


def lend(dataset: Dataset, of: Lake, to: Lake) -> Dataset:
    """The dataset as `to` holds it from now on, its manifest last.

    Files on one disk are hard links, which take no room: what is committed never changes. Raises LakeError where
    a file cannot be read or written.
    """
    for name in (*dataset.paths, f"{dataset.name}/{MANIFEST}"):
        if not to.storage.exists(name) and not _linked(name, of.storage, to.storage):
            to.storage.write(name, of.storage.read(name))
    lent = to.table(dataset.table).find(dataset.key)
    if lent is None:
        raise LakeError(f"{dataset.name} of {of.url} is not in {to.url}, where it was written a moment ago")
    return lent


def _linked(name: str, of: Storage, to: Storage) -> bool:
    if not (of.is_local and to.is_local):
        return False
    target = Path(to.path(name))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(of.path(name), target)
    except OSError:  # another disk, or one that knows no links
        return False
    return True
