"""Without a terminal, a run says now and then how far it is, even while a step tells nothing."""

from __future__ import annotations

import io
import time
from typing import cast

from rich.console import Console

from scot.lines import Lines, progress_on
from scot.terminal import Bars
from scot_core.stages.progress import Progress
from scot_core.stages.step import Work


class Writing:
    stage, name, unit = "generate", "write triplets", "replies"


STEP = cast(Work, Writing())


def test_a_file_gets_lines_and_a_terminal_bars() -> None:
    assert isinstance(progress_on(Console(file=io.StringIO())), Lines)
    assert isinstance(progress_on(Console(file=io.StringIO(), force_terminal=True)), Bars)


def test_lines_say_how_far_a_step_is_and_that_a_silent_one_is_at_work() -> None:
    file = io.StringIO()
    with Lines(Console(file=file, width=200), still_s=0.01) as lines:
        lines.begin(STEP, 10)
        lines.update(Progress("generate", "write triplets", "replies", 4, 10, 2.0))
        while "at work for" not in file.getvalue():
            time.sleep(0.01)
        lines.end(STEP, cached=False)
        lines.begin(STEP, 10)
        lines.end(STEP, cached=True)
        lines.begin(STEP, 10)
        lines.fail(STEP)
        at_the_end = file.getvalue()
        time.sleep(0.05)
        assert file.getvalue() == at_the_end
    said = file.getvalue()
    assert "write triplets: 4 of 10 replies, 2/s, 3 s left" in said
    assert "✓ generate  write triplets" in said and "Cached" in said
    assert said.rstrip().endswith("✗ generate  write triplets")
