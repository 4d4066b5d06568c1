"""Progress where no terminal is: a line every few seconds, and one for each step that is done."""

from __future__ import annotations

import threading
import time
from typing import Self

from rich.console import Console

from scot.terminal import FAILED, Bars, done_line, say, step_line
from scot_core.stages.progress import Progress as Reading
from scot_core.stages.step import Work


class Lines:
    """Says how far a step is every `every_s` seconds, and that it is still at work where it tells nothing itself."""

    every_s = 5.0

    def __init__(self, to: Console, still_s: float = 15.0) -> None:
        self._console, self._still_s = to, still_s
        self._last: dict[str, Reading] = {}
        self._begun: dict[str, float] = {}
        self._said = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="scot-lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def begin(self, step: Work, total: int) -> None:
        self._said = self._begun[step.name] = time.monotonic()

    def update(self, progress: Reading) -> None:
        self._last[progress.name] = progress
        if progress.done < progress.total:
            self._say(str(progress))

    def end(self, step: Work, cached: bool) -> None:
        self._begun.pop(step.name, None)
        say(self._console, *done_line(step, cached, self._last.get(step.name)))
        self._said = time.monotonic()

    def fail(self, step: Work) -> None:
        self._begun.pop(step.name, None)
        say(self._console, *FAILED, step_line(step))

    def _say(self, what: str) -> None:
        say(self._console, f"    {what}")
        self._said = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._still_s)):
            if time.monotonic() - self._said >= self._still_s:
                for name, began in list(self._begun.items()):
                    self._say(f"{name}: at work for {time.monotonic() - began:,.0f} s")


def progress_on(to: Console) -> Bars | Lines:
    """Bars where somebody looks, lines where a file or a pipe is written."""
    return Bars(to) if to.is_terminal else Lines(to)
