"""The commands that people wait for, each a process of its own, beside what its libraries take to be imported.

Seconds on the wall, the least of several turns: a command and its imports alone are taken one after the other. A small
lake is made first, by `scot run`, in a folder that goes. A command cannot take less than its imports.

    python bench/commands.py [--turns 7]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import row

HOME = Path(__file__).resolve().parents[1]
SMALL = ("captions.count=150", "captions.queries_per_split=4", "captions.gallery=90", "generate.writer=mined",
         "train.steps=20", "train.seeds=0", "benchmark.resamples=50")  # fmt: skip
RUN = ["run", "--profile", "smoke", *(word for setting in SMALL for word in ("--set", setting))]
LAKE = "import cyclopts, fsspec, pydantic_settings, rich.table"


class Asked(NamedTuple):
    """A command, the seconds that it may take, and imports that it cannot do without."""

    words: list[str]
    allowed: float
    imports: str


COMMANDS: Final = {
    "scot --help": Asked(["--help"], 0.2, "import cyclopts"),
    "scot plan": Asked(["plan"], 1.0, f"{LAKE}, pyarrow.parquet"),
    "scot doctor": Asked(["doctor"], 1.0, f"{LAKE}, numpy"),
    "scot query": Asked(["query", "select kind, count(*) from triplets group by 1"], 0.4, f"{LAKE}, duckdb"),
    "scot search, cold": Asked(
        ["search", "--image", "lake/pictures/reference-000000.png", "--text", "in red instead"], 1.0, "import torch"
    ),
    "scot run, again": Asked(RUN, 3.0, f"{LAKE}, pyarrow.parquet"),
}


def seconds(words: list[str], folder: Path) -> float:
    """Of a Python process in a folder; it must end well."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("SCOT_", "PREFECT_"))}
    environment = {**known, "PYTHONPATH": str(HOME), "PREFECT_HOME": str(folder / "prefect")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    took = time.perf_counter() - start
    assert done.returncode == 0, done.stderr[-2000:]
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as name:
        folder, scot = Path(name), ["-m", "scot.cli"]
        print(f"a small lake, made in {seconds([*scot, *RUN], folder):.0f} s", flush=True)
        for what, asked in COMMANDS.items():
            times = [(seconds([*scot, *asked.words], folder), seconds(["-c", asked.imports], folder))
                     for _ in range(turns)]  # fmt: skip
            took, imports = (min(column) for column in zip(*times, strict=True))
            by = f"`{asked.imports}`" if len(asked.imports) < 20 else "importing its libraries"
            row(what, f"{asked.allowed:.1f} s", asked.allowed / took, 1.0, bound=asked.allowed / imports, by=by)
            print(f"{what:18} {took:.2f} s, of {asked.allowed:.1f}; {asked.imports}: {imports:.2f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
