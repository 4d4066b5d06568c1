"""Generations: one id from captions to benchmark, compared, promoted, rolled back, guarded, and removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scot import generations as commands
from scot_core.errors import ConfigError, LakeError, ScotError
from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.lake.check import check
from scot_core.lake.compare import Score, compare
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.gc import collect, garbage
from scot_core.lake.generations import find, generations, record, records
from scot_core.lake.promotion import combiners_in_use, current, promote, rollback
from scot_core.query import connect, query
from tests.rows import no_rows

LATER = datetime.now(UTC) + timedelta(days=3)


def add(
    lake: Lake, table: str, config: dict[str, Any], inputs: Sequence[Dataset], rows: dict[str, list[Any]] | None = None
) -> Dataset:
    identity = Identity(
        table, "shop", table, fingerprint(table, 1, config, [d.fingerprint for d in inputs]), config,
        [dataset.reference for dataset in inputs],
    )  # fmt: skip
    if found := lake.find(identity):
        return found
    draft = lake.draft(identity)
    count = draft.write_part(0, rows or no_rows(table))
    return draft.commit(1, rows_in=count, usage=Usage(usd=1.0 if table == "replies" else 0.0))


def make(lake: Lake, captions: int, steps: int, recall: float) -> Dataset:
    """The benchmark, of this R@1, of a small generation of these captions and this many steps."""
    pictures = add(lake, "captions", {"count": captions}, [])
    said = add(lake, "replies", {"model": {"name": "teacher"}}, [pictures])
    written = add(lake, "triplets", {}, [said])
    reasons: dict[str, list[Any]] = {
        "pair_id": ["a", "b"],
        "source": ["shop"] * 2,
        "stage": ["seed"] * 2,
        "raw": ["", ""],
        "tries": [1, 1],
    }
    twin = Identity("rejects", "shop", "triplets", written.fingerprint, {}, written.inputs)
    if lake.find(twin) is None:
        draft = lake.draft(twin)
        draft.write_part(0, {**reasons, "reason": ["length", "identical"]})
        draft.commit(1, rows_in=2)
    after: dict[str, list[Any]] = {
        "phase": ["after"],
        "source": ["shop"],
        "step": [0],
        "metric": ["share_right"],
        "value": [70.0],
    }
    tuned = add(lake, "adapters", {}, [pictures, written], after)
    combiners = add(lake, "combiners", {"steps": steps}, [written, tuned])
    names: dict[str, list[Any]] = {
        "source": ["shop"],
        "benchmark": ["catalogue"],
        "split": ["all"],
        "method": ["scot"],
        "metric": ["R@1"],
    }
    numbers: dict[str, list[Any]] = {
        "value": [recall],
        "low": [recall - 2],
        "high": [recall + 2],
        "queries": [9],
        "seeds": [1],
    }
    measured = add(lake, "benchmarks", {}, [combiners, written], {**names, **numbers, "encoder": ["e"]})
    lake.write_views()
    return measured


def test_an_id_is_of_everything_from_captions_to_benchmark(lake: Lake) -> None:
    first = make(lake, 10, 5, 50)
    (one,) = generations(lake)
    assert one.root.name == first.name and len(one.members) == 7 and one.usd == 1 and one.missing == ()
    make(lake, 10, 6, 60)
    make(lake, 11, 6, 60)
    made = generations(lake)
    assert made[0].id == one.id and len({generation.id for generation in made}) == 3
    assert find(lake, one.id[-12:-4]).id == find(lake, one.id).id == one.id
    assert find(lake, "newest").id == made[2].id
    for wanted, what in (("gen-shop", "more than one"), ("x", "no generation")):
        with pytest.raises(ConfigError, match=f"{what}.*{one.id}"):
            find(lake, wanted)


def test_a_run_s_record_is_that_of_the_first_and_is_checked(lake: Lake) -> None:
    root = make(lake, 10, 5, 50)
    combiners = root.inputs[0].key
    (name,) = record(lake, [combiners, root.key], {"profile": "smoke"})
    assert record(lake, [combiners, root.key], {"profile": "again"}) == [name]
    found = records(lake)[name]
    assert found.root == root.reference and found.settings == {"profile": "smoke"} and len(found.datasets) == 7
    (partial,) = record(lake, [combiners], {})
    assert {generation.id for generation in generations(lake)} == {name}, "a step of a generation is none of its own"
    assert records(lake)[partial].root.key == combiners
    data = lake.storage.read(f"runs/{name}.json")
    lake.storage.write(f"runs/{name}.json", data.replace(b"smoke", b"smoky"))
    with pytest.raises(LakeError, match=rf"runs/{name}.json is damaged.*scot check --repair"):
        generations(lake)


def test_a_difference_holds_settings_rows_rejects_quality_and_scores(lake: Lake) -> None:
    make(lake, 10, 5, 50)
    make(lake, 10, 6, 60)
    found = compare(*generations(lake))
    assert found.settings == {"combiners: steps": (5, 6)}
    assert found.rows["benchmarks"] == (1, 1) and found.rows["rejects triplets"] == (2, 2)
    assert found.rejects == {"seed: identical": (1, 1), "seed: length": (1, 1)}
    assert found.quality == {"share_right after tuning": (70.0, 70.0)}
    assert found.scores == {"catalogue all scot R@1": (Score(50, 48, 52), Score(60, 58, 62))}


def test_readers_follow_the_promoted_generation_and_the_way_back(lake: Lake) -> None:
    for steps in (5, 6, 7):
        make(lake, 10, steps, 50)
    one, two, three = generations(lake)
    assert current(lake) is None and combiners_in_use(lake) is None
    for generation in (one, two, three):
        promote(lake, generation)
        taken = combiners_in_use(lake)
        assert taken is not None and taken.reference in generation.root.inputs
    back = [rollback(lake).generation, rollback(lake).generation]
    assert back == [two.id, one.id]
    with pytest.raises(ConfigError, match="none to go back to"):
        rollback(lake)
    in_use = combiners_in_use(lake)
    assert in_use is not None and one.combiners is not None and in_use.name == one.combiners.name
    lake.storage.remove(in_use.name)
    with pytest.raises(LakeError, match=r"is no longer in .* promote another generation"):
        combiners_in_use(lake)


def shown(lake: Lake) -> list[list[object]]:
    """Steps of the Combiners that the views of the promoted generation, and of the newest datasets, show."""
    by_key = {dataset.key: dataset.config["steps"] for dataset in lake.table("combiners").datasets()}
    asked = (
        "from runs where promoted and \"table\" = 'combiners'",
        "from runs where newest and \"table\" = 'combiners'",
    )
    return [[by_key[key] for key in query(lake, f"select key {sql}")["key"].to_pylist()] for sql in asked]


def test_views_of_the_promoted_generation_follow_the_alias(local_lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps, recall in ((5, 50), (6, 60)):
        make(local_lake, 10, steps, recall)
    one, two = generations(local_lake)
    recall_of = "select value from promoted.benchmarks"
    assert query(local_lake, recall_of).num_rows == 0 and shown(local_lake) == [[], [6]]
    monkeypatch.chdir(local_lake.url)
    for generation, value, steps in ((one, 50.0, 5), (two, 60.0, 6), (one, 50.0, 5)):
        if generation is one and current(local_lake) is not None:
            rollback(local_lake)
        else:
            promote(local_lake, generation)
        assert query(local_lake, recall_of)["value"].to_pylist() == [value] and shown(local_lake) == [[steps], [6]]
        assert query(local_lake, "select count(*)::int as n from runs where promoted")["n"].to_pylist() == [7]
        with connect(local_lake) as own, duckdb.connect() as plain:
            plain.execute(Path("views.sql").read_text())
            assert own.sql(recall_of).fetchall() == plain.sql(recall_of).fetchall() == [(value,)]
    make(local_lake, 11, 7, 70)
    assert shown(local_lake) == [[5], [7]]

    local_lake.storage.remove(one.root.name)
    assert query(local_lake, "select count(*)::int as n from runs where promoted is null")["n"].to_pylist() == [15]
    with pytest.raises(LakeError, match=rf"{one.root.key} of generation {one.id} is no longer in"):
        query(local_lake, recall_of)
    Path("aliases/current.json").write_text("{}")
    assert query(local_lake, "from benchmarks").num_rows == 1
    with pytest.raises(LakeError, match=r"aliases/current\.json is damaged"):
        query(local_lake, recall_of)


def test_a_benchmark_that_fell_too_far_is_not_promoted_unless_it_is_wanted(
    local_lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    make(local_lake, 10, 5, 50)
    commands.promote("newest", max_drop=1, lake=local_lake.url)  # nothing to compare with
    make(local_lake, 10, 6, 48.5)
    one, two = generations(local_lake)
    with pytest.raises(ScotError, match=r"R@1, 9 queries: 1\.50 points lower.*--anyway"):
        commands.promote("newest", max_drop=1, lake=local_lake.url)
    assert current(local_lake).generation == one.id  # type: ignore[union-attr]
    commands.promote("newest", max_drop=1.5, lake=local_lake.url)
    commands.rollback(lake=local_lake.url)
    capsys.readouterr()
    commands.promote("newest", max_drop=1, anyway=True, lake=local_lake.url, json_=True)
    assert json.loads(capsys.readouterr().out)["generation"] == two.id
    commands.runs(lake=local_lake.url, json_=True)
    assert [row["in_use"] for row in json.loads(capsys.readouterr().out)] == [False, True]
    commands.diff("current", one.id, lake=local_lake.url)
    assert "50.0 (48.0-52.0)" in capsys.readouterr().out


def test_check_reads_the_promoted_generation_too(local_lake: Lake) -> None:
    """...which may be older than the newest of each stage."""
    older = make(local_lake, 10, 5, 50)
    make(local_lake, 10, 6, 60)
    path = Path(local_lake.storage.path(older.paths[0]))
    path.write_bytes(path.read_bytes()[::-1])
    assert check(local_lake).damages == ()
    promote(local_lake, generations(local_lake)[0])
    assert [damage.file for damage in check(local_lake).damages] == older.paths
    alias = Path(local_lake.storage.path("aliases/current.json"))
    alias.write_text(alias.read_text().replace("gen-shop", "gen-shoq"))
    assert [damage.file for damage in check(local_lake).damages] == ["aliases/current.json"]


def test_gc_tells_and_removes_only_when_told(local_lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    first = make(local_lake, 10, 5, 50)
    record(local_lake, [first.key], {})
    make(local_lake, 11, 5, 50)
    before = sum(local_lake.storage.sizes("").values())
    commands.gc(keep=1, lake=local_lake.url, json_=True)
    told = json.loads(capsys.readouterr().out)
    assert (
        not told["removed"]
        and len(told["items"]) == 8
        and told["usd"] == 1
        and first.name in [item["name"] for item in told["items"]]
    )
    assert sum(local_lake.storage.sizes("").values()) == before and len(generations(local_lake)) == 2
    commands.gc(keep=1, yes=True, lake=local_lake.url)
    assert "1.00 USD were paid" in capsys.readouterr().out
    assert len(generations(local_lake)) == 1 and records(local_lake) == {}
    assert before - told["bytes"] >= sum(local_lake.storage.sizes("").values())  # the views are shorter, too
    with pytest.raises(ConfigError, match="--keep 0 would remove every generation"):
        commands.gc(keep=0, lake=local_lake.url)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=5, unique=True),
    promoted=st.lists(st.integers(0, 4), max_size=3),
    keep=st.integers(1, 3),
)
def test_what_is_kept_misses_nothing_after_gc(
    local_lake: Lake, made: list[tuple[int, int]], promoted: list[int], keep: int
) -> None:
    for name in local_lake.storage.names(""):
        local_lake.storage.remove(name)
    for captions, steps in made:
        make(local_lake, captions, steps, 50)
    known = generations(local_lake)
    for place in promoted:
        promote(local_lake, known[place % len(known)])
    wanted = {generation.id for generation in known[-keep:]}
    in_turn = [place for place, _ in groupby(place % len(known) for place in promoted)]  # what is in use stays so
    wanted |= {known[place].id for place in in_turn[-2:]}
    collect(local_lake, garbage(local_lake, keep))
    left = generations(local_lake)
    assert {generation.id for generation in left} == wanted
    assert all(generation.missing == () and len(generation.members) == 7 for generation in left)
    needed = {dataset.name for generation in left for dataset in generation.members}
    assert {dataset.name for dataset in local_lake.datasets()} == needed


def test_work_that_was_begun_goes_after_a_day_and_paid_journals_never(lake: Lake) -> None:
    make(lake, 10, 5, 50)
    begun = lake.draft(Identity("captions", "shop", "captions", "a" * 32, {}))
    begun.write_part(0, no_rows("captions"))
    asking = lake.draft(Identity("replies", "shop", "seed", "b" * 32, {}))
    journal = asking.journal(0)
    journal.append({"text": "paid for"})
    journal.close()
    unfinished = add(lake, "captions", {"count": 99}, [])  # committed, of a run that goes on
    young = garbage(lake, 1)
    assert young.items == () and len(young.left) == 2
    with pytest.raises(LakeError, match="written to within the last hour"):
        collect(lake, young)
    old = garbage(lake, 1, now=LATER)
    assert {item.name for item in old.items} == {begun.folder, unfinished.name}
    assert [item.name for item in old.left] == [asking.folder]
    collect(lake, old, now=LATER)
    assert lake.uncommitted() == [asking.folder] and len(generations(lake)) == 1


def test_gc_removes_nothing_from_a_lake_it_cannot_read(local_lake: Lake) -> None:
    root = make(local_lake, 10, 5, 50)
    Path(local_lake.storage.path(f"{root.name}/_manifest.json")).write_text("{}")
    with pytest.raises(LakeError, match=r"no whole manifest.*Nothing is removed before that: see `scot check`"):
        garbage(local_lake, 1)
