"""Readers of published captions: every form, and what each makes of the ugly entries that are in the wild."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scot_core.captions.abo import Abo
from scot_core.captions.coco import Coco
from scot_core.captions.entries import Entry, Refused
from scot_core.captions.flickr30k import Flickr30k
from scot_core.captions.folder import Folder
from scot_core.captions.reader import Reader
from scot_core.captions.sources import missing, readers_of
from scot_core.config import AboConfig, CaptionsConfig, CocoConfig, Flickr30kConfig, FolderConfig
from scot_core.errors import ConfigError, DataError
from tests import captioned
from tests.captioned import CAPTIONS, listing


def _entries(reader: Reader) -> list[Entry]:
    return [item for item in reader.entries() if isinstance(item, Entry)]


def _refusals(reader: Reader) -> list[tuple[str, str]]:
    """Reason and position."""
    return [(str(item.reason), item.where) for item in reader.entries() if isinstance(item, Refused)]


def _texts(captions: Iterable[Iterable[str]] = CAPTIONS.values()) -> list[str]:
    return [text for several in captions for text in several]


# ---------------------------------------------------------------------------------------- COCO


@pytest.mark.parametrize(("year", "name"), [("2017", "000000000001.jpg"), ("2014", "COCO_train2014_000000000001.jpg")])
def test_coco_of_both_years(tmp_path: Path, year: Literal["2017", "2014"], name: str) -> None:
    reader = Coco(CocoConfig(root=str(captioned.coco(tmp_path, year=year)), year=year))
    assert [entry.caption for entry in _entries(reader)] == _texts()
    assert dict(reader.pictures())["coco/000000000001"] == f"train{year}/{name}"
    assert {entry.image_id for entry in _entries(reader)} == dict(reader.pictures()).keys()
    assert all(reader.images.read(path) for _, path in reader.pictures())


def test_coco_reads_train_and_val(tmp_path: Path) -> None:
    captioned.coco(tmp_path, {1: ["a cat"]}, split="train")
    captioned.coco(tmp_path, {2: ["a dog"]}, split="val")
    reader = Coco(CocoConfig(root=str(tmp_path), split="all"))
    assert dict(reader.pictures()) == {
        "coco/000000000001": "train2017/000000000001.jpg",
        "coco/000000000002": "val2017/000000000002.jpg",
    }
    assert [entry.caption for entry in _entries(reader)] == ["a cat", "a dog"]


def test_coco_refuses_what_is_no_annotation(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg"}
    bad = [
        {"image_id": "1", "caption": "an id that is text"},
        {"image_id": True, "caption": "an id that is no number"},
        {"image_id": 1},
        {"image_id": 1, "caption": 3.5},
        "not an object",
        {"image_id": 1, "caption": " \n "},
        {"image_id": 1, "caption": "x" * 1001},
    ]
    good = {"image_id": 1, "caption": " A man\n riding  a wave .\n"}
    captioned.write_coco(tmp_path, [image, {"id": 2}, "no image"], [*bad, good])
    reader = Coco(CocoConfig(root=str(tmp_path)))
    assert _entries(reader) == [Entry("coco/000000000001", None, "A man riding a wave .")]
    words = ["malformed_entry"] * 5 + ["empty_caption", "caption_too_long"]
    name = "annotations/captions_train2017.json"
    assert _refusals(reader) == [(word, f"{name} annotation {n}") for n, word in enumerate(words, start=1)]
    assert list(reader.pictures()) == [("coco/000000000001", "train2017/a.jpg")]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda data: data[:-40], "is cut short or damaged .*get it again"),
        (lambda data: data.replace(b"picture", b"p\xff\xfecture"), "is cut short or damaged"),
        (lambda data: b"<html>Not found</html>", "is cut short or damaged"),
        (lambda data: b'{"images": []}', "holds no list `annotations`"),
    ],
)
def test_a_damaged_coco_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], what: str) -> None:
    path = captioned.coco(tmp_path) / "annotations" / "captions_train2017.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"captions_train2017.json {what}"):
        list(Coco(CocoConfig(root=str(tmp_path))).entries())


# ------------------------------------------------------------------------------------ Flickr30K


@pytest.mark.parametrize("form", ["token", "bars", "commas", "karpathy"])
def test_flickr30k_in_every_form_is_the_same(tmp_path: Path, form: str) -> None:
    reader = Flickr30k(Flickr30kConfig(root=str(captioned.flickr30k(tmp_path, form))))
    entries = _entries(reader)
    assert [entry.caption for entry in entries] == _texts()
    assert entries[0] == Entry("flickr30k/1001", "1001.jpg", "red square, number 1")
    assert _refusals(reader) == []
    assert all(entry.path and reader.images.read(entry.path) for entry in entries)


def test_flickr30k_refuses_lines_of_another_form(tmp_path: Path) -> None:
    lines = [
        b"1.jpg#0\tA girl , two dogs .",
        b"",
        b"1.jpg A line without a tab .",
        b"2.jpg\tA line without a number .",
        b"2.jpg#0\tCaf\xe9 in Paris .",
        "2.jpg#1\tCafé in Paris .".encode(),
        b"2.jpg#2\t",
        b"#3\tNo image .",
    ]
    (tmp_path / "results_20130124.token").write_bytes(b"\r\n".join(lines))
    reader = Flickr30k(Flickr30kConfig(root=str(tmp_path)))
    assert [entry.caption for entry in _entries(reader)] == ["A girl , two dogs .", "Café in Paris ."]
    assert [(word, int(where.split()[-1])) for word, where in _refusals(reader)] == [
        ("malformed_entry", 3),
        ("malformed_entry", 4),
        ("wrong_encoding", 5),
        ("empty_caption", 7),
        ("no_image", 8),
    ]


def test_the_row_of_kaggles_file_that_lacks_a_bar_is_a_reject(tmp_path: Path) -> None:
    rows = [
        "image_name| comment_number| comment",
        '2199200615.jpg| 3| A dog runs , its "tongue" | out .',
        "2199200615.jpg| 4   A dog runs across the grass .",
    ]
    (tmp_path / "results.csv").write_text("\n".join(rows))
    reader = Flickr30k(Flickr30kConfig(root=str(tmp_path)))
    assert [entry.caption for entry in _entries(reader)] == ['A dog runs , its "tongue" | out .']
    assert _refusals(reader) == [("malformed_entry", "results.csv line 3")]


def test_karpathys_damaged_images_are_rejects(tmp_path: Path) -> None:
    images = [
        {"filename": "1.jpg", "sentences": [{"raw": "A cat ."}, {"tokens": ["no", "raw"]}, "text"]},
        {"filename": "2.jpg"},
        {"sentences": [{"raw": "A dog ."}]},
    ]
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    reader = Flickr30k(Flickr30kConfig(root=str(tmp_path)))
    assert [entry.caption for entry in _entries(reader)] == ["A cat ."]
    assert [word for word, _ in _refusals(reader)] == ["malformed_entry"] * 3 + ["no_image"]


# ------------------------------------------------------------------------------------------ ABO


def test_abo_in_the_language_chosen(tmp_path: Path) -> None:
    made: list[dict[str, Any] | bytes] = [
        listing("11a", de_DE="Becher", en_GB="Mug &amp; saucer, 8&quot;", en_US="Cup &amp; saucer, 8&quot;"),
        listing("12b", en_IN="Kurta, women&#39;s"),
        listing("13c", de_DE="Stuhl"),
        listing("14d", eng="not English by its tag"),
        listing(None, en_US="A lamp without an image"),
        {"item_id": "B05", "main_image_id": "15e"},
        b'{"item_id": "B06", "item_name": [',
        '{"main_image_id": "16f", "item_name": [{"language_tag": "en_US", "value": "Café"}]}'.encode("latin-1"),
        {"main_image_id": "17a", "item_name": "not a list"},
        {**listing("18b", en_US="A bag"), "bullet_point": [{"value": "no language"}]},
    ]
    captioned.abo(tmp_path, [made[:4], made[4:]], ["11a", "12b"])
    reader = Abo(AboConfig(root=str(tmp_path)))
    assert _entries(reader) == [
        Entry("abo/11a", None, 'Cup & saucer, 8"'),
        Entry("abo/12b", None, "Kurta, women's"),
    ]
    assert [word for word, _ in _refusals(reader)] == [
        "not_in_language",
        "not_in_language",
        "no_image",
        "not_in_language",
        "malformed_entry",
        "wrong_encoding",
        "malformed_entry",
        "malformed_entry",
    ]
    assert dict(reader.pictures()) == {"abo/11a": "11/11a.jpg", "abo/12b": "12/12b.jpg"}
    assert all(reader.images.read(path) for _, path in reader.pictures())
    british = Abo(AboConfig(root=str(tmp_path), language="en_GB"))
    assert [entry.caption for entry in _entries(british)] == ['Mug & saucer, 8"']
    german = Abo(AboConfig(root=str(tmp_path), language="de"))
    assert [entry.caption for entry in _entries(german)] == ["Becher", "Stuhl"]


def test_bullet_points_follow_the_name_while_there_is_room(tmp_path: Path) -> None:
    said = [
        ("en_US", "Two drawers, &amp; a shelf"),
        ("de_DE", "Zwei F\u00e4cher"),
        ("en_US", " "),
        ("en_US", "Solid oak"),
    ]
    points = {"bullet_point": [{"language_tag": tag, "value": value} for tag, value in said]}
    captioned.abo(tmp_path, [[{**listing("11a", en_US="A desk."), **points}]], ["11a"])
    for words, caption in (
        (40, "A desk. Two drawers, & a shelf. Solid oak"),
        (8, "A desk. Two drawers, & a shelf"),  # one word more would be nine
        (0, "A desk."),
    ):
        (entry,) = _entries(Abo(AboConfig(root=str(tmp_path), words=words)))
        assert entry.caption == caption
    assert AboConfig(words=0).identity() != AboConfig().identity(), "another caption is another key"


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"<html>", lambda data: data[:20] + b"\0" * 9 + data[29:]]
)
@pytest.mark.parametrize("name", ["listings/metadata/listings_1.json.gz", "images/metadata/images.csv.gz"])
def test_a_truncated_archive_is_named(tmp_path: Path, damage: Callable[[bytes], bytes], name: str) -> None:
    path = captioned.abo(tmp_path, *captioned.products(40)) / name
    path.write_bytes(damage(path.read_bytes()))
    reader = Abo(AboConfig(root=str(tmp_path)))
    with pytest.raises(DataError, match=f"{path.name} is cut short or damaged .*get it again"):
        list(reader.entries()), list(reader.pictures())


# ----------------------------------------------------------------------------------------- one's own


def test_ones_own_csv_and_its_ugly_rows(tmp_path: Path) -> None:
    rows = [
        b'\xef\xbb\xbfcaption,image\r\n"two\nlines",a.png\r\n',
        b"a comma, not quoted,a.png\r\n",
        b"too short\r\n\r\n",
        b"caf\xe9,a.png\r\n",
        b"no image,\r\n",
        b"the same file,./sub/../a.png\r\n",
    ]
    (tmp_path / "t.csv").write_bytes(b"".join(rows))
    reader = Folder(str(tmp_path / "t.csv"), FolderConfig())
    assert _entries(reader) == [Entry("a.png", "a.png", "two lines"), Entry("a.png", "a.png", "the same file")]
    assert _refusals(reader) == [
        ("malformed_entry", "t.csv line 4"),
        ("malformed_entry", "t.csv line 5"),
        ("wrong_encoding", "t.csv line 7"),
        ("no_image", "t.csv line 8"),
    ]


def test_ones_own_json_lines_and_parquet(tmp_path: Path) -> None:
    lines = [
        b'{"image": "a.png", "caption": "a cat", "more": 1}',
        b'{"image": "a.png", "cap',
        b'["a.png", "a list"]',
        b'{"image": "a.png"}',
        b'{"image": 3, "caption": "a number"}',
        b'{"image": "a.png", "caption": null}',
        rb'{"image": "a.png", "caption": "half a pair \ud83d"}',
        b"[" * 100_000,
    ]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    reader = Folder(str(tmp_path / "t.jsonl"), FolderConfig())
    assert [entry.caption for entry in _entries(reader)] == ["a cat"]
    words = [*["malformed_entry"] * 4, "empty_caption", "wrong_encoding", "malformed_entry"]
    assert [word for word, _ in _refusals(reader)] == words

    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xe9t")])
    captions = pa.chunked_array([pa.array(["a cat", None]), bad])
    images = pa.array(["a.png", "b.png", "c.png"]).dictionary_encode()
    pq.write_table(pa.table({"image": images, "caption": captions, "n": [1, 2, 3]}), tmp_path / "t.parquet")
    reader = Folder(str(tmp_path / "t.parquet"), FolderConfig())
    assert _entries(reader) == [Entry("a.png", "a.png", "a cat")]
    assert _refusals(reader) == [("empty_caption", "t.parquet row 2"), ("wrong_encoding", "t.parquet row 3")]


def test_a_folder_of_tables_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("image,caption\nb.png,second\n")
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "caption": "first"}\n')
    (tmp_path / "notes.txt").write_text("not a table")
    reader = Folder(str(tmp_path), FolderConfig())
    assert [entry.caption for entry in _entries(reader)] == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"file,text\na,b\n", r"t\.csv has no column image or caption; there is file, text"),
        ("t.csv", "image,caption\na,b\n".encode("utf-16"), r"t\.csv is UTF-16: save it as UTF-8"),
        ("t.csv", b"", "has no column image or caption"),
        ("t.parquet", b"PAR1 no Parquet", r"t\.parquet is cut short or damaged"),
        ("t.xlsx", b"", r"is not one of \.csv, \.jsonl, \.parquet"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(Folder(str(tmp_path / name), FolderConfig()).entries())


def test_a_parquet_column_that_is_no_text_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png"], "caption": [1]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column caption is int64, not text"):
        list(Folder(str(tmp_path / "t.parquet"), FolderConfig()).entries())


# ------------------------------------------------------------------------------------- any place


def _copy_to_memory(root: Path, url: str) -> None:
    fs, folder = fsspec.core.url_to_fs(url)
    for path in sorted(root.rglob("*")):
        if path.is_file():
            fs.pipe_file(f"{folder}/{path.relative_to(root).as_posix()}", path.read_bytes())


def _reader(source: str, root: str) -> Reader:
    (reader,) = readers_of(CaptionsConfig.model_validate({"source": source, source: {"root": root}}))
    return reader


@pytest.mark.parametrize("source", ["coco", "flickr30k", "abo"])
def test_an_object_store_reads_like_a_folder(tmp_path: Path, source: str) -> None:
    if source == "abo":
        captioned.abo(tmp_path, *captioned.products(5))
    else:
        (captioned.coco if source == "coco" else captioned.flickr30k)(tmp_path)
    url = f"memory://readers-{source}"
    _copy_to_memory(tmp_path, url)
    here, there = _reader(source, str(tmp_path)), _reader(source, url)
    assert list(there.entries()) == list(here.entries())
    assert list(there.pictures()) == list(here.pictures())
    assert there.digests() == here.digests()
    assert there.images.root.endswith(here.images.root.removeprefix(str(tmp_path)))


def test_what_is_not_there_is_said_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path / "none")
    pairs = {"root": root}
    config = CaptionsConfig.model_validate({"source": "paper", "coco": pairs, "flickr30k": pairs, "abo": pairs})
    sentences = "\n".join(missing(config))
    assert len(missing(config)) == 6
    assert f"{root}/annotations/captions_train2017.json is missing; captions.coco.root must name" in sentences
    assert "results_20130124.token" in sentences and "flickr30k-images" in sentences
    assert "abo-listings.tar" in sentences
    assert missing(CaptionsConfig()) == []
    captioned.coco(tmp_path)
    assert missing(CaptionsConfig(source="coco", coco=CocoConfig(root=str(tmp_path)))) == []


def test_settings_that_name_no_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"captions\.path"):
        readers_of(CaptionsConfig(source="folder"))
    with pytest.raises(DataError, match=r"captions\.coco\.root is 'nowhere://x', which cannot be opened"):
        Coco(CocoConfig(root="nowhere://x"))
    for name in ("none.csv", "none"):
        with pytest.raises(DataError, match=rf"there is no file or folder .*{name}; captions\.path"):
            _ = Folder(str(tmp_path / name), FolderConfig()).files


def test_every_compressed_listing_may_also_be_unpacked(tmp_path: Path) -> None:
    captioned.abo(tmp_path, *captioned.products(4))
    before = _entries(Abo(AboConfig(root=str(tmp_path))))
    packed = tmp_path / "listings" / "metadata" / "listings_0.json.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    assert _entries(Abo(AboConfig(root=str(tmp_path)))) == before
