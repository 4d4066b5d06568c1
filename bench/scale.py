"""A lake of 58,000 parts, as 29 million captions make in shards of 500: what Scot itself costs there.

The parts are one small file under 58,000 names, so that nothing but Scot's own work is measured: finding a dataset and
checking that all of it is there, what a run that was killed looks at before it goes on, the commit, the views and
questions. CPU seconds of this process; each has a time that it must stay under.

    python bench/scale.py [--parts 58000] [--rows 500]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import row
from scot_core.lake import Identity, Lake, parts
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.names import part_name
from scot_core.lake.schema import schema_of
from scot_core.query import connect, query

TABLE = "triplets"
UNDER = {"resume": 30.0, "commit": 30.0, "find": 6.0, "connect": 6.0, "count": 60.0, "runs": 6.0}  # seconds, of 58,000
FULL = 58_000


def rows(identity: Identity, count: int) -> pa.Table:
    schema = schema_of(TABLE)
    columns = {f.name: [f"{f.name} {i}" for i in range(count)] for f in schema if pa.types.is_string(f.type)}
    return pa.table({**columns, "key": [identity.key] * count}, schema=schema)


def linked(lake: Lake, identity: Identity, count: int, per_part: int) -> None:
    """The parts of a run that was killed before its commit: one file under all their names."""
    folder = Path(lake.url, identity.folder)
    folder.mkdir(parents=True)
    first = folder / part_name(0)
    first.write_bytes(parts.encode(rows(identity, per_part), identity.fingerprint))
    for index in range(1, count):
        os.link(first, folder / part_name(index))


def timed(what: str, work: Callable[[], Any], share: float, slow: list[str]) -> Any:
    start = time.process_time()
    result = work()
    seconds = time.process_time() - start
    print(f"{what:8s} {seconds:7.2f} s   at most {UNDER[what] * share:.1f} s", flush=True)
    row(f"{what}, {round(FULL * share):,} parts", "the time allowed", UNDER[what] * share / max(seconds, 1e-3), 1.0)
    if seconds > UNDER[what] * share:
        slow.append(what)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=FULL)
    parser.add_argument("--rows", type=int, default=500, help="in each part")
    arguments = parser.parse_args()
    count, slow = arguments.parts, list[str]()
    share = max(count / FULL, 0.05)
    with tempfile.TemporaryDirectory() as place:
        lake = Lake(place)
        identity = Identity(TABLE, "synthetic", "generate", fingerprint("generate", 1, {}, []), {})
        linked(lake, identity, count, arguments.rows)
        draft = lake.draft(identity)
        timed("resume", lambda: all(draft.has_part(index) for index in range(count)), share, slow)
        timed("commit", lambda: draft.commit(count, rows_in=count * arguments.rows), share, slow)
        timed("find", lambda: lake.find(identity), share, slow)
        timed("connect", lambda: connect(lake).close(), share, slow)
        counted = timed("count", lambda: query(lake, f"select count(*) as n from {TABLE}"), share, slow)
        timed("runs", lambda: query(lake, "select sum(rows_out) from runs where newest"), share, slow)
    if counted["n"][0].as_py() != count * arguments.rows:
        print("scale: rows are missing", file=sys.stderr)
        return 1
    print("\n".join(f"{what} is too slow" for what in slow), end="\n" * bool(slow), file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
