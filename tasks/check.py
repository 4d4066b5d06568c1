"""The look at the lake that a scheduled run may begin with."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from scot_core.errors import LakeError
from scot_core.lake import Lake
from scot_core.lake.check import check
from tasks.states import completed

NAMED = 5


@task(task_run_name="check the lake", cache_policy=NO_CACHE)
def check_lake(lake: Lake) -> State:
    """Compare what the newest datasets are with what was committed. Raises LakeError naming what is damaged."""
    found = check(lake)
    if found.damages:
        named = "; ".join(f"{damage.file} {damage.why}" for damage in found.damages[:NAMED])
        raise LakeError(f"{len(found.damages)} damaged files in {lake.url} ({named}): `scot check --repair` mends that")
    return completed(f"{found.files:,} files, {found.bytes / 1e6:,.1f} MB: as committed", cached=False)
