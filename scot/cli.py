"""The command line `scot`. Exit codes: 0 done, 1 failed, 2 bad usage, 130 stopped by Ctrl-C."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from functools import partial
from importlib.metadata import version

from cyclopts import App

from scot.backfill import backfill
from scot.check import check
from scot.generations import diff, gc, promote, rollback, runs
from scot.look import doctor, query, report, search, settings_, status
from scot.methods import methods
from scot.options import err
from scot.terminal import say
from scot.work import benchmark, merge, plan, run
from scot_core.errors import ConfigError, ScotError

app = App(
    name="scot",
    help="Composed image retrieval from captioned images. Start with: scot run",
    version=partial(version, "scot"),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # main() says what is kept
)
for command in (
    run,
    plan,
    benchmark,
    methods,
    status,
    query,
    search,
    report,
    merge,
    check,
    backfill,
    runs,
    diff,
    promote,
    rollback,
    gc,
    doctor,
):
    app.command(command)
app.command(settings_, name="settings")


def main() -> None:
    """Entry point: errors Scot raises on purpose are printed in a line or two, without a traceback."""
    _quiet_libraries()
    try:
        app()
    except ScotError as error:
        say(err, ("error: ", "red"), str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        say(err, "stopped; what was finished is kept, the same command goes on from there")
        sys.exit(130)


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
