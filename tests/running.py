"""Steps run in the test's own thread."""

from __future__ import annotations

from scot_core.stages.step import Committed, Tick, Work


def run_here(work: Work, tick: Tick = lambda _: None) -> Committed:
    """Run it in this thread, shard by shard, and commit it; at once where it is committed already."""
    found = work.committed()
    if found is not None:
        return found
    with work:
        for shard in range(len(work.shards())):
            work.run(shard, tick)
        return work.commit()
