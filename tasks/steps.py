"""Any step of `scot_core.stages` as Prefect task runs: one a shard, one for the commit.

Prefect's own result cache stays off: the lake's manifests say what is done, and a step that finds its
datasets committed ends in a state named `Cached`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from scot_core.stages.progress import LISTENERS, Meter, Stopped, tell
from scot_core.stages.step import Committed, Step, Work
from tasks import assets
from tasks.progress import ProgressArtifact
from tasks.said import Said
from tasks.states import completed, failure_of


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def reuse(name: str, found: Sequence[str]) -> State:
    """A step whose datasets are committed already."""
    return completed(", ".join(found), cached=True)


@task(task_run_name="{name}: shard {shard}", cache_policy=NO_CACHE)
def run_shard(step: Work, shard: int, name: str, meter: Meter, room: threading.Semaphore) -> State | None:
    """One shard; a shard that is in the lake already ends as `Cached`."""
    with room:
        try:
            worked = step.run(shard, meter.tick)
        except BaseException:
            meter.stop()  # what fails one shard, a dead endpoint say, must not be waited for once a shard
            raise
    return None if worked else completed("this part is in the lake", cached=True)


def commit(step: Step, name: str) -> list[dict[str, object]]:
    """Check the row counts and write the manifests. Returns the records of the datasets."""
    datasets = step.commit().values()
    for dataset in datasets:
        assets.tell(step.lake, dataset)
    return [asdict(dataset.record) for dataset in datasets]


def raise_first_failure(futures: Sequence[PrefectFuture[State | None]]) -> None:
    """Wait for all; raises what the first failed shard raised: those that were only told to stop come after it."""
    ends = [failure_of(future.wait() or future.state) for future in futures]
    failures = [failure for failure in ends if failure is not None]
    if failures:
        raise next((failure for failure in failures if not isinstance(failure, Stopped)), failures[0])


def run_step(step: Work) -> Committed:
    """Run work as tasks of the current flow run; returns the committed datasets where it is a step.

    Raises what it raised; shards that were done stay in the lake.
    """
    listeners = (*LISTENERS.get(), Said())
    found = step.committed()
    if found is not None:
        reuse(step.name, [dataset.name for dataset in found.values()])
        for listener in listeners:
            tell(listener, lambda to: to.end(step, cached=True))
        return found
    artifact = ProgressArtifact()
    meter = Meter(step, (*listeners, artifact))
    room = threading.Semaphore(step.parallel)
    with step, artifact:
        try:
            futures = [run_shard.submit(step, shard, step.name, meter, room) for shard in range(len(step.shards()))]
            raise_first_failure(futures)
        except BaseException:
            meter.stop()
            raise
        if isinstance(step, Step):
            assets.materializing(step, commit, "{name}: commit")(step, step.name)
    for listener in listeners:
        tell(listener, lambda to: to.end(step, cached=False))
    return step.committed() or {}
