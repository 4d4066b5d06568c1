"""One flow for each stage, and `regenerate`, which reads like Figure 2 of the paper.

Every flow is named `scot` and is deployed under its stage's name: `prefect deployment run scot/train`.
"""

import os
from pathlib import Path

from scot_core.garbage import look_seldom
from scot_core.orphans import leave_with_holder
from tasks.said import into_runs

# A flow run is a process of a session of its own, which outlives a worker that was killed; `make serve` it must not.
if "SCOT_SERVICE" in os.environ:
    leave_with_holder(Path(os.environ["SCOT_SERVICE"]))

look_seldom()
into_runs()
