"""Every configuration that ships is read here by what reads it in earnest, or held against what it repeats."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from deployments.lock import EVERYWHERE, added, common, declared, extras
from scot_core.config import PROFILES, Pipeline, with_overrides
from scot_core.lake.fingerprint import canonical_json

ROOT = Path(__file__).resolve().parents[2]
LAVIS = ROOT / "deployments" / "lavis"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HERE = f"Python {sys.version_info.major}.{sys.version_info.minor};"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def _yaml(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text()))


def _lines(path: Path) -> list[str]:
    lines = (line.partition(" #")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_survives_json_and_has_an_identity_for_every_stage(name: str) -> None:
    plan = PROFILES[name]
    assert Pipeline.model_validate_json(plan.model_dump_json()) == plan
    assert with_overrides(plan, []) == plan
    for stage in plan.stages:
        assert canonical_json(getattr(plan, stage).identity())


def _locked() -> dict[str, set[str]]:
    """Names in the lock, by the extras that ask for them."""
    parts = re.split(r"^# scot\[(.+)\]\n", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    return {
        extra: set(re.findall(r"^(.+)==", pins, re.MULTILINE))
        for extra, pins in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.skipif(HERE not in (ROOT / "constraints.txt").read_text(), reason="locked on another Python")
def test_the_lock_holds_what_is_declared_and_what_that_needs_and_nothing_else() -> None:
    locked = _locked()
    assert locked.pop(",".join(EVERYWHERE)) == set(common()), "run `make lock`"
    for extra, names in locked.items():
        try:
            assert names == set(added(extra)), "run `make lock`"
        except PackageNotFoundError:  # not installed here: what it asks for itself at least
            assert {canonicalize_name(Requirement(text).name) for text in declared(extra)} <= names
    assert {*locked, *EVERYWHERE} == set(extras())


def test_laviss_lock_fits_what_it_was_made_from() -> None:
    pins = dict(re.split("===?", line) for line in _lines(LAVIS / "requirements.txt"))
    overridden = {canonicalize_name(Requirement(line).name) for line in _lines(LAVIS / "overrides.txt")}
    for requirement in map(Requirement, _lines(LAVIS / "requirements.in")):
        name = canonicalize_name(requirement.name)
        assert name in overridden or requirement.specifier.contains(pins[name]), name


def test_the_citation_names_this_version_and_both_papers() -> None:
    citation = _yaml(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"## {citation['version']} - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text()
    cited = {identifier["value"] for work in citation["references"] for identifier in work["identifiers"]}
    assert cited == {"arXiv:2501.08347", "arXiv:2303.15247"}
    assert all(work["authors"] and work["title"] for work in citation["references"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_files_that_exist_on_pythons_that_are_supported(path: Path) -> None:
    jobs = _yaml(path)["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    for command in [step["run"] for step in steps if step.get("run", "").startswith(".")]:
        assert os.access(ROOT / command, os.X_OK), command
    versions = re.findall(r"\"(3\.\d+)\"", path.read_text())
    assert versions
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in versions)


def test_pre_commit_runs_what_make_check_runs() -> None:
    hooks = [hook for repo in _yaml(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    check = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    commands = [re.sub(r" (--\S+|\.)", "", line) for line in re.findall(r"\$\(BIN\)/(.+)", check)]
    assert [hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in hooks] == commands


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_table_of_a_page_is_one(path: Path) -> None:
    """A blank line inside a table turns its rest into text."""
    texts = [
        token.content
        for token in MarkdownIt("commonmark").enable("table").parse(path.read_text())
        if token.type == "inline"
    ]
    assert [text for text in texts if text.startswith("|")] == []


@pytest.mark.parametrize("name", ["docs/decisions.md", "CONTRIBUTING.md"])
def test_a_page_names_files_that_exist(name: str) -> None:
    roots = "scot|scot_core|flows|tasks|deployments|pretraining|bench|tests|docs"
    named = re.findall(rf"`((?:{roots})/[\w/-]*(?:\.\w+|/))`", (ROOT / name).read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
