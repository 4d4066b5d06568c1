"""A lake of 2,000 datasets, and one of 29 million triplets: what opening them and the README's five questions take.

Both are made in seconds: manifests of their own, and one small file of each table under all names, with hard links.
CPU seconds of this process, the best of several; each has a time that it must stay under, and the first question, which
manifests answer, is compared with reading every text.

    python bench/lake.py [--datasets 2000] [--parts 580]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import row
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.manifest import MANIFEST
from scot_core.lake.names import part_name
from scot_core.lake.schema import schema_of
from scot_core.query import connect, query

ROWS = 50_000  # in each part of the larger lake
UNDER = {"connect": 0.1, "query": 0.2, "question": 1.0}  # seconds
FASTER = 10.0  # what a manifest knows, against reading it
README = Path(__file__).resolve().parents[1] / "README.md"
READ = "select kind, count(*), avg(length(modification)) from triplets group by 1"


def committed(lake: Lake, table: str, stage: str, count: int) -> Dataset:
    """One part of rows that are nobody's: every text another one, as long as modification texts are."""
    rng, words = random.Random(0), [f"w{number:03d}" for number in range(400)]
    few = {name: [f"{name} {number}" for number in range(4)] for name in ("kind", "reason", "stage", "source", "model")}

    def column(field: pa.Field) -> list[Any]:
        if field.name in few:
            return rng.choices(few[field.name], k=count)
        if pa.types.is_string(field.type):
            return [" ".join(rng.choices(words, k=rng.randint(4, 8))) for _ in range(count)]
        return [1] * count

    draft = lake.draft(Identity(table, "synthetic", stage, fingerprint(table + stage, 1, {}, []), {}))
    draft.write_part(0, {field.name: column(field) for field in schema_of(table) if field.name != "key"})
    return draft.commit(1, rows_in=count)


def stretched(lake: Lake, dataset: Dataset, count: int) -> None:
    """The dataset with its one part under so many names."""
    manifest, folder = dataset.manifest, Path(lake.url, dataset.name)
    part, rows, characters = manifest.parts[0], manifest.rows.out * count, manifest.characters or {}
    for index in range(1, count):
        os.link(folder / part.name, folder / part_name(index))
    more = {
        "parts": tuple(part.model_copy(update={"name": part_name(index)}) for index in range(count)),
        "rows": manifest.rows.model_copy(update={"given": rows, "out": rows}),
        "characters": {name: number * count for name, number in characters.items()},
    }
    (folder / MANIFEST).write_bytes(manifest.model_copy(update=more).encode())


def repeated(lake: Lake, dataset: Dataset, count: int) -> None:
    """So many datasets that differ in their fingerprints."""
    for number in range(count):
        identity = Identity(dataset.table, "synthetic", dataset.stage, fingerprint("x", number, {}, []), {})
        folder = Path(lake.url, identity.folder)
        folder.mkdir()
        os.link(lake.storage.path(dataset.paths[0]), folder / part_name(0))
        itself = {"key": identity.key, "fingerprint": identity.fingerprint}
        (folder / MANIFEST).write_bytes(dataset.manifest.model_copy(update=itself).encode())


def questions() -> list[str]:
    """The README's, as they stand there."""
    text = README.read_text().partition("## Five questions in SQL")[2].split("```")[1].removeprefix("sql")
    asked = "\n".join(line for line in text.splitlines() if not line.startswith("--")).split(";")
    return [question for question in asked if question.strip()]


def best(work: Callable[[], Any], times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def within(what: str, seconds: float, allowed: float) -> bool:
    print(f"{what:32s} {seconds:6.3f} s   at most {allowed:.2f} s", flush=True)
    row(what, "the time allowed", allowed / max(seconds, 1e-3), 1.0)
    return seconds <= allowed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=2000)
    parser.add_argument("--parts", type=int, default=580, help=f"of {ROWS:,} rows")
    arguments = parser.parse_args()
    good = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["SCOT_CACHE"] = f"{place}/cache"
        many = Lake(f"{place}/many")
        for table in ("replies", "triplets", "rejects", "combiners"):
            repeated(many, committed(many, table, "generate", 3), arguments.datasets // 4)
        time.sleep(2.1)  # an index takes no manifest that changed a moment ago
        many.shown()
        shown = f"{arguments.datasets:,} datasets"
        good.append(within(f"connect, {shown}", best(lambda: connect(many).close(), 9), UNDER["connect"]))
        counting = "select count(*) from runs"
        good.append(within(f"query, {shown}", best(lambda: query(many, counting), 9), UNDER["query"]))
        large = Lake(f"{place}/large")
        stretched(large, committed(large, "triplets", "generate", ROWS), arguments.parts)
        stretched(large, committed(large, "rejects", "generate", ROWS), arguments.parts // 10)
        for table in ("adapters", "replies", "benchmarks"):
            committed(large, table, "generate", 500)
        taken = []
        for number, question in enumerate(questions(), start=1):
            taken.append(best(partial(query, large, question), 3))
            good.append(within(f"question {number}, {arguments.parts * ROWS:,} rows", taken[-1], UNDER["question"]))
        read = best(lambda: query(large, READ), 3)
        print(f"{'question 1 by reading':32s} {read:6.3f} s", flush=True)
        row("question 1, by manifests", "reading every text", read / taken[0], FASTER)
        good.append(read >= FASTER * taken[0])
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
