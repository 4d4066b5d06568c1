"""What is measured already, without running anything."""

from __future__ import annotations

from scot_core.stages.step import Committed, Work


class NotMeasuredError(Exception):
    """The first step that is not committed."""


def reuse(step: Work) -> Committed:
    """A `Run` that only finds. Raises NotMeasuredError for a step that would have to be run."""
    found = step.committed()
    if found is None:
        raise NotMeasuredError(step.name)
    return found
