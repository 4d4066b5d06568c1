"""Two environments that share files and nothing else: this one, and the one that `make lavis` builds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.flows.conftest import ROOT
from tests.lavis import samples, weights

HERE = sys.executable
THERE = str(ROOT / "deployments" / "lavis" / ".venv" / "bin" / "python")
ASKED = "SCOT_TEST_LAVIS"
needs_lavis = pytest.mark.skipif(not os.environ.get(ASKED), reason="needs LAVIS's environment: run `make test-lavis`")
Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Both:
    """Folders `blip2` and `lavis-blip2` with the same weights, and `samples`."""

    folder: Path

    def embed(self, python: str, script: str, encoder: str) -> Arrays:
        """Run a script of this folder in an environment; returns the arrays it saved."""
        out = self.folder / f"{Path(script).stem}-{encoder}.npz"
        run = in_environment(
            [python, f"tests/lavis/{script}", encoder, str(self.folder), str(out)], SCOT_WEIGHTS=str(self.folder)
        )
        assert run.returncode == 0, run.stderr[-3000:]
        with np.load(out, allow_pickle=False) as arrays:
            return dict(arrays)


def in_environment(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command from the checkout, offline, and without what was set for another environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCOT_"))}
    env = {**kept, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", **variables}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=1500)


@pytest.fixture(scope="session")
def small() -> Iterator[Both]:
    yield from _both(weights.SMALL, pictures=None)


@pytest.fixture(scope="session")
def full_size() -> Iterator[Both]:
    yield from _both(weights.FULL, pictures=3)


def _both(shape: weights.Shape, pictures: int | None) -> Iterator[Both]:
    with tempfile.TemporaryDirectory() as name:  # 8 GB at full size: not kept as pytest keeps its own
        folder = Path(name)
        weights.write(shape, folder / "blip2", folder / "lavis-blip2")
        samples.write(folder / "samples", pictures)
        yield Both(folder)
