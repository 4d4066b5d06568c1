"""The Parquet files of a dataset: how they are written, whose they are, and how some columns of one are read.

Every part carries the fingerprint of its dataset in its footer, and a checksum in each of its pages.

This module, which loads Arrow, is imported where parts are read or written: commands that only look into the lake have
DuckDB read them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.errors import LakeError
from scot_core.lake.fingerprint import canonical_json, digest
from scot_core.lake.manifest import End, Part
from scot_core.lake.names import file_name
from scot_core.lake.storage import Storage

FOOTER_KEY = b"scot.fingerprint"
FILES_KEY = b"scot.files"
PLACE_KEY = b"scot.part"
BODY_KEY = b"scot.body"
CHARACTERS_KEY = b"scot.characters"
FOOTER_BYTES = 1 << 16  # read from a part's end at first; its footer is seldom longer
WHOLE_BELOW = 1 << 22  # bytes; a smaller part is read whole, whatever is wanted of it
UNREADABLE = (
    pa.ArrowException,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)  # what pyarrow raises for a damaged part
_TAIL = 8  # bytes after the footer: its length, and Parquet's magic number


@dataclass(frozen=True, slots=True)
class Footer:
    """What the end of a part says: `size` is that of the footer with its tail, `files` lie beside the part, `place`
    is which part it is, from 0, `body` is the digest of all that stands before the footer, and `characters` are in each
    column of text. The first Scots did not say the last three.
    """

    fingerprint: str
    rows: int
    size: int
    columns: tuple[str, ...]
    files: tuple[str, ...] = ()
    place: int | None = None
    body: str | None = None
    characters: Mapping[str, int] | None = None


def encode(table: pa.Table, fingerprint: str, files: Sequence[str] = (), place: int | None = None) -> bytes:
    """The file of a part that needs the files of these names; `place` is which part it is, from 0."""
    metadata = {
        **(table.schema.metadata or {}),
        FOOTER_KEY: fingerprint.encode(),
        CHARACTERS_KEY: canonical_json(characters(table)),
    }
    if files:
        metadata[FILES_KEY] = canonical_json(list(files))
    if place is not None:
        metadata[PLACE_KEY] = str(place).encode()
    sink, table = io.BytesIO(), table.replace_schema_metadata(metadata)
    with pq.ParquetWriter(sink, table.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({BODY_KEY.decode(): digest(sink.getvalue())})
    return sink.getvalue()


def decode(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a part, or some of their columns. Raises one of `UNREADABLE`."""
    return pq.read_table(pa.BufferReader(data), columns=list(columns) if columns else None)


def characters(table: pa.Table) -> dict[str, int]:
    """How many there are in each column of text, as DuckDB's `length` counts them; null has none."""
    import pyarrow.compute as pc  # seldom needed, and slow to load

    return {name: pc.sum(pc.utf8_length(table[name]), min_count=0).as_py() for name in _texts(table.schema)}


def read_footer(data: bytes) -> Footer | None:
    """The footer at the end of a part; None where there is no whole one."""
    try:
        footer = pq.read_metadata(pa.BufferReader(data))
        metadata = footer.metadata or {}
        files = tuple(file_name(str(name)) for name in json.loads(metadata.get(FILES_KEY, b"[]")))
        schema = footer.schema.to_arrow_schema()
        place = int(metadata[PLACE_KEY]) if PLACE_KEY in metadata else None
        body = metadata[BODY_KEY].decode() if BODY_KEY in metadata else None
        seal = metadata.get(FOOTER_KEY, b"").decode()
        texts = _counts(metadata[CHARACTERS_KEY], schema) if CHARACTERS_KEY in metadata else None
        return Footer(seal, footer.num_rows, _footer_size(data), tuple(schema.names), files, place, body, texts)
    except UNREADABLE:
        return None


def footer_of(storage: Storage, name: str) -> Footer | None:
    """The footer of a file, without reading the rest of it."""
    return _footer_at(storage, name, storage.read(name, last=FOOTER_BYTES))


def footer_if_there(storage: Storage, name: str) -> Footer | None:
    """The same; None, too, where there is no such file."""
    end = storage.read_if_there(name, last=FOOTER_BYTES)
    return None if end is None else _footer_at(storage, name, end)


def _footer_at(storage: Storage, name: str, end: bytes) -> Footer | None:
    size = _footer_size(end)
    if size > FOOTER_BYTES and end.endswith(b"PAR1"):
        end = storage.read(name, last=size)
    return read_footer(end)


def is_whole(storage: Storage, name: str, fingerprint: str) -> bool:
    """Whether a part whose fingerprint begins so can be read, every page of it checked against its checksum."""
    try:
        footer = footer_of(storage, name)
        if footer is None or not footer.fingerprint.startswith(fingerprint):
            return False
        with storage.open(name) as file:
            return has_whole_pages(file)
    except (LakeError, *UNREADABLE):
        return False


def is_as_written(data: bytes, footer: Footer) -> bool:
    """Whether what stands before the footer is what was written."""
    return has_whole_pages(data) if footer.body is None else digest(data[: -footer.size]) == footer.body


def has_whole_pages(part: Any) -> bool:
    """Whether every page of a part, its bytes or an open file, fits its checksum."""
    try:
        pages = pq.ParquetFile(pa.BufferReader(part) if isinstance(part, bytes) else part,
                               page_checksum_verification=True)  # fmt: skip
        for group in range(pages.num_row_groups):
            pages.read_row_group(group)
    except UNREADABLE:
        return False
    return True


def part_of(name: str, data: bytes, footer: Footer) -> Part:
    """What a manifest says of a part."""
    end = End(bytes=footer.size, digest=digest(data[-footer.size :]))
    return Part(name=name, rows=footer.rows, bytes=len(data), digest=digest(data), footer=end)


def read_columns(storage: Storage, path: str, part: Part, columns: Sequence[str]) -> pa.Table | None:
    """Some columns of a committed part, without reading the others; None where it is not what was committed.

    The footer is checked against its digest in the manifest, and every page against its own checksum.
    """
    end = part.footer
    try:
        if end is None or storage.size(path) != part.bytes:
            return None
        if digest(storage.read(path, last=end.bytes)) != end.digest:
            return None
        with storage.open(path) as file:
            return pq.ParquetFile(file, page_checksum_verification=True).read(list(columns))
    except (LakeError, *UNREADABLE):
        return None


def _counts(value: bytes, schema: pa.Schema) -> dict[str, int]:
    """Raises ValueError where they are not one for each column of text."""
    counts = dict(json.loads(value))
    if counts.keys() != set(_texts(schema)) or not all(
        type(count) is int and 0 <= count < 1 << 63 for count in counts.values()
    ):
        raise ValueError(f"{counts} are no counts of characters of {schema.names}")
    return counts


def _texts(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if pa.types.is_string(field.type)]


def _footer_size(end: bytes) -> int:
    return int.from_bytes(end[-_TAIL:-4], "little") + _TAIL
