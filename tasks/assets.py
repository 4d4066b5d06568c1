"""Committed datasets as assets of Prefect: an event for each, with what it was made from.

An asset is what a stage writes for a source, in whichever generation: `<lake>/<table>/<source>-<stage>`. The key of
the dataset, and its rows, are the event's payload.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect.assets import Asset, AssetProperties, add_asset_metadata
from prefect.cache_policies import NO_CACHE
from prefect.tasks import MaterializingTask

from scot_core.lake import Dataset, Lake, Reference
from scot_core.lake.fingerprint import KEY_DIGITS
from scot_core.stages.step import Step

P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 512  # characters of an asset's name


def materializing(step: Step, commit: Callable[P, R], name: str) -> MaterializingTask[P, R]:
    """`commit` as a task that tells of the datasets that it commits, where it completes."""
    made = [Reference(table, identity.key) for table, identity in step.outputs.items()]
    inputs = dict.fromkeys(reference for identity in step.outputs.values() for reference in identity.inputs)
    return MaterializingTask(
        commit, assets=[asset(step.lake, one) for one in made], asset_deps=[asset(step.lake, one) for one in inputs],
        task_run_name=name, cache_policy=NO_CACHE,
    )  # fmt: skip


def tell(lake: Lake, dataset: Dataset) -> None:
    """What the event of a dataset says beside its name; called in the task of `materializing`."""
    rows, usage = dataset.manifest.rows, dataset.usage
    content = {
        "key": dataset.key, "rows_in": rows.given, "rows_out": rows.out, "rejected": rows.rejected,
        "seconds": usage.seconds, "usd": usage.usd, "digest": dataset.digest,
    }  # fmt: skip
    add_asset_metadata(asset(lake, dataset.reference), content)


def asset(lake: Lake, reference: Reference) -> Asset:
    """The asset that a dataset is a state of."""
    root = lake.url if "://" in lake.url else f"file://{lake.url}"
    of = reference.key[: -KEY_DIGITS - 1]
    name = re.sub(r"[^A-Za-z0-9._~:/@=+,-]+", "-", f"{root}/{reference.table}/{of}")
    return Asset(key=name[:LONGEST], properties=AssetProperties(name=f"{reference.table} of {of}"))
