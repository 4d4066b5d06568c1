"""The command line `scot`. Exit codes: 0 done, 1 failed, 2 bad usage, 130 stopped by Ctrl-C.

A command's module is loaded when the command is asked for, and what it needs when it needs it.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import Final

from cyclopts import App

from scot_core.errors import ConfigError, ScotError
from scot_core.garbage import leave, look_seldom

COMMANDS: Final = {  # each with the first paragraph of its own help
    "run": ("scot.work:run", "Run every stage of a profile here; what is committed already is reused."),
    "plan": (
        "scot.work:plan",
        "What a profile would do and cost, and what is missing on this machine. Nothing is run.",
    ),
    "benchmark": (
        "scot.work:benchmark",
        "Measure a Combiner and the baselines on FashionIQ, CIRR or CIRCO, or on queries of one's own.",
    ),
    "methods": (
        "scot.methods:methods",
        "Every way of composing a query, on the same queries: values, paired differences, and what each costs.",
    ),
    "study": (
        "scot.study:study",
        "A study of the paper: its grid of Combiners is trained and measured, and what was found is said in a "
        "sentence.",
    ),
    "status": (
        "scot.look:status",
        "What is in the lake: datasets, rows, cost, and work that was begun but not committed.",
    ),
    "query": ("scot.look:query", "One SELECT over the lake's views, with DuckDB."),
    "search": ("scot.look:search", "Search the lake's images with a reference image and a modification text."),
    "report": ("scot.look:report", "Write the HTML report of the newest benchmark and say where it is."),
    "merge": (
        "scot.work:merge",
        "Write the tuned model as a folder that any server loads, and say how to serve it.",
    ),
    "check": (
        "scot.check:check",
        "Compare a lake with what was committed: digests, footers and row counts of its newest datasets, views, "
        "records.",
    ),
    "backfill": (
        "scot.backfill:backfill",
        "Do those shards of a table again, and only those, that hold rows of which a condition is true.",
    ),
    "runs": (
        "scot.generations:runs",
        "The generations of a lake, oldest first: what each ended in, when, by which Scot, and which one is promoted.",
    ),
    "diff": (
        "scot.generations:diff",
        "Two generations side by side: settings that differ, rows, reasons of rejects, quality of the tuned model, "
        "scores.",
    ),
    "promote": (
        "scot.generations:promote",
        "Put a generation into use: `scot search` and `scot benchmark` take its Combiner, whatever is newer.",
    ),
    "rollback": (
        "scot.generations:rollback",
        "Put the generation into use again that was promoted before the present one.",
    ),
    "gc": (
        "scot.generations:gc",
        "What no kept generation needs, and how many bytes that is; with --yes it is removed. Not beside a run.",
    ),
    "doctor": (
        "scot.look:doctor",
        "Check this machine: libraries, shipped weights, lake, server, memory, published benchmarks.",
    ),
    "settings": (
        "scot.look:settings_",
        "Every setting that --set takes: its type, its value in profile catalogue, and what it does.",
    ),
}


def make_app(words: Sequence[str]) -> App:
    """The program as it is called with these words: with all of one command's help, or a line of each."""
    app = App(
        name="scot",
        help="Composed image retrieval from captioned images. Start with: scot run",
        version=partial(version, "scot"),
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,  # main() says what is kept
    )
    listed = not COMMANDS.keys() & set(words)
    for name, (place, summary) in COMMANDS.items():
        app.command(place, name=name, **({"help": summary} if listed else {}))
    return app


app = make_app(sys.argv[1:])


def main() -> None:
    """Entry point: errors Scot raises on purpose are printed in a line or two, without a traceback."""
    look_seldom()
    try:
        _main()
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        leave(ended.code or 0)
    leave(0)


def _main() -> None:
    _quiet_libraries()
    try:
        app()
    except ScotError as error:
        _say(("error: ", "red"), str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        _say("stopped; what was finished is kept, the same command goes on from there")
        sys.exit(130)


def _say(*parts: str | tuple[str, str]) -> None:
    from scot.options import err
    from scot.terminal import say

    say(err, *parts)


def _quiet_libraries() -> None:
    """Progress and errors are this program's to show; libraries speak up only about errors."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name in ("stamina", "httpx", "httpx2", "openai", "huggingface_hub", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
