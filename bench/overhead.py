"""What Prefect adds to a shard, and how many threads a step takes, against a loop by hand over the same shards.

The shards do nothing but note how many threads there are, so that what is measured is all overhead. The server is the
one that `scot run` brings, with a database of its own.

    python bench/overhead.py [--parallel 1] [--json] [SHARDS ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scot.embedded import embedded_server
from scot_core.lake import Lake
from scot_core.stages.step import Tick, Work

SHARDS = (30, 300, 3000)


class Nothing(Work):
    """Shards of one row each."""

    stage, name, folder = "bench", "do nothing", "bench"

    def __init__(self, lake: Lake, shards: int, parallel: int) -> None:
        super().__init__(lake)
        self._shards, self.parallel = shards, parallel
        self.threads = 0

    def shards(self) -> Sequence[int]:
        return [1] * self._shards

    def work(self, shard: int, tick: Tick) -> None:
        self.threads = max(self.threads, threading.active_count())
        tick(1)


def by_hand(work: Work) -> float:
    """Seconds of a loop."""
    started = time.perf_counter()
    with work:
        for shard in range(len(work.shards())):
            work.run(shard, lambda _: None)
    return time.perf_counter() - started


def by_prefect(work: Work) -> tuple[float, float]:
    """Seconds of `run_step` in a flow run, and of them those that this process computed, which others cannot change."""
    from prefect import flow

    from tasks.steps import run_step

    @flow(name="overhead")
    def measured() -> tuple[float, float]:
        started, computed = time.perf_counter(), time.process_time()
        run_step(work)
        return time.perf_counter() - started, time.process_time() - computed

    seconds: tuple[float, float] = measured()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", nargs="*", type=int, default=SHARDS)
    parser.add_argument("--parallel", type=int, default=1, help="shards at once")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each number of shards")
    arguments = parser.parse_args()
    os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"
    with tempfile.TemporaryDirectory() as home:
        os.environ["PREFECT_HOME"] = home
        with embedded_server() as server:
            os.environ["PREFECT_API_URL"] = server.url
            server.wait_until_ready()
            by_prefect(Nothing(Lake(home), 4, arguments.parallel))  # imports, connections
            for count in arguments.shards:
                work = Nothing(Lake(home), count, arguments.parallel)
                before = threading.active_count()
                waited, computed = by_prefect(work)
                row = {
                    "shards": count,
                    "ms_a_shard": 1000 * waited / count,
                    "cpu_ms_a_shard": 1000 * computed / count,
                    "ms_by_hand": 1000 * by_hand(Nothing(Lake(home), count, 1)) / count,
                    "threads": work.threads - before,
                }
                if arguments.json:
                    print(json.dumps(row), flush=True)
                else:
                    print(
                        f"{count:5d} shards {row['ms_a_shard']:7.2f} ms a shard ({row['cpu_ms_a_shard']:.2f} of CPU), "
                        f"by hand {row['ms_by_hand']:.4f} ms, {row['threads']} more threads",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
