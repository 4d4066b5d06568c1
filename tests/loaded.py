"""What a command loads: the modules of its process when it has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import atexit, sys
atexit.register(lambda: print("loaded:", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr))
try:
    from scot.cli import main
    main()
except SystemExit as end:
    assert not end.code or sys.argv[1] == "doctor", end
"""


def loaded_by(*words: str) -> set[str]:
    """Packages that `scot` with these words has loaded; it must end well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "loaded:" in done.stderr, done.stderr[-3000:]
    return set(done.stderr.rpartition("loaded:")[2].split())
