"""Listeners hear of progress, and what they do with it is their own affair."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import pytest

from scot_core.stages.progress import Meter, Progress, Stopped, tell
from scot_core.stages.step import Work


class Counting:
    """What a meter asks of a step: ten shards of three units."""

    stage, name, unit = "captions", "count", "rows"

    def shards(self) -> Sequence[int]:
        return [3] * 10


COUNTING = cast(Work, Counting())


class Listening:
    """Remembers what it heard, and raises where it is told to."""

    every_s = 0.0

    def __init__(self, *broken: str) -> None:
        self._broken = broken
        self.heard: list[str] = []

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if what in self._broken:
            raise ConnectionError("All connection attempts failed")

    def begin(self, step: Work, total: int) -> None:
        self._hear("begin")

    def update(self, progress: Progress) -> None:
        self._hear("update")

    def end(self, step: Work, cached: bool) -> None:
        self._hear("end")

    def fail(self, step: Work) -> None:
        self._hear("fail")


@pytest.mark.parametrize("where", ["begin", "update", "end"])
def test_a_listener_that_fails_is_reported_once_and_left_out(where: str, caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = Listening(where), Listening()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            meter = Meter(COUNTING, (broken, sound))
            for _ in range(10):
                meter.tick(3)
            for listener in (broken, sound):
                tell(listener, lambda to: to.end(COUNTING, cached=False))
    assert [record.getMessage() for record in caplog.records] == [
        "Listening shows no more progress, the work goes on: ConnectionError('All connection attempts failed')"
    ]
    assert broken.heard.count(where) == 1 and broken.heard[-1] == where
    assert sound.heard == (["begin"] + ["update"] * 10 + ["end"]) * 2


def test_a_listener_cannot_swallow_that_a_step_was_stopped() -> None:
    meter = Meter(COUNTING, (Listening(),))
    meter.stop()
    with pytest.raises(Stopped):
        meter.tick(1)
