"""`scot run` as a user starts it: killed at any moment, it goes on and ends with the same tables."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scot_core.catalogue import world
from scot_core.catalogue.grammar import read_caption, read_modification
from scot_core.catalogue.wordings import KNOWN, NEW
from scot_core.catalogue.words import NEW_WORDS
from scot_core.config import profile
from scot_core.lake import Lake
from scot_core.query import query
from scot_core.stages.captions.catalogue import captioned
from tests.flows.conftest import FEWER, ROOT
from tests.published import write_cirr, write_fashioniq

KILLS = int(os.environ.get("SCOT_TEST_KILLS", "4"))  # ten by `SCOT_TEST_KILLS=10 make test`
LIMIT_S = 900
WHOLE = ("run", "--profile", "smoke", *(word for setting in FEWER for word in ("--set", setting)))


def scot(environment: dict[str, str], *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scot.cli", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)


def parts(lake: Path) -> dict[str, list[tuple[str, str]]]:
    """Digests of every committed part and file."""
    committed = Lake(lake).datasets()
    return {d.name: [(p.name, p.digest) for p in d.parts] + [(f.name, f.digest) for f in d.files] for d in committed}


@pytest.fixture(scope="module")
def undisturbed(shared: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    started = time.monotonic()
    run = scot(shared, *WHOLE, "--lake", str(lake))
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    assert "R@1 on catalogue" in run.stdout and "report:" in run.stdout
    return lake, time.monotonic() - started


def _shows_held_out(text: str) -> bool:
    """Whether a text names a type, or a type with a colour or a pattern, that the benchmark holds out."""
    said = read_caption(text) | read_modification(text)
    held = world.is_held(said.get("type"), said.get("colour"), said.get("pattern"))
    return held or said.get("type") in world.HELD_TYPES


def test_what_the_readme_calls_held_out_is_in_no_captioned_image_and_no_triplet(
    undisturbed: tuple[Path, float],
) -> None:
    captions = query(Lake(undisturbed[0]), "select caption from captions")["caption"].to_pylist()
    assert captions and not any(map(_shows_held_out, captions))
    triplets = query(
        Lake(undisturbed[0]), "select pair_id, caption, modification, modified_caption, kind from triplets"
    )
    rows = triplets.to_pylist()
    assert {row.pop("kind") for row in rows} == {"seed", "generated"}
    products = {one.columns["pair_id"]: one.product for one in captioned(profile("smoke").captions)}
    pictured = [products[row.pop("pair_id")].attributes() for row in rows]
    assert not [row for row in rows if any(map(_shows_held_out, row.values()))]
    asked = [shown | read_modification(row["modification"]) for shown, row in zip(pictured, rows, strict=True)]
    unsaid = [one for one in asked if world.is_held(one["type"], one["colour"], one["pattern"])]
    assert len(unsaid) < len(rows) / 50  # by what the picture shows and no text says


def test_no_text_of_the_test_is_among_the_triplets_or_the_captions(undisturbed: tuple[Path, float]) -> None:
    lake = Lake(undisturbed[0])
    asked = [json.loads(row) for row in query(lake, "select query from galleries")["query"].to_pylist() if row]
    texts = {text for one in asked for wording in (KNOWN, NEW) for text in one["modifications"][wording]}
    columns = ("modification from triplets", "modified_caption from triplets", "caption from captions")
    known = {text for column in columns for text in query(lake, f"select {column}").columns[0].to_pylist()}
    assert len(texts) > 500 and not texts & known
    new = {said for of_value in NEW_WORDS.values() for said in of_value.values()}
    assert not [said for said in new if any(f" {said} " in f" {text.lower()} " for text in known)]


def test_a_run_shows_what_it_measured_and_nothing_else(
    undisturbed: tuple[Path, float], environment: dict[str, str]
) -> None:
    again = scot(environment, *WHOLE, "--lake", str(undisturbed[0]), "--until", "seed")
    assert again.returncode == 0 and "nothing was run" in again.stdout
    assert "R@1" not in again.stdout and "report:" not in again.stdout


def test_killed_runs_end_with_the_same_parts(
    environment: dict[str, str], shared: dict[str, str], undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    reference, seconds = undisturbed
    lake, rng = tmp_path / "lake", random.Random(7)
    command = [sys.executable, "-m", "scot.cli", *WHOLE, "--lake", str(lake)]
    for number in range(KILLS):
        known = shared if number % 2 else environment  # every other brings its own server
        process = subprocess.Popen(command, env=known, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.1, 0.6) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    run = scot(environment, *WHOLE, "--lake", str(lake))
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    assert parts(lake) == parts(reference)


def test_ctrl_c_stops_with_a_word_and_loses_nothing(shared: dict[str, str], tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    command = [sys.executable, "-m", "scot.cli", *WHOLE, "--lake", str(lake)]
    process = subprocess.Popen(command, env=shared, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (lake / "replies").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "goes on from there" in said and "Traceback" not in said
    assert {dataset.table for dataset in Lake(lake).datasets()} >= {"captions", "galleries"}


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["run", "--profile", "huge"], 2, "smoke"),
        (["run", "--set", "train.stepz=3"], 2, "steps"),
        (["run", "--set", "train.steps=many"], 2, "train.steps"),
        (["run", "--until", "party"], 2, "captions"),
        (["query", "selct 1"], 2, "selct"),
        (["query", "select 1; select 2"], 2, "2 statements"),
        (["query", "from read_text('/etc/passwd')"], 2, "the lake alone"),
        (["query", "copy (select 1) to 'x'"], 2, "only read"),
        (["run", "--set", "captions.gallery=400"], 2, "at least 5400"),
        (["merge", "folder", "--adapter", "none-1"], 1, "none-1"),
        (["report"], 1, "scot run"),
        (["nonsense"], 2, ""),
        (["run", "--lake", "/proc/lake"], 1, "/proc/lake"),
    ],
)
def test_bad_usage_is_one_clear_error(
    environment: dict[str, str], tmp_path: Path, arguments: list[str], code: int, word: str
) -> None:
    run = scot({**environment, "SCOT_LAKE": str(tmp_path / "empty")}, *arguments)
    assert run.returncode == code, run.stdout + run.stderr
    assert word in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) <= 12


def test_ctrl_c_ends_a_query(environment: dict[str, str], tmp_path: Path) -> None:
    sql = "select count(*) from range(1000000000) a, range(1000000000) b where a.range <> b.range + 1"
    command = [sys.executable, "-m", "scot.cli", "query", sql, "--lake", str(tmp_path / "lake")]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        command, env={**environment, "TMPDIR": str(scratch)}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not list(scratch.iterdir()):
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and b"Traceback" not in said
    assert list(scratch.iterdir()) == []


def test_query_search_status_and_doctor_answer(
    undisturbed: tuple[Path, float], environment: dict[str, str], tmp_path: Path
) -> None:
    lake = str(undisturbed[0])
    sql = "select source, count(*), avg(length(modification)) from triplets group by 1"
    assert "catalogue" in scot(environment, "query", sql, "--lake", lake).stdout
    odd = "select 'nan'::float as n, ':x:' || chr(27) || '[31m' as t, 'ab'::blob as b"
    answer = scot(environment, "query", odd, "--lake", lake, "--json").stdout
    assert json.loads(answer, parse_constant=pytest.fail) == [{"n": "NaN", "t": ":x:\x1b[31m", "b": "YWI="}]
    assert r":x:\x1b[31m" in scot(environment, "query", odd, "--lake", lake).stdout
    picture = tmp_path / "reference.png"
    image = Lake(lake).table("galleries").latest().read(["image"])["image"][0].as_py()
    picture.write_bytes(image["bytes"])
    found = scot(
        environment, "search", "--image", str(picture), "--text", "in red instead", "-k", "3", "--lake", lake, "--json"
    )
    assert found.stdout.count("image_id") == 3
    assert "triplets/" in scot(environment, "status", "--lake", lake).stdout
    assert scot(environment, "doctor", "--lake", lake).returncode == 0
    assert "as committed" in scot(environment, "check", "--all", "--lake", lake).stdout
    (generation,) = json.loads(scot(environment, "runs", "--json", "--lake", lake).stdout)
    assert (generation["profile"], generation["datasets"], generation["missing"]) == ("smoke", 15, [])


def test_benchmark_over_a_folder_of_images(
    undisturbed: tuple[Path, float], shared: dict[str, str], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(undisturbed[0], lake)
    root = write_fashioniq(tmp_path / "fashioniq")
    command = ("benchmark", "fashioniq", "--root", str(root), "--lake", str(lake))
    missing = root / "images" / "shirt-04.jpg"
    data = missing.read_bytes()
    missing.unlink()
    refused = scot(shared, *command)
    assert refused.returncode == 1 and "1 of 36 images of fashioniq are missing or empty: shirt-04" in refused.stderr
    missing.write_bytes(data)
    run = scot(shared, *command)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    assert "R@10 on fashioniq" in run.stdout and "arXiv 2501.08347, Table 1" in run.stdout
    page = Path(run.stdout.rpartition("report: ")[2].strip()).read_text()
    assert "FashionIQ val" in page and "Beside the paper" in page
    nobody = {**shared, "PREFECT_API_URL": "http://127.0.0.1:9/api"}  # nothing is run, so no server is asked
    again = scot(nobody, *command, "--json")
    assert again.returncode == 0 and again.stderr.count("Cached") == 3, again.stderr
    rows = json.loads(again.stdout)["rows"]
    assert {row["method"] for row in rows} == {"image-only", "text-only", "image+text", "scot"}


def test_a_submission_is_put_where_it_is_asked_for(
    undisturbed: tuple[Path, float], shared: dict[str, str], tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(undisturbed[0], lake)
    write_cirr(tmp_path / "data" / "cirr")
    known = {**shared, "SCOT_DATA": str(tmp_path / "data")}
    run = scot(known, "benchmark", "cirr-test1", "--submission", str(tmp_path / "out"), "--lake", str(lake))
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.json"))
    assert "scot/seed-0/test1_pred_ranks_recall.json" in files and len(files) == 8
    found = scot(known, "doctor", "--lake", str(lake), "--json").stdout
    data = {finding["what"]: finding for finding in json.loads(found)}
    assert data["data: cirr-test1"]["ok"] is True and "3 queries, 12 images" in data["data: cirr-test1"]["found"]
    assert data["data: circo"]["ok"] is None and "circo" in data["data: circo"]["found"]
