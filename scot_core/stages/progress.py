"""Who hears how far a step is: the terminal, a Prefect artifact, nobody.

Listeners travel in a context variable, which task runners copy into their threads. They show work and never fail it:
one that raises is reported once and left out from there on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakSet

from scot_core.errors import ScotError
from scot_core.stages.step import Work

logger = logging.getLogger(__name__)


class Stopped(ScotError):
    """The step was told to stop; its finished shards are kept."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is, and how fast it goes."""

    stage: str
    name: str
    unit: str
    done: int
    total: int
    seconds: float

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.done / self.total if self.total else 1.0

    @property
    def rate(self) -> float:
        """Units a second since the step began in this process."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        left = (self.total - self.done) / self.rate if self.rate else 0.0
        return f"{self.name}: {self.done:,} of {self.total:,} {self.unit}, {self.rate:,.0f}/s, {left:,.0f} s left"


class Listener(Protocol):
    """Told at most every `every_s` seconds, and once when a step's last unit is done; a step ends, or it fails."""

    every_s: float

    def begin(self, step: Work, total: int) -> None: ...

    def update(self, progress: Progress) -> None: ...

    def end(self, step: Work, cached: bool) -> None: ...

    def fail(self, step: Work) -> None: ...


LISTENERS: ContextVar[tuple[Listener, ...]] = ContextVar("scot_progress_listeners", default=())
_LEFT_OUT: WeakSet[Listener] = WeakSet()


def tell(listener: Listener, what: Callable[[Listener], None]) -> None:
    """Tell a listener; whatever it raises is its own affair."""
    if listener in _LEFT_OUT:
        return
    try:
        what(listener)
    except Exception as error:
        _LEFT_OUT.add(listener)
        logger.warning("%s shows no more progress, the work goes on: %r", type(listener).__name__, error)


class Meter:
    """Counts a step's units, from several threads, and tells the listeners."""

    def __init__(self, step: Work, listeners: Sequence[Listener]) -> None:
        self._step = step
        self._total = sum(step.shards())
        self._done = 0
        self._started = time.monotonic()
        self._told = dict.fromkeys(listeners, self._started)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        for listener in listeners:
            tell(listener, lambda to: to.begin(step, self._total))

    def stop(self) -> None:
        """Make every later `tick` raise, so that other shards end soon; what they had written stays."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped.is_set()

    def tick(self, units: int) -> None:
        """Count units. Safe from any thread. Raises Stopped after `stop`."""
        if self._stopped.is_set():
            raise Stopped("another shard failed, or the run was stopped")
        with self._lock:
            self._done += units
            now = time.monotonic()
            for listener, told in self._told.items():
                if now - told >= listener.every_s or self._done >= self._total:
                    self._told[listener] = now
                    progress = self._progress(now)
                    tell(listener, lambda to, progress=progress: to.update(progress))  # type: ignore[misc]

    def _progress(self, now: float) -> Progress:
        step = self._step
        return Progress(step.stage, step.name, step.unit, self._done, self._total, now - self._started)
