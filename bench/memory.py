"""How much memory the stages take that go over every row: the peak of each at two sizes, in a process of its own.

The lake is made for the purpose: short captions, one in ten of which is another's too, replies of which a quarter are
no triplets, a second try of those, and vectors of eight numbers. A peak is the operating system's for the whole
process (VmHWM), without what it was after the imports. What grows with the rows shows between the sizes.

    python bench/memory.py [--rows 50000 500000] [--only read ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import not_measured, row
from scot_core.config import EmbedConfig, EndpointConfig, GenerateConfig, SeedConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.schema import schema_of
from scot_core.stages.embed.texts import EmbedTexts, embed_texts
from scot_core.stages.embed.vectors import spec_for
from scot_core.stages.finetune import Finetune
from scot_core.stages.generate.joined import JoinTriplets
from scot_core.stages.generate.local import Write
from scot_core.stages.generate.mined import MineTriplets
from scot_core.stages.replies.read import ReadReplies
from scot_core.stages.seed.work import SeedWork
from scot_core.stages.step import Step
from scot_core.stages.train import training_set
from scot_core.vectors import Vectors

PART, DIM, WAYS = 10_000, 8, 2
GOAL_MB = 500.0


class Eight:
    """An encoder that costs nothing."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), DIM), np.float32)


def made(lake: Lake, table: str, stage: str, rows: Sequence[int], columns: Callable[[Sequence[int]], Mapping[str, Any]]
         ) -> Dataset:  # fmt: skip
    draft = lake.draft(Identity(table, "s", stage, fingerprint(stage, 1, {}, []), {"what": stage}))
    starts = range(0, len(rows), PART)
    for shard, start in enumerate(starts):
        draft.write_part(
            shard, {"source": ["s"] * len(rows[start : start + PART]), **columns(rows[start : start + PART])}
        )
    return draft.commit(len(starts), rows_in=len(rows))


def caption(number: int) -> str:
    return f"a photograph of thing number {number - (number % 20 == 1)} beside a red mug on a table"


def named(rows: Sequence[int]) -> dict[str, Any]:
    return {
        "pair_id": [f"{n:032x}" for n in rows],
        "image_id": [f"im{n}" for n in rows],
        "caption": list(map(caption, rows)),
    }


def captions(rows: Sequence[int]) -> Mapping[str, Any]:
    return {**named(rows), "image": pa.array([None] * len(rows), schema_of("captions").field("image").type)}


def replies(attempt: int) -> Callable[[Sequence[int]], Mapping[str, Any]]:
    def columns(rows: Sequence[int]) -> Mapping[str, Any]:
        same = {"stage": "generate", "model": "m", "attempt": attempt, "prompt_tokens": 30, "completion_tokens": 30,
                "usd": 0.0}  # fmt: skip
        return {
            "pair_id": [f"{n:032x}" for n in rows],
            "seed": list(rows),
            "text": [f"make the mug of number {n // 2} blue\n{caption(n).replace('red', 'blue')}" for n in rows],
            "finish_reason": ["stop" if n % 4 else "length" for n in rows],
            **{name: [value] * len(rows) for name, value in same.items()},
        }

    return columns


def triplets(rows: Sequence[int]) -> Mapping[str, Any]:
    return {
        **named(rows),
        "kind": ["generated"] * len(rows),
        "model": ["m"] * len(rows),
        "modification": [f"make the mug of number {n // 2} blue" for n in rows],
        "modified_caption": [caption(n).replace("red", "blue") for n in rows],
    }


def images(rows: Sequence[int]) -> Mapping[str, Any]:
    flat = pa.array(np.ones(len(rows) * DIM, np.float32))
    return {
        "item_id": [f"im{n}" for n in rows],
        "kind": ["image"] * len(rows),
        "text": [None] * len(rows),
        "encoder": ["e"] * len(rows),
        "vector": pa.FixedSizeListArray.from_arrays(flat, DIM),
    }


def build(lake: Lake, count: int) -> None:
    every = range(count)
    made(lake, "captions", "captions", every, captions)
    made(lake, "replies", "one", every, replies(1))
    made(lake, "replies", "two", range(0, count, 4), replies(2))
    made(lake, "triplets", "triplets", every, triplets)
    made(lake, "embeddings", "images", every, images)


def of(lake: Lake, table: str, stage: str) -> Dataset:
    return lake.table(table).latest(stage=stage)


def finished(step: Step) -> Mapping[str, Dataset]:
    there = step.committed()
    if there is not None:
        return there
    with step:
        for shard in range(len(step.shards())):
            step.run(shard, lambda _: None)
        return step.commit()


def read(lake: Lake) -> None:
    """Replies of two tries become triplets."""
    attempts = [of(lake, "replies", "one"), of(lake, "replies", "two")]
    finished(ReadReplies(lake, "generate", "generated", "lines", of(lake, "captions", "captions"), attempts, "off"))


def second_try(lake: Lake) -> None:
    """Whom the second try asks again."""
    adapters: Any = SimpleNamespace(fingerprint="a" * 32, reference=None, config={}, key="k")
    step = Write(lake, GenerateConfig(filter="off"), of(lake, "captions", "captions"), adapters,
                 (of(lake, "replies", "one"),), devices=("cpu",))  # fmt: skip
    for shard in range(len(step.shards())):
        step.rows(shard)


def seeds(lake: Lake) -> None:
    """Whom the teacher is asked about: 4,000."""
    config = SeedConfig(count=4000, endpoint=EndpointConfig(model="m"))
    work = SeedWork(lake, config, of(lake, "captions", "captions"))
    for shard in range(work.shards):
        work.requests(shard)


def held_out(lake: Lake) -> None:
    """Captions that the tuned model is measured on."""
    from scot_core.config import FinetuneConfig

    drawn = of(lake, "triplets", "triplets")
    seeds: Any = SimpleNamespace(read=lambda names: drawn.read_part(0, names))
    step = object.__new__(Finetune)
    step.__dict__.update(config=FinetuneConfig(), _captions=of(lake, "captions", "captions"), _seeds=seeds)
    step._held_out()


def _eight(step: EmbedTexts) -> EmbedTexts:
    step.__dict__.update(spec=spec_for(step.config, step.lake).model_copy(update={"dim": DIM}), encoder=Eight())
    return step


def _texts(lake: Lake) -> EmbedTexts:
    return _eight(embed_texts(lake, EmbedConfig(shard_rows=PART, batch_size=PART), of(lake, "triplets", "triplets")))


def texts(lake: Lake) -> None:
    """Each different text once, and its vector into the lake."""
    finished(_texts(lake))


def training(lake: Lake) -> None:
    """Triplets and the vectors that they name; those lie in a file, and are not looked at here."""
    given = of(lake, "triplets", "triplets"), of(lake, "embeddings", "images"), finished(_texts(lake))["embeddings"]
    with tempfile.TemporaryDirectory(dir=lake.url) as work:
        training_set(*given, Path(work))


def join(lake: Lake) -> None:
    """Triplets of several kinds."""
    finished(JoinTriplets(lake, [of(lake, "triplets", "triplets")]))


def mine(lake: Lake) -> None:
    """Triplets mined from the captions."""
    finished(MineTriplets(lake, GenerateConfig(writer="mined").mined, of(lake, "captions", "captions")))


ALL = ["read", "second-try", "seeds", "held-out", "texts", "training", "join"]  # mining takes an hour for a million
WORK: Mapping[str, Callable[[Lake], None]] = {
    "read": read, "second-try": second_try, "seeds": seeds, "held-out": held_out, "texts": texts,
    "training": training, "join": join, "mine": mine,
}  # fmt: skip


def status_mb(name: str) -> float:
    """Of this process, as the operating system says it: `VmRSS` now, `VmHWM` at the most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def alone(what: str, lake: str, rows: int) -> dict[str, float]:
    """The work of this name in a process of its own."""
    command = [sys.executable, __file__, "--alone", what, "--lake", lake, "--rows", str(rows)]
    told: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return told


def here(what: str, lake: Lake, rows: int) -> dict[str, float]:
    torch.set_num_threads(1)
    imports = status_mb("VmRSS")
    if what == "build":
        build(lake, rows)
    else:
        WORK[what](lake)
    return {"imports": imports, "beyond": status_mb("VmHWM") - imports, "cpu": time.process_time()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 500_000])
    parser.add_argument("--only", nargs="+", default=ALL, choices=[*WORK])
    parser.add_argument("--lake", help=argparse.SUPPRESS)
    parser.add_argument("--alone", choices=[*WORK, "build"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(here(asked.alone, Lake(asked.lake), asked.rows[0])))
        return 0
    if not Path("/proc/self/status").exists():
        not_measured("memory of a stage", "500 MB", "no /proc here")
        return 0
    large: list[str] = []
    for rows in asked.rows:
        with tempfile.TemporaryDirectory() as lake:
            alone("build", lake, rows)
            for what in asked.only:
                told = alone(what, lake, rows)
                print(f"{what:10s} {rows:>10,} rows {told['beyond']:6.0f} MB beyond {told['imports']:.0f} of imports, "
                      f"{told['cpu']:.0f} s", flush=True)  # fmt: skip
                row(f"memory of {what}, {rows:,} rows", "500 MB", GOAL_MB / told["beyond"], 1.0)
                large += [f"{what} at {rows:,}"] * (told["beyond"] > GOAL_MB)
    print(
        "\n".join(f"{what} takes more than {GOAL_MB:.0f} MB" for what in large), end="\n" * bool(large), file=sys.stderr
    )
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
