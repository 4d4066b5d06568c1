"""Damage in the lake: whatever happens to a file, the error names it, and nothing else is raised."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scot_core.errors import LakeError
from scot_core.lake import Dataset, Identity, Lake, Reference, parts
from scot_core.lake.names import file_name
from scot_core.query import query

Rows = Callable[..., dict[str, Any]]
Identify = Callable[..., Identity]
Commit = Callable[..., Dataset]


def _part(lake: Lake, dataset: Dataset, index: int = 0) -> Path:
    return Path(lake.storage.path(dataset.paths[index]))


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
    name = dataset.paths[1]
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


def test_no_changed_byte_before_the_footer_of_a_draft_s_part_is_committed(
    local_lake: Lake, triplets: Rows, identify: Identify
) -> None:
    local_lake.draft(identify()).write_part(0, triplets(3))
    path = Path(local_lake.url, identify().folder, "part-00000.parquet")
    whole = path.read_bytes()
    footer = parts.read_footer(whole)
    assert footer is not None and parts.is_as_written(whole, footer)
    for place in range(len(whole) - footer.size):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        assert not parts.is_as_written(bytes(flipped), footer)
    path.write_bytes(flipped)
    with pytest.raises(LakeError, match=r"part-00000\.parquet is damaged"):
        local_lake.draft(identify()).commit(1, rows_in=3)


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


DELETED = object()


def _changed(manifest: dict[str, Any], path: str, value: object) -> bytes:
    """The manifest's file with one field, such as `parts.0.rows`, replaced or deleted."""
    *parents, last = (int(name) if name.isdigit() else name for name in path.split("."))
    inner: Any = manifest
    for name in parents:
        inner = inner[name]
    if value is DELETED:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(manifest).encode()


FIELDS = [
    "format", "table", "key", "fingerprint", "source", "stage", "config", "inputs", "parts", "files", "rows", "usage",
    "created_at", "parts.0", "parts.0.name", "parts.0.bytes", "parts.0.digest", "parts.0.rows",
    "parts.0.footer.bytes", "parts.0.footer.digest", "rows.in", "rows.out", "rows.rejected",
    "usage.seconds", "usage.prompt_tokens", "usage.completion_tokens", "usage.usd",
]  # fmt: skip
WRONG = [
    ("rows.out", 6), ("rows.in", 6), ("rows.rejected", -1), ("parts.0.rows", 4), ("parts.0.rows", -5),
    ("parts.0.rows", 2**63), ("parts.0.bytes", 1.5), ("parts.0.digest", "0" * 31),
    ("parts.0.name", "part-00001.parquet"),
    ("key", "shop-seed-000000000000"), ("key", ["shop"]), ("table", "rejects"), ("fingerprint", "0" * 32),
    ("parts", 3), ("parts", {}), ("files", [["x"]]), ("rows", []), ("usage", "none"), ("usage.usd", -1.0),
    ("usage.seconds", float("nan")), ("usage.seconds", "2"), ("usage.prompt_tokens", True), ("config", []),
    ("config.deep", [{"x": float("inf")}]), ("inputs", "captions/c-1"), ("inputs", ["captions"]),
    ("inputs", ["captions/../../x"]), ("inputs", [{"table": "..", "key": "x"}]), ("source", ""), ("stage", "a\0b"),
    ("versions", {"torch": 2}), ("created_at", 1.0), ("created_at", "yesterday"), ("created_at", "2026-01-01T00:00:00"),
    ("created_at", "9999-12-31T23:59:59.999999+00:00"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [*((name, DELETED) for name in FIELDS if "footer" not in name), *((name, None) for name in FIELDS), *WRONG],
)
def test_a_damaged_manifest_is_named_and_disturbs_no_other_dataset(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, path: str, value: object
) -> None:
    sound = commit(local_lake, identify(version=2), triplets(3))
    name = f"{commit(local_lake, identify(), triplets(5)).name}/_manifest.json"
    local_lake.storage.write(name, _changed(json.loads(local_lake.storage.read(name)), path, value))
    field = re.escape(path.split(".")[0])
    says = rf"{name} is no whole manifest .*({field}|{path.rsplit('.', 1)[-1]}|committed as).* remove it and run again"
    table = local_lake.table("triplets")
    reads: list[Callable[[], object]] = [
        lambda: local_lake.find(identify()),
        lambda: table.latest(key=identify().key),
        table.latest,
    ]
    for find in reads:
        with pytest.raises(LakeError, match=says):
            find()
    (error,) = local_lake.damaged()
    assert re.search(says, str(error))
    assert [d.record for d in local_lake.datasets()] == [sound.record]
    assert query(local_lake, "select count(*)::int as n from triplets_all").to_pylist() == [{"n": 3}]
    assert query(local_lake, "from runs").num_rows == 1
    local_lake.write_views()
    assert commit(local_lake, identify(version=3), triplets(1)).created_at > sound.created_at


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({"rows.out": 6}, "rows, and those of its parts, do not add up"),
        ({"parts.0.rows": -5}, "parts.0.rows: Input should be greater than or equal to 0"),
        ({"usage.usd": DELETED, "usage.seconds": DELETED}, "there is no usage.seconds, usage.usd"),
        ({"key": "shop-seed-0", "table": "rejects"}, "key shop-seed-0 is not of fingerprint [0-9a-f]{32}"),
        ({"table": "rejects"}, "it was committed as rejects/shop-seed-[0-9a-f]{12}"),
        ({"source": ""}, "source: '' is empty, or holds characters that cannot be printed"),
        ({"source": 1, "stage": 1}, "source: Input should be a valid string; stage: Input should be a valid string"),
        (dict.fromkeys(("source", "stage", "config", "files"), 1), "source: [^;]*; stage: [^;]*; config: [^;]*; …"),
    ],
)
def test_an_error_says_field_by_field_what_is_wrong_with_a_manifest(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, changes: dict[str, object], problems: str
) -> None:
    name = f"{commit(local_lake, identify(), triplets(5)).name}/_manifest.json"
    for path, value in changes.items():
        local_lake.storage.write(name, _changed(json.loads(local_lake.storage.read(name)), path, value))
    says = rf"{name} is no whole manifest \({problems}\); remove it and run again: it will be rebuilt$"
    with pytest.raises(LakeError, match=says):
        local_lake.find(identify())


@pytest.mark.parametrize("name", ["X", "x/X_model.safetensors", "x" * 255, "ü" * 127, "a b/c-d.e_f"])
def test_plain_names_stay_as_they_are(name: str) -> None:
    assert file_name(name) == name


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link_out(path: Path) -> None:
    outside = path.parents[3] / "outside"
    outside.write_bytes(b"{}")
    path.symlink_to(outside)


@pytest.mark.parametrize("put", [_fifo, Path.mkdir, _link_out, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("file", ["_manifest.json", "part-00000.parquet"])
def test_what_is_no_file_of_the_lake_is_named_and_never_opened(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, put: Callable[[Path], None], file: str
) -> None:
    commit(local_lake, identify(version=2), triplets(3))
    path = Path(local_lake.storage.path(commit(local_lake, identify(), triplets(5)).name)) / file
    path.unlink()
    put(path)
    with pytest.raises(LakeError, match=rf"{path} (leads out of the lake|is a folder or a special file).*remove"):
        local_lake.find(identify())
    assert len(local_lake.damaged()) == 1
    assert query(local_lake, "select count(*)::int as n from triplets_all").to_pylist() == [{"n": 3}]


HOSTILE = [
    "", ".", "..", "/", "/etc/passwd", "//etc/passwd", "../x", "../../x", "a/../../x", "a/..", "a/./b", "./a", "a//b",
    "a/", "/a/", "..\\x", "a\\b", "C:\\x", "\\\\host\\x", "~/../x\0", "a\0b", "a\nb", "\u202ea", "\x7f", ".hidden",
    "a/.b", "_manifest.json", "_journal/x", "a/_work", "é/../x", "x" * 256, "ü" * 128,
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_its_dataset(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, tmp_path: Path, name: str
) -> None:
    dataset = commit(local_lake, identify(), triplets(5))
    path = f"{dataset.name}/_manifest.json"
    manifest = json.loads(local_lake.storage.read(path))
    entry = {**manifest["parts"][0], "name": name}
    before = sorted(tmp_path.rglob("*"))
    for field in ("files", "parts"):
        local_lake.storage.write(path, json.dumps({**manifest, field: [entry]}).encode())
        with pytest.raises(LakeError, match=rf"{path} is no whole manifest \(.*{field}"):
            local_lake.find(identify())
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match=r"not the name|empty, or holds"):
        file_name(name)
    if "/" not in name.strip("/") and name not in ("C:\\x",):
        assert local_lake.table("triplets").find(f"{name}/{identify().key}") is None
        with pytest.raises(ValueError, match="is not <table>/<key>"):
            Reference.parse(f"triplets/{name}/x")


def test_nothing_is_read_or_written_over_a_link_out_of_the_lake(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    dataset = commit(local_lake, identify(), triplets(5))
    folder = Path(local_lake.storage.path(dataset.name))
    folder.rename(outside / folder.name)
    folder.symlink_to(outside / folder.name)
    draft = local_lake.draft(identify())
    uses: tuple[Callable[[], object], ...] = (
        dataset.read, dataset.check, lambda: local_lake.find(identify()), lambda: draft.read_part(0),
        lambda: draft.journal(0), draft.work_folder,
    )  # fmt: skip
    before = sorted(outside.rglob("*"))
    for use in uses:
        with pytest.raises(LakeError, match="leads out of the lake"):
            use()
    (outside / folder.name / "_manifest.json").unlink()
    with pytest.raises(LakeError, match="leads out of the lake"):
        draft.write_part(1, triplets(1))
    assert len(before) == 3 and len(sorted(outside.rglob("*"))) == 2


def test_a_lake_may_itself_be_a_link(tmp_path: Path, triplets: Rows, identify: Identify, commit: Commit) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "lake").symlink_to(tmp_path / "disk")
    lake = Lake(tmp_path / "lake")
    assert commit(lake, identify(), triplets(2)).read().num_rows == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"3", b"[]", b'"text"', b'[["format", 1]]'])
def test_a_manifest_that_is_no_json_object_is_named(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit, content: bytes
) -> None:
    name = f"{commit(lake, identify(), triplets(5)).name}/_manifest.json"
    lake.storage.write(name, content)
    with pytest.raises(LakeError, match=rf"{name} is no whole manifest"):
        lake.find(identify())
    assert lake.datasets() == [] and len(lake.damaged()) == 1
    lake.write_views()


def test_a_manifest_of_another_format_is_left_to_the_scot_that_wrote_it(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    name = f"{commit(lake, identify(), triplets(5)).name}/_manifest.json"
    manifest = json.loads(lake.storage.read(name))
    lake.storage.write(name, json.dumps({**manifest, "format": 2, "rows": "elsewhere"}).encode())
    with pytest.raises(LakeError, match=rf"{name} has format 2, this version reads 1"):
        lake.find(identify())
