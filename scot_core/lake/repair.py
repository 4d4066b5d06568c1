"""Damage out of the way: damaged files and the manifests that name them are moved aside, and a run rebuilds them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from scot_core.lake import Lake, Reference, parts
from scot_core.lake.check import DERIVED, Damage
from scot_core.lake.manifest import MANIFEST

PART = re.compile(r"part-\d+\.parquet")
ASIDE = "damaged"  # a folder of the lake that no reader looks into


def repair(lake: Lake, damages: Sequence[Damage]) -> list[str]:
    """Move what is damaged to `damaged/<time>/…`, manifests first, and write what is derived anew.

    What is whole stays: the next run keeps it. Replies that are moved aside are asked for again, and paid: whoever
    calls this has asked (see `Damage.usd`). Returns the names that were moved. Raises LakeError where one cannot be.
    """
    datasets = list(dict.fromkeys(damage.dataset for damage in damages if damage.dataset is not None))
    manifests = [f"{dataset}/{MANIFEST}" for dataset in datasets]
    files = [damage.file for damage in damages if damage.file not in DERIVED]
    files += [name for dataset in datasets for name in _parts_without_their_files(lake, dataset, files)]
    there = [name for name in dict.fromkeys([*manifests, *files]) if lake.storage.exists(name)]
    aside = f"{ASIDE}/{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    for name in there:
        lake.storage.move(name, f"{aside}/{name}")
    lake.check_writable()
    lake.write_views()
    return there


def _parts_without_their_files(lake: Lake, dataset: Reference, damaged: Sequence[str]) -> list[str]:
    """All parts of a dataset with files beside them that no part's footer names, as the first Scots wrote them.

    A run would keep such parts and commit them without the files.
    """
    there = [f"{dataset}/{name}" for name in lake.storage.sizes(str(dataset))]
    mine = [name for name in dict.fromkeys([*there, *damaged]) if name.startswith(f"{dataset}/")]
    written = [name for name in mine if not any(c[0] in "._" for c in name.removeprefix(f"{dataset}/").split("/"))]
    rows = [name for name in written if PART.fullmatch(name.removeprefix(f"{dataset}/"))]
    footers = [parts.footer_of(lake.storage, name) for name in rows if name in there]
    named = {f"{dataset}/{file}" for footer in footers if footer is not None for file in footer.files}
    return rows if set(written) - set(rows) - named else []
