"""Commands start fast because they load what they use: held by what is not loaded, for no two machines time alike."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from scot.cli import COMMANDS
from tests.loaded import ROOT, loaded_by

MODELS = {"torch", "transformers", "peft", "bitsandbytes", "tokenizers"}
SERVERS = {"openai", "prefect", "fastapi", "starlette", "uvicorn", "stamina"}
ARROW = {"numpy", "pyarrow"}
DATA = ARROW | {"duckdb", "pydantic", "fsspec", "PIL", "matplotlib", "jinja2"}
HEAVY = MODELS | SERVERS | {"matplotlib", "jinja2"}


def test_the_list_of_commands_loads_no_command() -> None:
    assert not (HEAVY | DATA) & loaded_by("--help")
    assert not (HEAVY | DATA) & loaded_by("--version")


@pytest.mark.parametrize(
    "words",
    [
        ("doctor",),
        ("plan",),
        ("plan", "--profile", "paper"),
        ("settings",),
        ("run", "--help"),
    ],
    ids=" ".join,
)
def test_looking_loads_no_model_and_no_server(words: tuple[str, ...], tmp_path: Path) -> None:
    lake = () if words[0] in ("settings", "run") else ("--lake", str(tmp_path / "lake"))
    assert not HEAVY & loaded_by(*words, *lake)


@pytest.mark.parametrize("words", [("query", "select count(*) from triplets"), ("status",), ("runs",)], ids=" ".join)
def test_looking_into_a_lake_loads_no_arrow(words: tuple[str, ...], tmp_path: Path) -> None:
    assert not (HEAVY | ARROW) & loaded_by(*words, "--lake", str(tmp_path / "lake"))


def test_the_flows_are_imported_without_what_their_stages_load() -> None:
    flows = ", ".join(f"flows.{path.stem}" for path in (ROOT / "flows").glob("[a-z]*.py"))
    code = f"import sys, {flows}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "prefect" in said.split() and not (MODELS | {"openai", "matplotlib", "duckdb"}) & set(said.split())


def test_the_list_of_commands_says_what_each_says_itself() -> None:
    for name, (place, summary) in COMMANDS.items():
        module, _, function = place.partition(":")
        own = getattr(import_module(module), function).__doc__ or ""
        assert " ".join(own.strip().split("\n\n")[0].split()) == summary, name
