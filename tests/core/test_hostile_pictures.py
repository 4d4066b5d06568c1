"""Files that call themselves images: what is one is kept, everything else has its reason, and nothing hangs."""

from __future__ import annotations

import gzip
import io
import os
import struct
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from scot_core.captions import directory as place_module
from scot_core.captions.coco import Coco
from scot_core.captions.directory import Directory
from scot_core.captions.images import Bad, load
from scot_core.config import CaptionsConfig, CocoConfig
from scot_core.lake import Lake
from scot_core.stages.captions.read import ReadCaptions
from tests import captioned
from tests.captioned import gif, picture
from tests.running import run_here


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(rows or (b"\0" + b"\xff\0\0" * 16) * 12)
    return b"".join((b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *chunks, chunk(b"IDAT", data), chunk(b"IEND", b"")))


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header + b"\0" * 99


def tiff(width: int, height: int, following: int = 0) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 99)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", "b" * 1000)
    return buffer.getvalue()


def with_text(text: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", text, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


BOMBS = {
    "png": png(30_000, 30_000),
    "the largest png": png(2**31 - 1, 2**31 - 1),
    "gif": gif()[:6] + b"\xff\xff\xff\xff" + gif()[10:],
    "bmp": bmp(100_000, 100_000),
    "bmp upside down": bmp(100_000, -100_000),
    "ppm": b"P6 999999 999999 255 " + b"\0" * 99,
    "tiff": tiff(2**31, 2**31),
    "jpeg": picture().replace(struct.pack(">HH", 12, 16), struct.pack(">HH", 65_500, 65_500), 1),
}
BROKEN = {
    "one byte": b"\x89",
    "a signature": b"\x89PNG\r\n\x1a\n",
    "a png without rows": png(16, 12, rows=b"\0"),
    "a png of no size": png(0, 0),
    "a png with a broken checksum": png(16, 12).replace(b"IDAT", b"IDAU"),
    "a png with text that unpacks to a lot": png(16, 12, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b" * (64 << 20)))),
    "a jpeg that is cut": picture()[:200],
    "a gif that is cut": gif()[:-20],
    "a tiff that points outside": tiff(16, 12)[:20],
    "a tiff in a circle": tiff(16, 12, following=8),
    "an archive": archive(),
    "a gzipped image": gzip.compress(picture()),
    "a page": b"<html><img src=x onerror=alert(1)>",
    "a vector image": b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><svg>&a;</svg>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
    "a pdf": b"%PDF-1.7\n1 0 obj\n",
    "a program": b"\x7fELF" + b"\0" * 200,
    "zeros": b"\0" * 4096,
    "a ppm of text": b"P3 2 2 255 nothing",
    "a Windows icon": b"\0\0\1\0\1\0" + b"\xff" * 40,
}  # fmt: skip
WHOLE = {  # and as they were: what else is in them is nobody's business here
    "a gif that is a page, too": gif() + b"<script>alert(1)</script>",
    "a png with an archive behind it": picture("red", "PNG") + archive(),
    "a jpeg with a program in its comment": picture("red", comment=b"<?php system($_GET[0]); ?>"),
    "a png with a long text": with_text("b" * 100_000),
    "a png called jpeg": picture("red", "PNG"),
    "an image of one pixel": png(1, 1, rows=b"\0\xff\0\0"),
    "an image with many rows to spare": png(16, 12, rows=b"\0" * 100_000),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "outside.jpg").write_bytes(picture())
    return folder


def what(folder: Path, name: str) -> str:
    """Why an image is refused; `kept` where it is not."""
    result = load(Directory.at(str(folder), "captions.path"), name)
    return str(result.reason) if isinstance(result, Bad) else "kept"


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_larger_than_its_file_can_be_is_not_unpacked(folder: Path, name: str) -> None:
    (folder / "a.jpg").write_bytes(BOMBS[name])
    assert what(folder, "a.jpg") in ("image_too_large", "image_broken")


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_broken(folder: Path, name: str) -> None:
    (folder / "a.jpg").write_bytes(BROKEN[name])
    assert what(folder, "a.jpg") == "image_broken"


@pytest.mark.parametrize("name", WHOLE)
def test_what_decodes_is_kept_as_it_is(folder: Path, name: str) -> None:
    (folder / "a.jpg").write_bytes(WHOLE[name])
    assert load(Directory.at(str(folder), "captions.path"), "a.jpg") == WHOLE[name]


# ------------------------------------------------------------------------------------------ names and links


def _link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture())


def _link_beside(target: str) -> Callable[[Path], None]:
    """A picture `b.jpg`, and a link to it by some name."""

    def make(path: Path) -> None:
        _image(path.with_name("b.jpg"))
        path.symlink_to(target)

    return make


PLACES: dict[str, tuple[str, Callable[[Path], object] | None, str]] = {
    "a pipe": ("a.jpg", os.mkfifo, "image_not_a_file"),
    "a folder": ("a.jpg", Path.mkdir, "image_missing"),
    "an endless device": ("a.jpg", _link("/dev/zero"), "image_outside_folder"),
    "its own memory": ("a.jpg", _link("/proc/self/mem"), "image_outside_folder"),
    "a link to itself": ("a.jpg", _link("a.jpg"), "image_missing"),
    "a link to nothing": ("a.jpg", _link("none.jpg"), "image_missing"),
    "a link out": ("a.jpg", _link("../outside.jpg"), "image_outside_folder"),
    "a link out by its whole path": ("a.jpg", _link("/etc/hostname"), "image_outside_folder"),
    "a folder that is a link out": ("b/outside.jpg", lambda path: path.parent.symlink_to(".."), "image_outside_folder"),
    "a link within": ("a.jpg", _link_beside("b.jpg"), "kept"),
    "a link out and in again": (
        "a.jpg", _link_beside("../images/b.jpg"), "kept",
    ),
    "a name with a line in it": ("a\nb.jpg", _image, "kept"),
    "a name of a colour": ("\x1b[31ma.jpg", _image, "kept"),
    "a name that is an option": ("-rf", _image, "kept"),
    "a name with a pattern": ("*.jpg", _image, "kept"),
    "a name that goes out and in": ("../images/a.jpg", _image, "image_outside_folder"),
    "a name that ends in a folder": ("a.jpg/", _image, "kept"),
    "the root": ("/", None, "image_outside_folder"),
    "the folder": (".", None, "image_missing"),
    "a whole path": ("/etc/hostname", None, "image_outside_folder"),
    "a path upwards": ("../outside.jpg", None, "image_outside_folder"),
    "a path upwards, later": ("b/../../outside.jpg", None, "image_outside_folder"),
    "an address": ("file:///etc/hostname", None, "image_missing"),
    "a chain of addresses": ("zip://a::file:///etc/hostname", None, "image_missing"),
    "a home": ("~/a.jpg", None, "image_missing"),
    "NUL": ("a\0.jpg", None, "image_missing"),
    "a name too long": ("a" * 5000, None, "image_missing"),
    "half a pair": ("\udc00.jpg", None, "image_missing"),
    "other slashes": (r"..\outside.jpg", None, "image_missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_where_an_image_may_lie(folder: Path, name: str) -> None:
    path, make, reason = PLACES[name]
    if make is not None:
        make(Path(f"{folder}/{path}"))
    assert what(folder, path) == reason


def test_a_pipe_that_somebody_writes_to_is_not_read(folder: Path) -> None:
    os.mkfifo(folder / "a.jpg")
    writer = threading.Thread(target=lambda: (folder / "a.jpg").write_bytes(picture()), daemon=True)
    writer.start()
    assert what(folder, "a.jpg") == "image_not_a_file"
    (folder / "a.jpg").read_bytes()  # lets the writer go
    writer.join()


@pytest.mark.parametrize("url", [None, "memory://large-images"])
def test_a_file_too_large_is_not_read(folder: Path, url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "LARGEST_IMAGE", 1000)
    place = Directory.at(url or str(folder), "captions.path")
    for size, reason in ((1000, "image_broken"), (1001, "image_too_large"), (0, "image_empty")):
        place.fs.pipe_file(place.path("a.jpg"), b"x" * size)
        result = load(place, "a.jpg")
        assert isinstance(result, Bad) and result.reason == reason


def test_the_folders_of_coco_may_be_links(tmp_path: Path) -> None:
    captioned.coco(tmp_path / "real")
    (tmp_path / "real" / "train2017").rename(tmp_path / "elsewhere")
    (tmp_path / "real" / "train2017").symlink_to("../elsewhere")
    (tmp_path / "linked").symlink_to("real")
    reader = Coco(CocoConfig(root=str(tmp_path / "linked")))
    assert all(isinstance(reader.images.read(path), bytes) for _, path in reader.pictures())


def test_rows_in_are_captions_and_rejects_whatever_lies_there(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    (tmp_path / "outside.jpg").write_bytes(picture())
    files = {**BOMBS, **BROKEN, **WHOLE}
    for number, content in enumerate(files.values()):
        (folder / f"{number}.jpg").write_bytes(content)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "zero.jpg").symlink_to("/dev/zero")
    names = [*(f"{number}.jpg" for number in range(len(files))), "pipe.jpg", "loop.jpg", "zero.jpg", "none.jpg"]
    rows = [f"{name},caption {number}" for number, name in enumerate(names)]
    (folder / "t.csv").write_text("\n".join(["image,caption", *rows, '0.jpg,"not closed', "1.jpg,one,two"]))
    config = CaptionsConfig.model_validate({"source": "folder", "path": str(folder), "shard_rows": 7, "workers": 2})
    committed = run_here(ReadCaptions(Lake(tmp_path / "lake"), config))
    rejects, captions = committed["rejects"], committed["captions"]
    assert (captions.rows, captions.record.rejected) == (len(WHOLE), rejects.rows)
    assert captions.rows + rejects.rows == len(rows) + 2
    reasons = Counter(rejects.read()["reason"].to_pylist())
    assert reasons["malformed_entry"] == 2 and reasons["image_not_a_file"] == reasons["image_outside_folder"] == 1
    assert reasons["image_missing"] == 2 and reasons["image_broken"] >= len(BROKEN)
