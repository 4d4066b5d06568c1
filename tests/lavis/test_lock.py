"""LAVIS's environment holds what the embed flow imports, pinned, and nothing of the flow needs more. Runs anywhere."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.flows.conftest import ROOT

OURS = {"scot_core", "tasks", "flows"}
LOADED = """
import json, sys
import flows.embed, scot_core.encoders.lavis
files = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in %r}
heavy = [name for name in ("transformers", "peft", "bitsandbytes") if name in sys.modules]
print(json.dumps({"files": files, "heavy": heavy}))
"""


def _pins(path: str = "deployments/lavis/requirements.txt") -> dict[str, str]:
    lines = (ROOT / path).read_text().splitlines()
    pins = dict(re.split("===?", line) for line in lines if line and not line.startswith("#"))
    return {name.lower(): version for name, version in pins.items()}


def _loaded() -> dict[str, object]:
    run = subprocess.run([sys.executable, "-c", LOADED % OURS], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def _imported(path: Path) -> set[str]:
    """Names of the packages that a module imports when it is loaded."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_lock_has_what_the_embed_flow_imports() -> None:
    loaded = _loaded()
    assert isinstance(loaded["files"], dict)
    packages = {package for file in loaded["files"].values() for package in _imported(Path(file))}
    distributions = packages_distributions()
    needed = {d.lower().replace("_", "-") for p in packages - OURS for d in distributions.get(p, [])} - {"scot"}
    assert {"prefect", "pyarrow", "pydantic", "torch"} <= needed
    assert needed - set(_pins()) == set(), "add them to deployments/lavis/requirements.in and lock anew"
    assert loaded["heavy"] == [], "LAVIS's transformers is years older: it must not be imported on the way"


def test_the_lock_agrees_with_the_main_environment_where_they_talk_to_each_other() -> None:
    here = _pins("constraints.txt")
    for name in ("prefect", "fastapi", "starlette", "pydantic", "torch"):
        assert _pins()[name] == here[name], name


def test_the_lock_holds_no_address_and_no_path() -> None:
    text = (ROOT / "deployments" / "lavis" / "requirements.txt").read_text()
    assert all(re.fullmatch(r"[a-z0-9.\-]+={2,3}[0-9][0-9a-z.]*", line) for line in text.split())
