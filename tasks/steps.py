"""Any step of `scot_core.stages` as Prefect task runs: one a shard, or a few shards, and one for the commit.

Prefect's own result cache stays off: the lake's manifests say what is done, and a step that finds its
datasets committed ends in a state named `Cached`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from scot_core.errors import ScotError
from scot_core.stages.progress import LISTENERS, Meter, Stopped, tell
from scot_core.stages.step import Committed, Step, Work
from tasks import assets
from tasks.progress import ProgressArtifact
from tasks.said import Said
from tasks.spread import Hands, hands_of
from tasks.states import completed, failed, failure_of

# Of one step at most, unless more shards are worked on at once: a page with thousands of them shows nothing.
TASK_RUNS = 64


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def reuse(name: str, found: Sequence[str]) -> State:
    """A step whose datasets are committed already."""
    return completed(", ".join(found), cached=True)


@task(task_run_name="{name}: {which}", cache_policy=NO_CACHE)
def run_shards(hands: Hands, shards: range, name: str, which: str, meter: Meter) -> State | None:
    """A few shards, one after the other; ends as `Cached` where they are in the lake already."""
    try:
        worked = [hands.run(shard, meter.tick) for shard in shards]
    except BaseException as error:
        meter.stop()  # what fails one shard, a dead endpoint say, must not be waited for once a shard
        if isinstance(error, ScotError):
            return failed(error)
        raise
    return None if any(worked) else completed("these parts are in the lake", cached=True)


def commit(step: Step, name: str) -> list[dict[str, object]]:
    """Check the row counts and write the manifests. Returns the records of the datasets."""
    datasets = step.commit().values()
    for dataset in datasets:
        assets.tell(step.lake, dataset)
    return [asdict(dataset.record) for dataset in datasets]


def run_all(hands: Hands, step: Work, meter: Meter, threads: Executor) -> None:
    """Run all shards, begun in order, as many at once as there are hands; none is begun after one has failed.

    Raises what the first failed shard raised: those that were only told to stop come after it.
    """
    bundles = _bundles(len(step.shards()), hands.parallel)
    left = iter(bundles)
    failures: list[BaseException] = []

    def work() -> None:
        for shards in left:  # each step of the iterator is one call in C: threads share it
            which = f"shard {shards[0]}" if len(shards) == 1 else f"shards {shards[0]}-{shards[-1]}"
            failure = failure_of(run_shards(hands, shards, step.name, which, meter, return_state=True))
            if failure is not None:
                failures.append(failure)
            if failures or meter.stopped:
                return

    for done in [threads.submit(copy_context().run, work) for _ in bundles[: hands.parallel]]:
        done.result()
    if failures:
        raise next((failure for failure in failures if not isinstance(failure, Stopped)), failures[0])


def _bundles(shards: int, parallel: int) -> list[range]:
    """Neighbouring shards that share a task run, which costs some milliseconds, and rows of Prefect's database."""
    size = max(1, math.ceil(shards / max(TASK_RUNS, 8 * parallel)))
    return [range(start, min(start + size, shards)) for start in range(0, shards, size)]


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
    # threads end last: what a step holds, and its actors, are given back before shards are waited for
    with ThreadPoolExecutor(sys.maxsize, "shards") as threads, step, hands_of(step) as hands, artifact:
        try:
            run_all(hands, step, meter, threads)
        except BaseException as error:
            meter.stop()
            if isinstance(error, Exception):  # else somebody stopped the run
                for listener in listeners:
                    tell(listener, lambda to: to.fail(step))
            raise
        if isinstance(step, Step):
            assets.materializing(step, commit, "{name}: commit")(step, step.name)
    for listener in listeners:
        tell(listener, lambda to: to.end(step, cached=False))
    return step.committed() or {}
