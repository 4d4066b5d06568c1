"""One flow for each stage, and `regenerate`, which reads like Figure 2 of the paper.

Every flow is named `scot` and is deployed under its stage's name: `prefect deployment run scot/train`.
"""

import atexit
import os
import sys
from pathlib import Path

from scot_core.garbage import leave, look_seldom
from scot_core.orphans import leave_with_holder
from tasks.said import into_runs

# A flow run is a process of a session of its own, which outlives a worker that was killed; `make serve` it must not.
if "SCOT_SERVICE" in os.environ:
    leave_with_holder(Path(os.environ["SCOT_SERVICE"]))

# What Prefect's engine asks before it exits with 0, whatever came after: whether the server knows how the run ended.
_is_over = getattr(sys.modules["__main__"], "engine_outcome_is_handled", None)


def _leave_when_over() -> None:
    """Taking down what a run has loaded takes a second, and keeps a worker's slot and the memory of a GPU meanwhile."""
    atexit.unregister(_leave_when_over)
    if _is_over is not None and _is_over():
        leave(0)


atexit.register(_leave_when_over)
look_seldom()
into_runs()
