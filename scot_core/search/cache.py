"""Vectors of a folder's images, kept between searches.

A file `<SCOT_CACHE>/galleries/<folder's name>-<digest>.parquet` for each folder and encoder holds every image's path,
size, time of change, digest and vector. A file that changed since is read again, and embedded again where its bytes
have no vector yet; a moved or copied one is not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.benchmarks.own import gallery_of
from scot_core.encoders import Encoder
from scot_core.encoders.decoding import embed_pictures, open_file
from scot_core.errors import DataError
from scot_core.lake.fingerprint import canonical_json, digest, key_of, stream_digest
from scot_core.lake.storage import cache_folder
from scot_core.vectors import Vectors

AT_ONCE: Final = 256  # images that are embedded in a batch
SAVED_EVERY: Final = 4096  # images after which those that are done are saved
TICK_NS: Final = 2_000_000_000  # of the coarsest clock of a file system
_COLUMNS: Final = ("path", "size", "changed_ns", "looked_ns", "digest")


class Embedded(NamedTuple):
    """Ids (paths below the folder) and vectors (G, D), and what could not be embedded, by id, with the reason."""

    ids: list[str]
    vectors: Vectors
    left_out: Mapping[str, str]


class _File(NamedTuple):
    size: int
    changed_ns: int
    looked_ns: int
    digest: str

    @property
    def is_settled(self) -> bool:
        """False where it might have changed once more after it was read, within one tick of its clock."""
        return self.changed_ns + TICK_NS < self.looked_ns


class _Known(NamedTuple):
    """What is in the cache: files by path, vectors by digest; empty where nothing is, or nothing that can be read."""

    files: Mapping[str, _File]
    vectors: Mapping[str, Vectors]


def embed_folder(folder: Path, encoder: Encoder) -> Embedded:
    """The images below a folder, embedded where they are not in the cache; broken ones are left out.

    A cache that cannot be written is done without. Raises DataError where no image is there, or none can be read.
    """
    folder = folder.expanduser().resolve()
    cache = _cache_of(folder, encoder)
    known = _read(cache, encoder.spec.dim)
    files = {name: _look(folder / name, known.files.get(name)) for name in gallery_of(folder)}
    name_of = {file.digest: name for name, file in files.items()}
    vectors = {print_: known.vectors[print_] for print_ in name_of if print_ in known.vectors}
    new = [name for print_, name in name_of.items() if print_ not in vectors]
    faults: dict[str, str] = {}
    try:
        for start in range(0, len(new), SAVED_EVERY):
            for name, vector in _embed(folder, new[start : start + SAVED_EVERY], encoder, faults):
                vectors[files[name].digest] = vector
            _write(cache, files, vectors, known)
    except BaseException:  # Ctrl-C, most of all
        _write(cache, files, vectors, known)
        raise
    _write(cache, files, vectors, known)
    there = [name for name, file in files.items() if file.digest in vectors]
    left_out = {name: faults[name_of[f.digest]] for name, f in files.items() if f.digest not in vectors}
    if not there:
        raise DataError(f"no image below {folder} can be read; {next(iter(left_out.values()))}")
    return Embedded(there, np.stack([vectors[files[name].digest] for name in there]), left_out)


def _cache_of(folder: Path, encoder: Encoder) -> Path:
    made_of = digest(canonical_json({"folder": str(folder), "encoder": encoder.spec.model_dump(mode="json")}))
    return cache_folder() / "galleries" / f"{key_of(folder.name, made_of)}.parquet"


def _look(path: Path, known: _File | None) -> _File:
    """A file as it is now; its bytes are read only where it may have changed."""
    stat = path.stat()
    if known is not None and known[:2] == (stat.st_size, stat.st_mtime_ns) and known.is_settled:
        return known
    now = time.time_ns()
    with path.open("rb") as file:
        return _File(stat.st_size, stat.st_mtime_ns, now, stream_digest(file))


def _embed(
    folder: Path, names: Sequence[str], encoder: Encoder, left_out: dict[str, str]
) -> Iterator[tuple[str, Vectors]]:
    """Names with vectors; a batch with a broken image is tried again image by image."""
    for start in range(0, len(names), AT_ONCE):
        batch = names[start : start + AT_ONCE]
        openers = [partial(open_file, folder / name) for name in batch]
        try:
            yield from zip(batch, embed_pictures(encoder, openers, batch_size=AT_ONCE), strict=True)
        except DataError:
            for name, opener in zip(batch, openers, strict=True):
                try:
                    yield name, embed_pictures(encoder, [opener], batch_size=1)[0]
                except DataError as error:
                    left_out[name] = str(error)


def _read(cache: Path, dim: int) -> _Known:
    try:
        table = pq.read_table(pa.BufferReader(cache.read_bytes()))
        rows = zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True)
        files = {path: _File(*rest) for path, *rest in rows}
        column = table["vector"].combine_chunks()
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), dim)
    except (OSError, KeyError, ValueError, pa.ArrowException):  # none yet, or damaged: it is made again
        return _Known({}, {})
    return _Known(files, dict(zip((file.digest for file in files.values()), vectors, strict=True)))


def _write(cache: Path, files: Mapping[str, _File], vectors: Mapping[str, Vectors], known: _Known) -> None:
    """Put those that have vectors into the cache, where it does not hold them already."""
    done = {path: file for path, file in files.items() if file.digest in vectors}
    if not done or done == known.files:
        return
    columns = [pa.array(column) for column in zip(*((path, *file) for path, file in done.items()), strict=True)]
    table = np.stack([vectors[file.digest] for file in done.values()])
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), table.shape[1]))
    beside = cache.with_name(f".{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, [*_COLUMNS, "vector"]), beside, write_page_checksum=True)
        beside.replace(cache)
    except OSError:  # a full or read-only disk: the search goes on, and embeds again the next time
        with suppress(OSError):
            beside.unlink()
