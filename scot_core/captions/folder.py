"""One's own captioned images: a table of (image, caption) and the image files it names.

The table is CSV (with a header), JSON lines or Parquet, with columns `image` and `caption`; `image` is a path
relative to the table's folder. Several rows may name one image.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from scot_core.errors import DataError

LONGEST_CAPTION = 1000  # characters; encoders read 32 to 77 tokens
COLUMNS = ("image", "caption")
SUFFIXES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table, as it stands there."""

    image: str
    caption: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A checked image file: its bytes as they are on disk."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an entry is no captioned image: `reason` is a stable word, `raw` says what was there."""

    reason: str
    raw: str


def entries(table: Path) -> list[Entry]:
    """All rows of a table. Raises DataError where it cannot be read or a column is missing."""
    if table.suffix not in SUFFIXES:
        raise DataError(f"{table} is not one of {', '.join(SUFFIXES)}")
    try:
        rows = list(_rows(table))
    except FileNotFoundError as error:
        raise DataError(f"there is no file {table}; captions.path names a table of (image, caption)") from error
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(f"{table} cannot be read: {error}") from error
    for number, row in enumerate(rows, start=1):
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            raise DataError(
                f"{table}, row {number}: no column {' or '.join(missing)}; there is {', '.join(map(str, row))}"
            )
    return [Entry(str(row["image"] or ""), str(row["caption"] or "")) for row in rows]


def check_caption(caption: str) -> Refusal | None:
    """Refuses `empty_caption` and `caption_too_long` (over 1,000 characters)."""
    if not caption.strip():
        return Refusal("empty_caption", caption)
    if len(caption) > LONGEST_CAPTION:
        return Refusal("caption_too_long", caption)
    return None


def check_image(folder: Path, name: str) -> Picture | Refusal:
    """Refuses `image_outside_folder`, `image_missing` and `image_broken`; decodes the whole picture to know."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return Refusal("image_outside_folder", name)
    path = folder / name
    if not path.is_file():
        return Refusal("image_missing", name)
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return Refusal("image_broken", f"{name}: {error}")
    return Picture(data)


def _rows(table: Path) -> Iterator[dict[str, object]]:
    if table.suffix == ".parquet":
        yield from pq.read_table(table).to_pylist()
    elif table.suffix == ".csv":
        with table.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    else:
        with table.open(encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    yield json.loads(line)
