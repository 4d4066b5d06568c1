"""A composed query over 13,000 images: warm, in a program that asks again, against cold, in a process that asks once.

Cold is what `scot search` does: Python starts, torch loads, and with it the Combiner, the encoder and the vectors. Warm
is the next question to the same `Searcher`. Both are CPU seconds, medians; pictures, their vectors and a Combiner of
the demo's size are made first, in a folder that goes. One thread unless told otherwise.

    python bench/search.py [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import row as told
from scot_core.combiner import Combiner
from scot_core.config import CaptionsConfig, EmbedConfig
from scot_core.lake import Lake
from scot_core.search import Searcher
from scot_core.stages.captions import captions
from scot_core.stages.embed.images import embed_images
from scot_core.stages.step import Committed, Work

IMAGES, SIZE = 13_000, 512  # of the Combiner's layers
COLD, WARM, FIRST = 3, 50, 5
TEXT = "in blue instead"
REQUIRED = 20.0  # times as much work as a warm query that a cold one is
GOAL_MS = 20.0  # of a warm query


def here(step: Work) -> Committed:
    """Run a step in this thread."""
    with step:
        for shard in range(len(step.shards())):
            step.run(shard, lambda _: None)
        return step.commit()


def prepare(folder: Path) -> None:
    """A lake of pictures and their vectors, a Combiner in a folder, and a reference."""
    lake = Lake(folder / "lake")
    pictures = captions(here, lake, CaptionsConfig(count=IMAGES, queries_per_split=1, gallery=60)).captions
    vectors = here(embed_images(lake, EmbedConfig(), pictures))["embeddings"]
    combiner = Combiner(vectors.config["spec"]["dim"], SIZE, SIZE)
    combiner.encoder = vectors.config["spec"]
    combiner.save(folder / "combiner")
    row = pictures.read_part(0, ["image"])["image"][0]
    (folder / "reference.png").write_bytes(row["bytes"].as_py())


def warm(folder: Path) -> list[float]:
    """CPU seconds of each query but the first few, which read pictures into memory."""
    searcher = Searcher(folder / "lake", combiner=folder / "combiner")
    assert len(searcher.ids) >= IMAGES
    seconds = []
    for _ in range(FIRST + WARM):
        start = time.process_time()
        searcher.search(folder / "reference.png", TEXT)
        seconds.append(time.process_time() - start)
    return seconds[FIRST:]


def cold(folder: Path) -> float:
    """CPU seconds of the command."""
    options = {"lake": folder / "lake", "combiner": folder / "combiner", "image": folder / "reference.png"}
    named = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "scot.cli", "search", *named, "--text", TEXT]
    subprocess.run(command, cwd=Path(__file__).resolve().parents[1], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(warm(arguments.measure)))
        return 0
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        once = statistics.median(cold(folder) for _ in range(COLD))
        command = [sys.executable, __file__, "--measure", name]
        again = statistics.median(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    told(f"warm query, {IMAGES:,} images", "`scot search`, a process each", once / again, REQUIRED)
    row = {"images": IMAGES, "ratio": once / again, "cold_s": once, "warm_s": again}
    if arguments.json:
        print(json.dumps(row))
    else:
        print(
            f"search, {IMAGES:,} images {row['ratio']:6.1f} x   {1000 * again:.1f} ms warm against {once:.2f} s cold "
            f"(goal {GOAL_MS:.0f} ms)"
        )
    return 0 if row["ratio"] >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
