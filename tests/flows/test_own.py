"""One's own captioned pictures, by the commands of the README: from a table to a measured model that is searched."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scot_core.lake import Lake
from tests.flows.conftest import ROOT
from tests.shapes import captioned

LIMIT_S = 900
QUICK = [
    "--anyway", "--set", "train.steps=20", "--set", "train.seeds=0", "--set", "benchmark.resamples=50",
    "--set", "generate.held_out=0.3", "--set", "embed.encoder=catalogue",
]  # fmt: skip
QUERIES = "reference,text,target\npictures/one-green-star.png,make it violet,pictures/one-violet-star.png\n"


def commands() -> list[list[str]]:
    """Those of the README's section, in order."""
    section = (ROOT / "README.md").read_text().partition("\n## Your own data")[2].partition("\n## ")[0]
    return [shlex.split(line)[1:] for line in section.split("```")[1].strip().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table = captioned(tmp_path / "photos")
    (table.parent / "queries.csv").write_text(QUERIES)
    return table.parent


def scot(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    known = {**environment, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "scot.cli", *arguments]
    return subprocess.run(command, env=known, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)


def test_the_readme_s_commands_end_in_a_measured_model_that_is_searched(
    environment: dict[str, str], shared: dict[str, str], folder: Path
) -> None:
    plan, run, search, benchmark = commands()
    planned = scot(environment, folder, *plan)
    assert planned.returncode == 0, planned.stderr[-3000:]
    assert "skipped" in planned.stdout and "mined" in planned.stdout
    ran = scot(environment, folder, *run, *QUICK)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-3000:]
    assert "finds the picture of a caption among 48" in ran.stdout and "R@1 on mined" in ran.stdout
    tables = {dataset.name.partition("/")[0] for dataset in Lake(folder / "lake").datasets()}
    assert "triplets" in tables and not {"replies", "adapters"} & tables
    again = scot(environment, folder, *run, *QUICK)
    assert "Everything was in the lake already" in again.stdout
    found = scot(environment, folder, *search, "--json")
    hits = json.loads(found.stdout)["hits"]
    assert len(hits) == 5 and "pictures/one-green-star.png" not in {hit["image_id"] for hit in hits}
    assert all(hit["caption"].endswith("above a grey line") for hit in hits)
    measured = scot(shared, folder, *benchmark)  # the run above brought its own server
    assert measured.returncode == 0, measured.stdout[-2000:] + measured.stderr[-3000:]
    assert "R@1 on own" in measured.stdout and "beside the paper" not in measured.stdout
    page = (folder / "lake" / "report.html").read_text()
    assert "queries of one" in page and "Beside the paper" not in page


def test_what_does_not_fit_is_refused_before_any_work(shared: dict[str, str], folder: Path) -> None:
    foreign = ("--set", "captions.source=folder", "--set", "captions.path=photos.csv")
    refused = scot(shared, folder, "run", *foreign)
    assert refused.returncode == 2 and "generate.writer=mined" in refused.stderr, refused.stdout + refused.stderr
    missing = scot(shared, folder, "run", "--captions", "photos.csv", "--set", "embed.encoder=clip-b32")
    assert missing.returncode == 1 and "hf download openai/clip-vit-base-patch32" in missing.stderr
    assert not (folder / "lake" / "captions").exists()
    stopped = scot(shared, folder, "run", "--captions", "photos.csv", *QUICK, "--until", "finetune")
    assert stopped.returncode == 0 and (folder / "lake" / "captions").exists()
    assert not (folder / "lake" / "triplets").exists()
