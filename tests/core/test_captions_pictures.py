"""Image files: what is believed, what is refused, and that bytes stay as they are."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from scot_core.captions.directory import Directory
from scot_core.captions.images import Bad, load
from scot_core.errors import DataError
from tests.captioned import gif, picture


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    return picture("red", exif=exif)


def _webp() -> bytes:
    buffer = io.BytesIO()
    images = [Image.new("RGB", (16, 12), colour) for colour in ("red", "blue")]
    images[0].save(buffer, "WEBP", save_all=True, append_images=images[1:])
    return buffer.getvalue()


UGLY_BUT_WHOLE = {
    "cmyk.jpg": picture((10, 200, 30, 0), mode="CMYK"),
    "sixteen.png": picture(40_000, "PNG", mode="I;16"),
    "rotated.jpg": _rotated(),
    "animated.gif": gif(),
    "animated.webp": _webp(),
    "palette.png": picture(3, "PNG", mode="P", transparency=3),
    "one-bit.png": picture(1, "PNG", mode="1"),
    "a jpeg.png": picture("red"),
    "folder/grey.tif": picture(90, "TIFF", mode="L"),
}
BROKEN = {
    "torn.jpg": picture("red")[:-80],
    "torn.png": picture("red", "PNG")[:50],
    "flipped.png": picture("red", "PNG").replace(b"IDAT", b"IDAT\xff", 1),
    "page.jpg": b"<html>404</html>",
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
    "header.gif": gif()[:20],
}


@pytest.fixture
def place(tmp_path: Path) -> Directory:
    for name, data in {**UGLY_BUT_WHOLE, **BROKEN, "empty.jpg": b""}.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "outside.jpg").write_bytes(picture())
    return Directory.at(str(tmp_path / "images"), "captions.path")


@pytest.mark.parametrize("name", UGLY_BUT_WHOLE)
def test_the_bytes_of_a_whole_image_are_kept_as_they_are(place: Directory, name: str) -> None:
    assert load(place, name) == UGLY_BUT_WHOLE[name]


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_decode_is_broken_and_says_so_the_same_way_each_time(place: Directory, name: str) -> None:
    first = load(place, name)
    assert isinstance(first, Bad) and first.reason == "image_broken" and first.raw.startswith(f"{name}: ")
    assert load(place, name) == first


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.jpg", "image_empty"),
        ("none.jpg", "image_missing"),
        ("folder", "image_missing"),
        ("cmyk.jpg/inside", "image_missing"),
        ("nul\0.jpg", "image_missing"),
        ("x" * 300, "image_missing"),
        ("../outside.jpg", "image_outside_folder"),
        ("/etc/hostname", "image_outside_folder"),
        (None, "image_missing"),
    ],
)
def test_what_is_not_there(place: Directory, name: str | None, reason: str) -> None:
    result = load(place, name)
    assert isinstance(result, Bad) and result.reason == reason


def test_a_decompression_bomb_is_not_unpacked(place: Directory) -> None:
    small = picture("red", "PNG")
    start = small.index(b"IHDR")
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + small[start + 12 : start + 17]
    data = small[:start] + header + struct.pack(">I", zlib.crc32(header)) + small[start + 21 :]
    Path(place.path("bomb.png")).write_bytes(data)
    result = load(place, "bomb.png")
    assert isinstance(result, Bad) and result.reason == "image_too_large"


class _Forbidden(MemoryFileSystem):
    def open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)


def test_a_place_that_fails_is_an_error_and_no_reject(place: Directory) -> None:
    forbidden = Directory(_Forbidden(), place.root, "captions.coco.root")
    with pytest.raises(DataError, match=r"cannot read .*cmyk\.jpg: Permission denied; captions\.coco\.root"):
        load(forbidden, "cmyk.jpg")
