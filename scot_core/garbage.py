"""Python's search for garbage, made seldom: what a process of Scot loads, hundreds of thousands of objects, stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
