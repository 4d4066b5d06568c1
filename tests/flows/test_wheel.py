"""What is installed from a wheel works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.flows.conftest import ROOT


def run(*command: str, cwd: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=590
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder outside the checkout, and an environment in which Scot is what the wheel holds."""
    pytest.importorskip("hatchling", reason="builds the wheel; `make env` installs it")
    place, target = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("target")
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(place), str(ROOT), cwd=place,
        environment=dict(os.environ))  # fmt: skip
    (wheel,) = place.glob("scot-*.whl")
    run(*pip, "install", "--no-deps", "--target", str(target), str(wheel), cwd=place, environment=environment)
    return place, {**environment, "PYTHONPATH": str(target)}


@pytest.mark.slow
def test_the_wheel_holds_what_works(installed: tuple[Path, dict[str, str]]) -> None:
    place, environment = installed
    rooms = "import scot, flows, tasks, scot_core; print(*(room.__file__ for room in (scot, flows, tasks, scot_core)))"
    for file in run("-c", rooms, cwd=place, environment=environment).split():
        assert file.startswith(environment["PYTHONPATH"])
    scot = ("-m", "scot.cli")
    assert "Start with: scot run" in run(*scot, "--help", cwd=place, environment=environment)
    assert run(*scot, "--version", cwd=place, environment=environment).strip() == version("scot")
    assert "left to do" in run(*scot, "plan", "--profile", "smoke", cwd=place, environment=environment)
    few = ("--set", "captions.gallery=300", "--set", "captions.queries_per_split=4")
    work = ("run", "--profile", "smoke", "--until", "captions", *few)
    assert "draw the catalogue" in run(*scot, *work, cwd=place, environment=environment)
    assert "Everything was in the lake already" in run(*scot, *work, cwd=place, environment=environment)
