"""Ray against threads on the same work: drawn pictures embedded, once in this process and once by actors.

Each writes into a lake of its own, and what they write must be the same bytes.

The first figure of Ray includes the start of its actors, each of which loads the encoder; the second begins when all
have done a shard, and is what a long step sees.

    SCOT_RAY=auto python bench/spread.py [--images 2000] [--json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("SCOT_RAY", "local")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # an actor has one CPU: this process gets as many as there are shards at once

from bench.table import not_measured
from bench.table import row as told
from scot_core.config import CaptionsConfig, EmbedConfig
from scot_core.lake import Dataset, Lake
from scot_core.stages.captions.catalogue import draw_captions
from scot_core.stages.embed.images import embed_images
from scot_core.stages.step import Work
from tasks.spread import Hands, hands_of


def run(step: Work, hands: Hands) -> list[float]:
    """Moments at which shards were done, in seconds from the start."""
    started, done = time.perf_counter(), list[float]()

    def shard(number: int) -> None:
        hands.run(number, lambda _: None)
        done.append(time.perf_counter() - started)

    with ThreadPoolExecutor(hands.parallel) as threads:
        list(threads.map(shard, range(len(step.shards()))))
    return sorted(done)


def measure(given: Dataset, folder: Path, spread: bool) -> dict[str, Any]:
    """Seconds, images a second once all hands are at work, and the digests of what was written."""
    step = embed_images(Lake(folder), EmbedConfig(encoder="catalogue"), given)
    sizes = step.shards()
    if spread:
        with step, hands_of(step) as hands:
            done, parallel = run(step, hands), hands.parallel
            committed = step.commit()["embeddings"]
    else:
        with step:
            done, parallel = run(step, step), step.parallel
            committed = step.commit()["embeddings"]
    rate = sum(sizes[parallel:]) / (done[-1] - done[parallel - 1])
    return {
        "seconds": done[-1],
        "hands": parallel,
        "images_a_second": rate,
        "digests": [p.digest for p in committed.parts],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        print("Ray is not installed: nothing to compare")
        not_measured("shards on Ray", "threads", "Ray is not installed")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        with draw_captions(Lake(Path(folder, "drawn")), CaptionsConfig(count=arguments.images, shard_rows=100)) as draw:
            run(draw, draw)
            given = draw.commit()["captions"]
        threads, ray = (measure(given, Path(folder, str(spread)), spread) for spread in (False, True))
    same = threads.pop("digests") == ray.pop("digests")
    told("shards on Ray", "threads", ray["images_a_second"] / threads["images_a_second"])
    if arguments.json:
        print(json.dumps({"threads": threads, "ray": ray, "same": same}))
    else:
        for name, row in (("threads", threads), ("ray", ray)):
            print(
                f"{name:8s} {row['seconds']:7.1f} s, {row['hands']} at once, then {row['images_a_second']:.0f} images/s"
            )
        print("the same bytes" if same else "NOT the same bytes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
