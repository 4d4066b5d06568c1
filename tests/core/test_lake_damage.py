"""Damage in the lake: whatever happens to a file, the error names it, and nothing else is raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scot_core.errors import LakeError
from scot_core.lake import Dataset, Identity, Lake, parts
from scot_core.query import query

Rows = Callable[..., dict[str, Any]]
Identify = Callable[..., Identity]
Commit = Callable[..., Dataset]


def _part(lake: Lake, dataset: Dataset, index: int = 0) -> Path:
    return Path(lake.storage.path(dataset.parts[index]))


def test_every_flipped_bit_of_a_part_is_found(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    dataset = commit(local_lake, identify(), triplets(5), triplets(40, first=5))
    path = _part(local_lake, dataset, 1)
    whole = path.read_bytes()

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, len(whole) - 1), st.integers(0, 7))
    def flip(place: int, bit: int) -> None:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        with pytest.raises(LakeError, match=rf"{path} is not what was committed.*run again"):
            dataset.read()

    flip()
    assert dataset.read_part(0).num_rows == 5


def test_columns_of_a_large_part_are_read_alone_and_checked(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "WHOLE_BELOW", 0)
    dataset = commit(local_lake, identify(), triplets(200))
    path = _part(local_lake, dataset)
    whole, expected = path.read_bytes(), dataset.read(["caption", "pair_id"])
    assert expected.column_names == ["caption", "pair_id"]
    columns = parquet.read_metadata(path).row_group(0)
    chunks = {columns.column(i).path_in_schema: columns.column(i) for i in range(columns.num_columns)}
    other = chunks["modification"]
    elsewhere = (other.dictionary_page_offset or other.data_page_offset) + other.total_compressed_size - 1
    path.write_bytes(whole[:elsewhere] + bytes([whole[elsewhere] ^ 1]) + whole[elsewhere + 1 :])
    assert dataset.read(["caption", "pair_id"]).equals(expected)  # damage in a column that is not read
    with pytest.raises(LakeError, match="is not what was committed"):
        dataset.read(["modification"])

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, len(whole) - 1), st.integers(0, 7))
    def flip(place: int, bit: int) -> None:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        try:
            assert dataset.read(["caption", "pair_id"]).equals(expected)
        except LakeError as error:
            assert "is not what was committed" in str(error)

    flip()


def test_a_cut_or_missing_part_is_found_before_it_is_read(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    dataset = commit(lake, identify(), triplets(5), triplets(5, first=5))
    name = dataset.parts[1]
    lake.storage.write(name, lake.storage.read(name)[:-1])
    with pytest.raises(LakeError, match=r"part-00001\.parquet does not have the size that was committed"):
        lake.find(identify())
    lake.storage.remove(name)
    for read in (lambda: lake.find(identify()), dataset.read):
        with pytest.raises(LakeError, match=r"part-00001\.parquet is missing; remove it and _manifest\.json"):
            read()
    with pytest.raises(LakeError, match=r"part-00001\.parquet is missing"):
        query(lake, "select count(*) from triplets")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_part_of_a_draft_never_raises_anything_else(
    local_lake: Lake, triplets: Rows, identify: Identify, data: st.DataObject
) -> None:
    draft = local_lake.draft(identify())
    local_lake.storage.remove("triplets")
    draft.write_part(0, triplets(20))
    path = Path(local_lake.storage.path(f"{draft.folder}/part-00000.parquet"))
    whole = path.read_bytes()
    # the footer, where damage is met first, is the second half
    place, bit = data.draw(st.integers(len(whole) // 2, len(whole) - 1)), data.draw(st.integers(0, 7))
    cut = data.draw(st.just(len(whole)) | st.integers(0, len(whole)))
    path.write_bytes((whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])[:cut])
    whole_part = draft.has_part(0)
    for use in (lambda: draft.read_part(0), lambda: draft.commit(1, rows_in=20)):
        try:
            use()
        except LakeError as error:
            assert "part-00000.parquet" in str(error) or "rows went in" in str(error)
    assert whole_part or local_lake.find(identify()) is None


def test_a_part_of_another_dataset_in_the_folder_is_not_taken(lake: Lake, triplets: Rows, identify: Identify) -> None:
    other = lake.draft(identify(version=2))
    other.write_part(0, triplets(3))
    draft = lake.draft(identify())
    stale = lake.storage.read(f"{other.folder}/part-00000.parquet")
    lake.storage.write(f"{draft.folder}/part-00000.parquet", stale)
    assert not draft.has_part(0)
    with pytest.raises(LakeError, match=r"part-00000\.parquet is damaged, or was written for another dataset"):
        draft.commit(1, rows_in=3)
    draft.write_part(0, triplets(3))
    assert draft.commit(1, rows_in=3).rows == 3


def test_a_footer_longer_than_the_first_look_is_read_whole(
    lake: Lake, triplets: Rows, identify: Identify, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = lake.draft(identify())
    draft.write_part(0, triplets(3))
    monkeypatch.setattr(parts, "FOOTER_BYTES", 16)
    assert draft.has_part(0)
    lake.storage.write(f"{draft.folder}/part-00001.parquet", b"PAR1 \xff\xff\xff\xffPAR1")
    assert not draft.has_part(1)


def _without(*path: str) -> Callable[[dict[str, Any]], object]:
    def change(manifest: dict[str, Any]) -> None:
        for name in path[:-1]:
            manifest = manifest[name] if isinstance(manifest, dict) else manifest[int(name)]
        del manifest[path[-1]]

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(rows={**m["rows"], "out": 6}),
        lambda m: m.update(rows={**m["rows"], "in": 6}),
        lambda m: m["parts"][0].update(rows=4),
        lambda m: m.update(key="shop-seed-000000000000"),
        lambda m: m.update(table="rejects"),
        lambda m: m.update(fingerprint="0" * 32),
        lambda m: m.update(parts=3),
        lambda m: m.update(rows=[]),
        lambda m: m.update(fingerprint=None),
        *(_without(name) for name in ("format", "table", "key", "fingerprint", "source", "stage", "config", "inputs")),
        *(_without(name) for name in ("parts", "files", "rows", "usage", "created_at")),
        *(_without("parts", "0", name) for name in ("name", "bytes", "digest", "rows")),
        *(_without("rows", name) for name in ("in", "out", "rejected")),
        *(_without("usage", name) for name in ("seconds", "prompt_tokens", "completion_tokens", "usd")),
    ],
)
def test_a_manifest_that_does_not_add_up_is_named(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, change: Callable[[dict[str, Any]], object]
) -> None:
    name = f"{commit(local_lake, identify(), triplets(5)).name}/_manifest.json"
    manifest = json.loads(local_lake.storage.read(name))
    change(manifest)
    local_lake.storage.write(name, json.dumps(manifest).encode())
    for read in (lambda: local_lake.find(identify()), local_lake.datasets, lambda: query(local_lake, "from runs")):
        with pytest.raises(LakeError, match=rf"{name} is no whole manifest .* remove it and run again"):
            read()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"3", b"[]", b'"text"', b'[["format", 1]]'])
def test_a_manifest_that_is_no_json_object_is_named(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit, content: bytes
) -> None:
    name = f"{commit(lake, identify(), triplets(5)).name}/_manifest.json"
    lake.storage.write(name, content)
    for read in (lambda: lake.find(identify()), lake.datasets, lake.write_views):
        with pytest.raises(LakeError, match=rf"{name} is no whole manifest"):
            read()


def test_a_manifest_of_another_format_is_left_to_the_scot_that_wrote_it(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    name = f"{commit(lake, identify(), triplets(5)).name}/_manifest.json"
    manifest = json.loads(lake.storage.read(name))
    lake.storage.write(name, json.dumps({**manifest, "format": 2, "rows": "elsewhere"}).encode())
    with pytest.raises(LakeError, match=rf"{name} has format 2, this version reads 1"):
        lake.find(identify())
