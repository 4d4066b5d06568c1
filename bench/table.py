"""Every comparison of this folder, and in the end one table of them: what `make bench` runs.

A script tells its rows by `row` and `not_measured`, which write them down where BENCH_ROWS says. A ratio is that of the
named alternative's cost to ours, so that more is better, and the goal is the least it may be.

    python bench/table.py [SCRIPT ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import short_name

HERE = Path(__file__).resolve().parent
ROWS = "BENCH_ROWS"
NO_COMPARISON = {"machine", "table"}


class Row(TypedDict):
    """A line of the table; without a ratio, `note` says why nothing was measured.

    `bound` is the ratio that there would be if nothing but what `by` names were done, measured in the same run.
    """

    what: str
    against: str
    ratio: float | None
    goal: float | None
    machine: str
    note: str
    bound: float | None
    by: str


def row(
    what: str, against: str, ratio: float, goal: float | None = None, *, machine: str | None = None,
    bound: float | None = None, by: str = "",
) -> None:  # fmt: skip
    """A comparison that was made; without a goal it is there to be known."""
    _write(
        {"what": what, "against": against, "ratio": ratio, "goal": goal, "machine": machine or short_name(), "note": "",
         "bound": bound, "by": by}
    )  # fmt: skip


def not_measured(what: str, against: str, why: str, goal: float | None = None) -> None:
    """A comparison that this machine does not allow."""
    _write(
        {"what": what, "against": against, "ratio": None, "goal": goal, "machine": short_name(), "note": why,
         "bound": None, "by": ""}
    )  # fmt: skip


def _write(line: Row) -> None:
    if ROWS in os.environ:
        with Path(os.environ[ROWS]).open("a") as file:
            file.write(json.dumps(line) + "\n")


def shown(rows: Iterable[Row]) -> list[str]:
    """The table's lines, columns as wide as they need be."""
    cells = [("what", "against", "ratio", "goal", "", "machine")]
    for one in rows:
        ratio, goal = (("-" if figure is None else f"{figure:.2f} x") for figure in (one["ratio"], one["goal"]))
        cells.append((one["what"], one["against"], ratio, goal, one["note"] or _verdict(one), one["machine"]))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _verdict(one: Row) -> str:
    if one["ratio"] is None or one["goal"] is None:
        return ""
    if one["ratio"] >= one["goal"]:
        return "reached"
    return "missed" if one["bound"] is None else f"missed; {one['bound']:.2f} x by {one['by']} alone"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", help="names without .py; all of them where there is none")
    names = parser.parse_args().scripts or sorted(
        path.stem for path in HERE.glob("*.py") if path.stem not in NO_COMPARISON
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows"
        file.touch()
        environment = {**os.environ, ROWS: str(file)}
        failed = [
            name for name in ["machine", *names]
            if subprocess.run([sys.executable, str(HERE / f"{name}.py")], env=environment, check=False).returncode
        ]  # fmt: skip
        rows: list[Row] = [json.loads(line) for line in file.read_text().splitlines()]
    print("", *shown(rows), sep="\n")
    print("\n".join(f"{name} ended with an error, or below what it requires" for name in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
