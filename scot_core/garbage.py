"""Python's search for garbage, made seldom: what a process of Scot loads, hundreds of thousands of objects, stays, also
at its end.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn


def look_seldom() -> None:
    """Look once for 50,000 new objects, not for 700: that was a tenth of `scot query`."""
    gc.set_threshold(50_000)


@contextmanager
def loading() -> Iterator[None]:
    """What is imported here is imported a fifth faster: nobody looks for garbage, of which imports make none.

    Nor is what is there then ever looked through again, whenever garbage is looked for.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def leave(code: int) -> NoReturn:
    """End the process without taking the interpreter down, which is a tenth of `scot query`, too.

    And Prefect leaves threads behind that are daemons: one that comes back from C++ while the interpreter goes down
    ends in `terminate called without an active exception`, and the run that has completed in status 134.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
