"""`prefect worker start`, ended with whoever keeps it: `python -m deployments.worker --pool scot-cpu …`."""

from __future__ import annotations

import runpy
import sys

from scot.kept import leave_with_keeper
from scot_core.garbage import look_seldom


def main() -> None:
    leave_with_keeper()
    look_seldom()
    sys.argv = ["prefect", "--no-prompt", "worker", "start", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main()
