"""The index of manifests: it saves reading them, and is never believed where something changed behind its back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scot_core.lake import Dataset, Identity, Lake, shown
from scot_core.lake.fingerprint import digest
from scot_core.lake.manifest import MANIFEST
from scot_core.lake.table import Table
from scot_core.query import connect, query

Rows = Callable[..., dict[str, Any]]
Identify = Callable[..., Identity]
Commit = Callable[..., Dataset]
KEYS = "select key from triplets_all order by key"
RUNS = "select key from runs where \"table\" = 'triplets' order by key"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of indexes; every dataset counts, as soon as it is there."""
    monkeypatch.setenv("SCOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shown, "FEW", 1)
    monkeypatch.setattr(shown, "TICK_NS", 0)
    return tmp_path / "cache" / "manifests"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys whose manifests were read."""
    seen: list[str] = []
    find = Table.find
    monkeypatch.setattr(Table, "find", lambda self, key: seen.append(key) or find(self, key))  # type: ignore[func-returns-value]
    return seen


@pytest.fixture
def three(local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, index: Path) -> list[str]:
    """Keys of three datasets of a lake that has an index."""
    keys = [commit(local_lake, identify(version=version), triplets(version)).key for version in (1, 2, 3)]
    assert listed(local_lake) == sorted(keys) and len(list(index.iterdir())) == 1
    return sorted(keys)


def listed(lake: Lake) -> list[str]:
    """Keys of the datasets, which views, files, runs and a connection must agree on, and whole reads."""
    keys: list[str] = query(lake, RUNS)["key"].to_pylist()
    assert sorted(set(query(lake, KEYS)["key"].to_pylist())) == keys
    with connect(lake) as connection:
        assert [row[0] for row in connection.sql(RUNS).fetchall()] == keys
    datasets, damaged = lake.read()
    found, why = lake.shown()
    assert found == list(map(shown.of_dataset, datasets)) and list(map(str, why)) == list(map(str, damaged))
    return keys


def test_what_did_not_change_is_not_read_again(local_lake: Lake, three: list[str], reads: list[str]) -> None:
    assert query(local_lake, KEYS)["key"].to_pylist() and reads == []
    assert local_lake.damaged() == [] and reads == []


def test_what_was_added_removed_or_replaced_behind_its_back_is_seen(
    local_lake: Lake, three: list[str], reads: list[str], triplets: Rows, identify: Identify, commit: Commit,
    tmp_path: Path,
) -> None:  # fmt: skip
    commit(Lake(tmp_path / "other"), identify(version=4), triplets(4))
    folder, added = Path(local_lake.url, "triplets"), identify(version=4).key
    shutil.copytree(tmp_path / "other" / "triplets" / added, folder / added)
    assert listed(local_lake) == sorted([*three, added])
    shutil.rmtree(folder / three[0])
    assert listed(local_lake) == sorted([*three[1:], added])

    manifest = folder / three[1] / MANIFEST
    content = json.loads(manifest.read_text())
    del content["seal"]
    before = manifest.stat()
    content["stage"] = content["stage"][::-1]  # as long as before
    manifest.write_text(json.dumps(content))
    os.utime(manifest, ns=(before.st_atime_ns, before.st_mtime_ns))
    listed(local_lake)
    assert {one.stage for one in local_lake.shown()[0] if one.key == three[1]} == {content["stage"]}
    manifest.write_bytes(manifest.read_bytes()[:-9])
    (why,) = local_lake.damaged()
    assert three[1] in str(why) and listed(local_lake) == sorted([three[2], added])


@pytest.mark.parametrize("what", ["part", "folder", "table"])
def test_links_out_of_the_lake_are_found(what: str, local_lake: Lake, three: list[str], tmp_path: Path) -> None:
    folder = Path(local_lake.url, "triplets")
    inside = {"part": folder / three[0] / "part-00000.parquet", "folder": folder / three[0], "table": folder}[what]
    inside.rename(tmp_path / "moved")
    inside.symlink_to(tmp_path / "moved")
    left_out = len(local_lake.damaged())
    assert left_out == (3 if what == "table" else 1) and "leads out of the lake" in str(local_lake.damaged()[0])
    assert listed(local_lake) == (three[1:] if left_out == 1 else [])


@pytest.mark.parametrize("damage", ["cut", "flipped", "another", "nothing", "no JSON", "unlike"])
def test_a_damaged_index_is_not_used(damage: str, local_lake: Lake, three: list[str], index: Path) -> None:
    (path,) = index.iterdir()
    body = path.read_bytes().partition(b"\n")[2]
    renamed, whole = body.replace(three[0].encode(), b"x" * len(three[0])), path.read_bytes()
    sealed = {"no JSON": b"[", "unlike": b'{"format": 1, "datasets": [[1]]}'}.get(damage, b"")
    damaged = {"cut": whole[:-5], "flipped": whole.replace(body, renamed), "another": whole.replace(body, b"{}")}
    path.write_bytes(damaged.get(damage, digest(sealed).encode() + b"\n" + sealed if sealed else b""))
    assert listed(local_lake) == three
    assert path.read_bytes().partition(b"\n")[2] != renamed


def test_what_changed_a_moment_ago_is_read_again(
    local_lake: Lake, three: list[str], reads: list[str], monkeypatch: pytest.MonkeyPatch, index: Path
) -> None:
    """It might change once more within the same tick of the disk's clock."""
    shutil.rmtree(index)
    monkeypatch.setattr(shown, "TICK_NS", 10**15)
    assert listed(local_lake) == three
    reads.clear()
    assert query(local_lake, RUNS).num_rows == 3 and sorted(reads) == three


def test_a_cache_that_cannot_be_written_is_done_without(
    local_lake: Lake, three: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SCOT_CACHE", str(tmp_path / "file"))
    assert listed(local_lake) == three


def test_object_stores_have_no_index(index: Path, triplets: Rows, identify: Identify, commit: Commit) -> None:
    lake = Lake("memory://no-index")
    commit(lake, identify(), triplets(2))
    try:
        assert listed(lake) == [identify().key] and not index.exists()
    finally:
        lake.storage.remove("")
