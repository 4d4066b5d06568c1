"""Damage out of the way: damaged files and the manifests that name them are moved aside, and a run rebuilds them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from scot_core.lake import Lake
from scot_core.lake.check import DERIVED, Damage
from scot_core.lake.manifest import MANIFEST

ASIDE = "damaged"  # a folder of the lake that no reader looks into


def repair(lake: Lake, damages: Sequence[Damage]) -> list[str]:
    """Move what is damaged to `damaged/<time>/…`, manifests first, and write what is derived anew.

    What is whole stays: the next run keeps it. Replies that are moved aside are asked for again, and paid: whoever
    calls this has asked (see `Damage.usd`). Returns the names that were moved. Raises LakeError where one cannot be.
    """
    manifests = [f"{damage.dataset}/{MANIFEST}" for damage in damages if damage.dataset is not None]
    files = [damage.file for damage in damages if damage.file not in DERIVED]
    there = [name for name in dict.fromkeys([*manifests, *files]) if lake.storage.exists(name)]
    aside = f"{ASIDE}/{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    for name in there:
        lake.storage.move(name, f"{aside}/{name}")
    lake.check_writable()
    lake.write_views()
    return there
