"""The whole pipeline, profile smoke, through a real server, deployments and workers."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from scot_core.lake import Lake
from scot_core.lake.generations import generations
from tests.flows.conftest import FEWER, ROOT, Served, ask, wait_for
from tests.flows.test_service_serve import OVER, state, submit

ASKED: dict[str, object] = {"profile_name": "smoke", "overrides": list(FEWER)}
TABLES = (
    "captions",
    "galleries",
    "replies",
    "triplets",
    "rejects",
    "adapters",
    "embeddings",
    "combiners",
    "benchmarks",
)


@pytest.fixture(scope="module")
def regenerated(served: Served) -> Served:
    given = [word for name, value in ASKED.items() for word in ("-p", f"{name}={json.dumps(value)}")]
    run = served.prefect("deployment", "run", "scot/regenerate", *given, "--watch", "--watch-interval", "1")
    assert run.exit_code == 0, run.output[-3000:]
    return served


def _runs(served: Served) -> dict[str, str]:
    """The names of the states of flow runs by id, those of other tests on this server among them."""
    return {run["id"]: run["state_name"] for run in ask(served, "flow_runs/filter", {"sort": "ID_DESC"})}


def _complete(served: Served, deployment: str, /, **parameters: object) -> None:
    """Have a worker run a deployment."""
    run = submit(served, deployment, parameters)
    assert wait_for(lambda: state(served, run) in OVER)
    assert state(served, run) == "COMPLETED", ask(served, f"flow_runs/{run}")["state"]["message"]


def _digests(lake: Lake) -> dict[str, list[str]]:
    return {d.name: [part.digest for part in d.parts] for d in lake.datasets()}


def test_every_table_is_committed_and_no_row_is_lost(regenerated: Served) -> None:
    for name in TABLES:
        assert regenerated.lake.table(name).datasets(), f"nothing in {name}"
    for dataset in regenerated.lake.datasets():
        rows = dataset.manifest.rows
        assert rows.given == rows.out + rows.rejected, dataset.name
        assert sum(part.num_rows for part in dataset.read_parts()) == rows.out, dataset.name
    assert regenerated.lake.uncommitted() == []


def test_a_run_says_what_it_did_and_shows_what_it_made(regenerated: Served) -> None:
    (made,) = generations(regenerated.lake)
    runs = ask(regenerated, "flow_runs/filter", {"flows": {"name": {"any_": ["scot"]}}})
    named = {run["name"]: run["id"] for run in runs if made.id in run["name"]}
    assert {f"regenerate smoke, {made.id}", f"embed with catalogue, {made.id}"} <= set(named) and len(named) == 7
    pages = [ask(regenerated, "logs/filter", {"limit": 200, "offset": offset}) for offset in (0, 200, 400)]
    said = "\n".join(log["message"] for page in pages for log in page)
    for words in ("rejected (", "rows/s", "tokens", "loss ", "share_right after", "R@1, 60 queries", made.root.name):
        assert words in said, words
    artifacts = {found["key"]: found for found in ask(regenerated, "artifacts/filter", {})}
    assert set(artifacts) == {"triplets", "benchmark", "regeneration"}, "no progress stays"
    page = artifacts["regeneration"]
    assert page["flow_run_id"] == named[f"regenerate smoke, {made.id}"]
    assert all(
        word in page["data"]
        for word in (*(d.name for d in made.members), *named.values())
        if word != page["flow_run_id"]
    )


def test_every_committed_dataset_is_an_asset_with_its_lineage(regenerated: Served) -> None:
    now = datetime.now(UTC)
    wanted = {
        "event": {"prefix": ["prefect.asset.materialization.succeeded"]},
        "occurred": {"since": (now - timedelta(days=1)).isoformat(), "until": (now + timedelta(days=1)).isoformat()},
    }
    (made,) = generations(regenerated.lake)

    def told() -> dict[str, Any]:
        events = ask(regenerated, "events/filter", {"filter": wanted, "limit": 50})["events"]
        return {event["payload"].get("key", "") + event["resource"]["prefect.resource.id"]: event for event in events}

    root = f"file://{regenerated.lake.url}"
    expected = {f"{d.key}{root}/{d.table}/{d.key[:-13]}" for d in made.members}
    assert wait_for(lambda: set(told()) >= expected), set(told()) ^ expected
    event = told()[f"{made.root.key}{root}/benchmarks/{made.root.key[:-13]}"]
    related = {one["prefect.resource.id"] for one in event["related"] if one["prefect.resource.role"] == "asset"}
    assert related == {f"{root}/{one.table}/{one.key[:-13]}" for one in made.root.inputs}


def test_plain_duckdb_reads_the_parquet_files(regenerated: Served) -> None:
    files = f"{regenerated.lake.url}/triplets/*/*.parquet"
    kinds = duckdb.execute(f"select kind, count(*) from read_parquet('{files}') group by 1 order by 1").fetchall()
    assert [kind for kind, count in kinds if count > 0] == ["generated", "seed"]


def test_the_same_again_is_cached_and_changes_nothing(regenerated: Served) -> None:
    before, others = _digests(regenerated.lake), _runs(regenerated)
    _complete(regenerated, "regenerate", **ASKED)
    assert [name for key, name in _runs(regenerated).items() if key not in others] == ["Cached"] * 7
    assert _digests(regenerated.lake) == before


def test_a_changed_prompt_reruns_seed_and_what_follows_and_nothing_before(regenerated: Served) -> None:
    before = set(_digests(regenerated.lake))
    prompt = "seed.prompt=Write edits, as JSON."
    _complete(regenerated, "regenerate", profile_name="smoke", until="finetune", overrides=[*FEWER, prompt])
    added = {name.split("/")[0] for name in set(_digests(regenerated.lake)) - before}
    assert added == {"replies", "triplets", "rejects", "adapters"}


def test_one_stage_alone_takes_the_newest_inputs(regenerated: Served) -> None:
    _complete(regenerated, "train", config={"steps": 20, "batch_size": 64, "seeds": [5], "loss": "infonce"})
    rows = regenerated.lake.table("benchmarks").latest(stage="benchmark-catalogue-infonce").read().to_pylist()
    assert "infonce" in {row["method"] for row in rows}


def test_stages_run_as_deployments_where_there_is_something_to_do(regenerated: Served) -> None:
    """What is in the lake already is found before a worker is asked to start a process."""
    before = _runs(regenerated)
    prompt = "seed.prompt=Write edits, as JSON, now."
    asked = {"profile_name": "smoke", "until": "seed", "overrides": [*FEWER, prompt]}
    _complete(regenerated, "regenerate", where="deployments", **asked)
    assert len(_runs(regenerated).keys() - before) == 2, "scot/regenerate and scot/seed; captions were there"


def test_an_unknown_profile_is_refused_at_submission_with_the_names_of_the_profiles(served: Served) -> None:
    before = len(_runs(served))
    run = served.prefect("deployment", "run", "scot/regenerate", "-p", "profile_name=smokey")
    assert run.exit_code != 0
    assert "smoke', 'catalogue', 'paper" in " ".join(run.output.split())
    assert len(_runs(served)) == before


def test_a_study_is_a_deployment_and_cells_that_cannot_be_are_left_out(served: Served, tmp_path: Path) -> None:
    lake, into, late = tmp_path / "lake", tmp_path / "evidence.md", "encoder clip-b32"
    settings = ["captions.count=150", "captions.queries_per_split=4", "captions.gallery=90", "generate.writer=mined",
                "train.steps=3", "train.hidden_dim=8", "train.batch_size=16", "train.seeds=0,1"]  # fmt: skip
    _complete(served, "study", name="weight", profile_name="smoke", overrides=settings, lake=str(lake))
    sets = [word for setting in settings for word in ("--set", setting)]
    command = ["study", "weight", "--profile", "smoke", *sets, "--lake", str(lake), "--into", str(into)]

    def here(*before: str) -> str:
        script = f"from scot_core.studies import *; from scot.cli import main\n{''.join(before)}\nmain()"
        ran = subprocess.run([sys.executable, "-c", script, *command], env=served.environment, cwd=ROOT,
                             capture_output=True, text=True, timeout=600)  # fmt: skip
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
        return ran.stdout + ran.stderr

    said = here()
    assert "text weight over all queries is" in said and "✓" not in said, "the worker's cells are there"
    assert "weight on catalogue" in (lake / "studies.html").read_text() and "loss infonce" in into.read_text()
    # weights that are not on this machine fail in the work of a step, when others of the cell are done
    said = here(
        "from dataclasses import replace; one = STUDIES['weight']\n",
        "cell = Cell('encoder', 'clip-b32', ('embed.encoder=clip-b32', 'train.margin=0.3'))\n",
        "STUDIES['weight'] = replace(one, cells=(*one.cells, cell))",
    )
    assert f"{late} is left out:" in said and "text weight over all queries is" in said
    assert f"Left out: {late}" in into.read_text()
