"""Every command in README and docs exists, with every option it is given."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import prefect.settings
import pytest
import yaml
from cyclopts import CycloptsError
from prefect import Flow
from prefect.cli._app import _app as prefect_app
from prefect.exceptions import ParameterTypeError, SignatureMismatchError

from scot.cli import app as scot_app
from scot_core.config import profile, with_overrides
from scot_core.errors import ConfigError
from tests.flows.conftest import ROOT

DOCS = (
    "README.md", "CONTRIBUTING.md",
    *(f"docs/{page}.md" for page in ("operate", "paper", "lake", "methods", "evidence", "emoji", "scale", "decisions")),
)  # fmt: skip
RUN, SCHEDULE = (f"00000000-0000-4000-8000-00000000000{digit}" for digit in (1, 2))
MEANT = {  # what placeholders stand for
    "FALCON": "--set finetune.base=weights/falcon-7b-instruct", "COMMIT": "0" * 40, "BASE": "some/model",
    "N": "7", "SQL": "'select 1'", "STAGE": "train", "URL": "./lake", "RUN_ID": RUN, "SCHEDULE_ID": SCHEDULE, "…": "x",
}  # fmt: skip
# Programs whose options cannot be checked, because they are no part of the environment: it suffices to name them here.
OUTSIDE = {"vllm", "sudo", "docker", "pg_dump", "duckdb", "rsync", "cp", "rm"}
DEPLOYMENTS = {d["name"]: d for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}


class Command(NamedTuple):
    where: str
    program: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join([self.program, *self.words])


def _command(where: str, line: str) -> Command:
    """A line of a shell without its comment; of `[--option a|b]` the option with the first choice."""
    line = re.sub(r"\[(-[^\[\]]*)\]", lambda found: found[1].partition("|")[0], line)
    for name, meaning in MEANT.items():
        line = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", meaning.replace("\\", r"\\"), line)
    program, *words = shlex.split(line, comments=True)
    return Command(where, program.removeprefix(".venv/bin/"), tuple(words))


def commands() -> Iterator[Command]:
    for where in DOCS:
        text = (ROOT / where).read_text()
        fences = r"^( *)```(\w*)\n(.*?)^\1```$"
        for _, language, body in re.findall(fences, text, re.M | re.S):
            lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", body).splitlines() if line.strip()]
            is_tree = lines[0].split()[0].endswith("/")
            if language == "" and not is_tree:  # what follows four blanks is the README's word on the command
                yield from (_command(where, re.split(r"\s{4,}(?!#)", line)[0]) for line in lines)
        for span in re.findall(r"`([^`]+)`", re.sub(fences, "", text, flags=re.M | re.S)):
            if " " in span and span.split()[0].removeprefix(".venv/bin/") in {*CHECKS, *OUTSIDE}:
                yield _command(where, " ".join(span.split()))


def _scot(words: tuple[str, ...]) -> None:
    if len(words) == 1 and not words[0].startswith("-"):  # a command by its name, which may want more
        assert words[0] in set(scot_app), f"there is no command scot {words[0]}"
        return
    _, bound, _ = scot_app.parse_args(words, print_error=False, exit_on_error=False)
    asked = bound.arguments
    with_overrides(profile(asked.get("profile", "catalogue")), asked.get("set_") or [])


def _prefect(words: tuple[str, ...]) -> None:
    words = tuple(word for word in words if word != "--no-prompt")  # of the program, not of the command
    prefect_app.parse_args(words, print_error=False, exit_on_error=False)
    for word in words:
        if word.startswith("scot/"):
            assert word.removeprefix("scot/") in DEPLOYMENTS
    if words[:2] == ("deployment", "run"):
        given = [words[i + 1].partition("=") for i, word in enumerate(words) if word == "-p"]
        _flow(words[2].removeprefix("scot/")).validate_parameters({k: _value(v) for k, _, v in given})


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _flow(deployment: str) -> Flow[..., object]:
    path, _, name = DEPLOYMENTS[deployment]["entrypoint"].partition(":")
    found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(found, Flow)
    return found


def _make(words: tuple[str, ...]) -> None:
    subprocess.run(["make", "-n", *words], cwd=ROOT, check=True, capture_output=True)


def _python(words: tuple[str, ...]) -> None:
    if words[0] == "-c":
        for node in ast.walk(ast.parse(words[1])):
            if isinstance(node, ast.ImportFrom):
                assert all(hasattr(importlib.import_module(node.module or ""), name.name) for name in node.names)
    elif words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None
    else:
        assert (ROOT / words[0]).exists()


def _pip(words: tuple[str, ...]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert words[:2] == ("install", "-e") and set(words[2].strip(".[]").split(",")) <= set(extras)


def _git(words: tuple[str, ...]) -> None:
    assert "usage: git" in subprocess.run(["git", words[0], "-h"], capture_output=True, text=True).stdout


def _hf(words: tuple[str, ...]) -> None:
    shown = subprocess.run(
        [str(Path(sys.executable).parent / "hf"), words[0], "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(word in shown for word in words if word.startswith("--"))


def _ray(words: tuple[str, ...]) -> None:
    if importlib.util.find_spec("ray") is None:  # an extra
        return
    from ray.scripts.scripts import cli

    options = {option for parameter in cli.commands[words[0]].params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words[1:] if word.startswith("--")} <= options


def _export(words: tuple[str, ...]) -> None:
    assert all(re.match(r"\w+=", word) for word in words)


def _gate(words: tuple[str, ...]) -> None:
    assert not words and (ROOT / ".ci" / "run").is_file()


CHECKS = {
    "scot": _scot, "prefect": _prefect, "make": _make, "python": _python, "pip": _pip, "git": _git, "hf": _hf,
    "export": _export, "ray": _ray, ".ci/run": _gate,
}  # fmt: skip
COMMANDS = sorted({str(command): command for command in commands()}.values())


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 60 and {command.program for command in COMMANDS} >= {*CHECKS, "vllm", "pg_dump"}


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_and_its_options_exist(command: Command) -> None:
    if command.program not in OUTSIDE:
        CHECKS[command.program](command.words)


@pytest.mark.parametrize(
    "line",
    [
        "prefect deployment set-schedule scot/train",
        "prefect flow-run ls --sort-of",
        "prefect deployment run scot/party",
        "prefect deployment run scot/regenerate -p whence=inline",
        "scot run --speed 3",
        "scot party",
        "scot run --set train.stepz=3",
        "python -m scot.party",
        "make party",
        "pip install -e .[party]",
        "git party",
    ],
)
def test_what_does_not_exist_is_found_out(line: str) -> None:
    command = _command("here", line)
    refusals = (CycloptsError, ConfigError, ParameterTypeError, SignatureMismatchError, AssertionError)
    with pytest.raises((*refusals, subprocess.CalledProcessError)):
        CHECKS[command.program](command.words)


def test_variables_exist() -> None:
    code = "".join(
        path.read_text() for path in (*ROOT.glob("scot*/**/*.py"), *ROOT.glob("deployments/*.py"), ROOT / "Makefile")
    )
    of_tests = "".join(path.read_text() for path in ROOT.glob("tests/**/*.py"))
    for where in DOCS:
        for name in set(re.findall(r"\b(?:PREFECT|SCOT)_[A-Z_]+\b", (ROOT / where).read_text())):
            known = hasattr(prefect.settings, name) if name.startswith("PREFECT_") else f"{name.removeprefix('SCOT_')}"
            where_used = of_tests if name.startswith("SCOT_TEST_") else code
            assert known is True or str(known).lower() in where_used.lower(), f"{name} in {where}"
