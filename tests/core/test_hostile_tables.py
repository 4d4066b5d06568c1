"""Tables of captions as nobody should write them: every row is an entry or a refusal, or an error names the file."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.captions import directory as place_module
from scot_core.captions.entries import Entry, Refused
from scot_core.captions.folder import Folder
from scot_core.captions.spool import spool
from scot_core.config import FolderConfig
from scot_core.errors import DataError

HEAD = b"image,caption\n"
ONE = {"image": "a.png", "caption": "one"}
NESTED = '{"image": "a.png", "caption": ' + "[" * 900 + "]" * 900 + "}"


def read(folder: Path, name: str, content: bytes) -> tuple[list[str], list[str]]:
    """Captions that can be drawn, and the reasons and lines of those that cannot."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    items = list(Folder(str(folder / name), FolderConfig()).entries())
    kept = [item.caption for item in items if isinstance(item, Entry)]
    refused = [f"{item.reason} {item.where.split()[-1]}" for item in items if isinstance(item, Refused)]
    assert len(kept) + len(refused) == len(items)
    return kept, refused


def lines(*values: Any) -> bytes:
    return b"\n".join(v if isinstance(v, bytes) else v.encode() if isinstance(v, str) else json.dumps(v).encode()
                      for v in values)  # fmt: skip


# by name: suffix, bytes, captions, refusals
ROWS: dict[str, tuple[str, bytes, list[str], list[str]]] = {
    "a mark in front of the header": (".csv", b"\xef\xbb\xbf" + HEAD + b"a.png,one\n", ["one"], []),
    "no line end at the end": (".csv", HEAD + b"a.png,one", ["one"], []),
    "a header and nothing else": (".csv", HEAD, [], []),
    "lines that end twice": (".csv", b"image,caption\r\n\r\na.png,one\r\n", ["one"], []),
    "bytes that are not UTF-8": (".csv", HEAD + b"a.png,caf\xe9\nb.png,two\n", ["two"], ["wrong_encoding 2"]),
    "NUL in a caption": (".csv", HEAD + b"a.png,o\0ne\n", ["o\0ne"], []),
    "too few and too many cells": (
        ".csv", HEAD + b"a.png\na.png,one,two\nb.png,two\n", ["two"], ["malformed_entry 2", "malformed_entry 3"],
    ),
    "inches in a caption": (".csv", HEAD + b'a.png,a 5" nail\nb.png,"8"" pipe"\n', ['a 5" nail', '8" pipe'], []),
    "text behind a quote": (".csv", HEAD + b'a.png,"one"two\nb.png,two\n', ["onetwo", "two"], []),
    "a caption of two lines": (".csv", HEAD + b'a.png,"one\ntwo"\nb.png,two\n', ["one two", "two"], []),
    "a caption of a thousand lines": (
        ".csv", HEAD + b'a.png,"' + b"\n" * 1000 + b'one"\nb.png,two\n',
        ["two"], ["malformed_entry 2", "malformed_entry 1002"],
    ),
    "a quote that is not closed": (
        ".csv", HEAD + b'a.png,"one\nb.png,two\nc.png,"three"\nd.png,four\n',
        ["two", "three", "four"], ["malformed_entry 2"],
    ),
    "such a quote before rows without any": (
        ".csv", HEAD + b'a.png,"one\n' + b"b.png,two\n" * 300, ["two"] * 300, ["malformed_entry 2"],
    ),
    "such a quote in the last line": (".csv", HEAD + b'a.png,one\nb.png,"two', ["one"], ["malformed_entry 3"]),
    "such a quote in the first column": (
        ".csv", HEAD + b'"a.png,one\n"b.png",two\nc.png,three\n', ["two", "three"], ["malformed_entry 2"],
    ),
    "such a quote in every line": (".csv", HEAD + b'a.png,"one\n' * 3, [], [f"malformed_entry {n}" for n in (2, 3, 4)]),
    "a cell without an end": (
        ".csv", HEAD + b"a.png," + b"x" * 200_000 + b"\nb.png,two\n", ["two"], ["malformed_entry 2"],
    ),
    "a return in the middle of a line": (".csv", HEAD + b"a.png,o\rne\nb.png,two\n", ["two"], ["malformed_entry 2"]),
    "bars": (".csv", b"image|caption\na.png|one|two\nb.png\n", ["one|two"], ["malformed_entry 3"]),
    "values of every kind": (
        ".jsonl", lines([1], "2", '"three"', "null", "true", "NaN", ONE),
        ["one"], [f"malformed_entry {n}" for n in range(1, 7)],
    ),
    "fields of every kind": (
        ".jsonl",
        lines({"image": {"a": 1}, "caption": "x"}, {"image": [0], "caption": "x"}, {"image": True, "caption": "x"},
              {"image": "a", "caption": {"b": []}}, {"image": "a", "caption": 1e9}, {"image": None, "caption": "x"},
              {"image": "", "caption": [[[]]]}, ONE),
        ["one"], [f"malformed_entry {n}" for n in range(1, 6)] + ["no_image 6", "no_image 7"],
    ),
    "lists in lists": (
        ".jsonl", lines("[" * 200_000, NESTED, NESTED.replace("caption", "other"), ONE),
        ["one"], ["malformed_entry 1", "malformed_entry 2", "malformed_entry 3"],
    ),
    "a number of ten thousand digits": (
        ".jsonl", lines('{"image": ' + "9" * 10_000 + "}", ONE),
        ["one"], ["malformed_entry 1"],
    ),
    "the same field twice": (".jsonl", b'{"image": "a.png", "caption": "one", "caption": "two"}', ["two"], []),
    "half a pair": (".jsonl", rb'{"image": "\udc00.png", "caption": "one"}', [], ["wrong_encoding 1"]),
    "a mark in front of the first object": (".jsonl", b'\xef\xbb\xbf{"image": "a.png", "caption": "one"}', ["one"], []),
    "a line that is cut": (
        ".jsonl", lines('{"image": "a.png", "cap', ONE), ["one"], ["malformed_entry 1"],
    ),
    "nothing": (".jsonl", b"", [], []),
    "blank lines": (".jsonl", b"\n \n\t\n", [], []),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_every_line_is_an_entry_or_a_refusal(tmp_path: Path, name: str) -> None:
    suffix, content, captions, refusals = ROWS[name]
    assert read(tmp_path / "t", f"t{suffix}", content) == (captions, refusals)


def table(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


TWICE = pa.Table.from_arrays([pa.array(["a.png"])] * 3, names=["image", "caption", "caption"])
GOOD = table(image=["a.png"], caption=["one"])


def _twice() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(TWICE, buffer)
    return buffer.getvalue()


ERRORS: dict[str, tuple[str, bytes, str]] = {
    "columns of other names": (".csv", b"file,text\n", "has no column image or caption; there is file, text"),
    "a column twice": (".csv", b"image,caption,caption\n", "has several columns caption"),
    "UTF-16": (".csv", "image,caption\n".encode("utf-16"), "is UTF-16"),
    "UTF-32": (".csv", "image,caption\n".encode("utf-32"), "is UTF-16"),
    "UTF-16 without its mark": (".csv", "image,caption\n".encode("utf-16-le"), "has no column"),
    "an empty table": (".csv", b"", "has no column"),
    "returns for line ends": (".csv", b"image,caption\ra.png,one\r", "cannot read|has no column"),
    "numbers for images": (".parquet", table(image=[1], caption=["a"]), "column image is int64, not text"),
    "lists for captions": (".parquet", table(image=["a"], caption=[["a"]]), "is list<.*, not text"),
    "structs for captions": (".parquet", table(image=["a"], caption=[{"a": 1}]), "is struct<.*, not text"),
    "bytes for captions": (".parquet", table(image=["a"], caption=[b"a"]), "is binary, not text"),
    "nothing but nulls": (".parquet", table(image=["a"], caption=[None]), "is null, not text"),
    "a Parquet column twice": (".parquet", _twice(), "has several columns caption"),
    "no Parquet": (".parquet", b"PAR1" * 20, r"t\.parquet"),
    "Parquet that is cut": (".parquet", GOOD[:-9], r"is cut short or damaged"),
    "Parquet with holes": (".parquet", GOOD[:4] + b"\0" * 60 + GOOD[64:], r"t\.parquet"),
    "an empty Parquet": (".parquet", b"", "is cut short or damaged"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_table_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    suffix, content, words = ERRORS[name]
    with pytest.raises(DataError, match=words) as error:
        read(tmp_path / "t", f"t{suffix}", content)
    assert str(tmp_path) in str(error.value)


def test_nulls_and_text_of_other_kinds_in_parquet(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"caf\xe9")])
    views = table(image=pa.array(["a", None], pa.string_view()), caption=pa.array([None, "b"], pa.large_string()))
    assert read(tmp_path / "t", "a.parquet", views) == ([], ["empty_caption 1", "no_image 2"])
    assert read(tmp_path / "t", "b.parquet", table(image=["a"], caption=broken)) == ([], ["wrong_encoding 1"])


PLACES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, name: str, suffix: str) -> None:
    PLACES[name](tmp_path / f"t{suffix}")
    reader = Folder(str(tmp_path), FolderConfig())
    for look in (reader.entries, reader.digests):
        with pytest.raises(DataError, match=rf"t\{suffix}"):
            list(look())


def test_a_table_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_bytes(HEAD + b"a.png,one\n")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "t.csv").symlink_to("../elsewhere.csv")
    assert [item.caption for item in Folder(str(tmp_path / "t"), FolderConfig()).entries()] == ["one"]  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_line_without_an_end_is_no_memory_without_an_end(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_module, "LONGEST_LINE", 1000)
    last = b"a.png,one\n" if suffix == ".csv" else b'{"image": "a.png", "caption": "one"}\n'
    content = (HEAD if suffix == ".csv" else b"\n") + b'{"image": ' + b"x" * 50_000 + b"\n" + last
    assert read(tmp_path / "t", f"t{suffix}", content) == (["one"], ["malformed_entry 2"])


LETTERS = st.characters(codec="utf-8", exclude_characters='\r\n"\0')
CAPTIONS = st.text(LETTERS, min_size=1, max_size=30).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(captions=st.lists(CAPTIONS, min_size=1, max_size=120), data=st.data(), several=st.booleans())
def test_a_quote_that_is_not_closed_costs_its_own_row_alone(
    tmp_path_factory: pytest.TempPathFactory, captions: list[str], data: st.DataObject, several: bool
) -> None:
    if several:
        captions = [f"{caption}\n{caption}" for caption in captions]
    rows = []
    for number, caption in enumerate(captions):
        buffer = io.StringIO()
        csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow([f"{number}.png", caption])
        rows.append(buffer.getvalue())
    words = [" ".join(caption.split()) for caption in captions]
    folder = tmp_path_factory.mktemp("quotes")
    assert read(folder, "t.csv", HEAD + "".join(rows).encode()) == (words, [])
    if not several:
        broken = data.draw(st.integers(0, len(rows) - 1))
        rows[broken] = rows[broken][:-2] + "\n"
        kept, refused = read(folder, "t.csv", HEAD + "".join(rows).encode())
        assert kept == words[:broken] + words[broken + 1 :]
        assert refused == [f"malformed_entry {broken + 2}"]


def test_what_is_refused_is_in_the_spool_with_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    count = 0
    for number, (suffix, content, captions, refusals) in enumerate(ROWS.values()):
        (tmp_path / "t" / f"{number}{suffix}").write_bytes(content)
        count += len(captions) + len(refusals)
    reader = Folder(str(tmp_path / "t"), FolderConfig())
    drawn = spool([reader], tmp_path, seed=0, one_per_image=False, shard_rows=50)
    assert sum(drawn.sizes) == count
