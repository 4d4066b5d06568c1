"""Whether everything in a lake is what was committed: every digest, footer and row count, the views and the records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from scot_core.errors import LakeError
from scot_core.lake import MARK, MARKED, Dataset, Lake, Reference, parts
from scot_core.lake.fingerprint import KEY_DIGITS, digest, stream_digest
from scot_core.lake.manifest import MANIFEST, File, Part
from scot_core.lake.names import is_key
from scot_core.lake.promotion import members_in_use
from scot_core.lake.promotion import views as views_of
from scot_core.lake.schema import TABLES
from scot_core.lake.sealed import unsealed
from scot_core.lake.shown import of_dataset
from scot_core.lake.succession import BACKFILLS
from scot_core.lake.views import is_intact

SEALED = ("runs", "aliases", BACKFILLS)  # folders of sealed files, see `generations`
VIEWS = "views.sql"
DERIVED = (VIEWS, MARK)
WHOLE_BELOW = 1 << 24  # bytes; larger files are read a MB at a time
REMOTE_THREADS = 16

Tick = Callable[[int, int], None]  # bytes read, bytes in all


@dataclass(frozen=True, slots=True)
class Damage:
    """One file that is not what was written."""

    file: str
    """Its name in the lake."""
    why: str
    dataset: Reference | None = None
    breaks: tuple[str, ...] = ()
    """`<table>/<key>` of what was made from the dataset."""
    usd: float | None = 0.0
    """What was paid for that must be paid for again once it is moved aside; None where nobody can say."""

    @property
    def is_manifest(self) -> bool:
        return self.dataset is not None and self.file == f"{self.dataset}/{MANIFEST}"

    @property
    def remedy(self) -> str:
        """What `repair` does, and what comes after it."""
        if self.is_manifest:
            return "it is moved aside; the next run keeps the parts that are whole and commits them again"
        if self.dataset is not None:
            again = " (its replies are asked for again)" if self.dataset.table == "replies" else ""
            return f"it and its manifest are moved aside; the next run does this shard again{again}"
        return "it is written anew" if self.file in DERIVED else "it is moved aside"


@dataclass(frozen=True, slots=True)
class Findings:
    """What was looked at, and what is wrong; nothing is where `damages` is empty."""

    datasets: int
    files: int
    bytes: int
    damages: tuple[Damage, ...]
    old: tuple[str, ...] = ()
    """Derived files that are whole, but of another Scot or of what was committed before: the next commit, or `repair`,
    writes them anew.
    """


def check(lake: Lake, *, everything: bool = False, tick: Tick = lambda done, total: None) -> Findings:
    """Read a lake and compare it with what was committed.

    Every manifest, record and the views are always read; the parts and files are those of the newest dataset of each
    source and stage and of the promoted generation, or of every dataset where `everything` is wanted. Memory holds a
    few files of at most 16 MB.

    Args:
        tick: called from this thread after every file.
    """
    storage = lake.storage
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1) if storage.is_local else REMOTE_THREADS) as pool:
        keys = [Reference(table, key) for table in TABLES for key in storage.names(table) if is_key(key)]
        read = list(pool.map(lambda reference: _read(lake, reference), keys))
        known = sorted((d for d in read if isinstance(d, Dataset)), key=lambda d: (d.created_at, d.name))
        damages = [d for d in read if isinstance(d, Damage)]
        for manifest in list(damages):
            damages += _torn(lake, manifest)
        chosen = known if everything else _newest_and_promoted(lake, known)
        entries: list[tuple[Dataset, Part | File]] = []
        for dataset in chosen:
            entries += [(dataset, part) for part in dataset.parts]
            entries += [(dataset, file) for file in dataset.files]
        total, done = sum(entry.bytes for _, entry in entries), 0
        sizes = dict(zip((d.name for d in chosen), pool.map(storage.sizes, (d.name for d in chosen)), strict=True))
        reasons = pool.map(lambda pair: _reason(lake, pair[0], pair[1], sizes[pair[0].name]), entries)
        for (dataset, entry), why in zip(entries, reasons, strict=True):
            done += entry.bytes
            tick(done, total)
            if why is not None:
                usd = _share_of_costs(dataset, entry)
                damages.append(Damage(f"{dataset.name}/{entry.name}", why, dataset.reference, usd=usd))
    made_from = followers(known)
    found = [
        Damage(d.file, d.why, d.dataset, tuple(sorted(map(str, made_from(d.dataset)))) if d.dataset else (), d.usd)
        for d in damages
    ]
    views = _bytes(lake, VIEWS)
    old = (
        views is not None
        and views != views_of(lake, list(map(of_dataset, known)), root="").encode()
        and is_intact(views)
    )
    return Findings(len(chosen), len(entries), total, (*found, *_of_the_root(lake, known)), (VIEWS,) if old else ())


def _newest_and_promoted(lake: Lake, known: Sequence[Dataset]) -> list[Dataset]:
    """Oldest first. Where the alias is damaged, which is found later, only the newest."""
    wanted = {dataset.reference for dataset in {(d.table, d.source, d.stage): d for d in known}.values()}
    with suppress(LakeError):
        wanted |= members_in_use(lake, list(map(of_dataset, known)))
    return [dataset for dataset in known if dataset.reference in wanted]


def _read(lake: Lake, reference: Reference) -> Dataset | Damage | None:
    """The dataset where its manifest is whole, None where it was never committed."""
    file = f"{reference}/{MANIFEST}"
    try:
        dataset = lake.table(reference.table).find(reference.key)
    except LakeError as error:
        return Damage(file, str(error), reference)
    if dataset is not None and digest(dataset.manifest.as_read()) != dataset.digest:
        return Damage(file, "is not laid out as it was written, or holds what this Scot does not know", reference)
    return dataset


def _torn(lake: Lake, manifest: Damage) -> Iterator[Damage]:
    """Parts that a run would keep for their footer though a page of theirs is damaged, where no manifest says what
    they were.
    """
    dataset = manifest.dataset
    assert dataset is not None, "a manifest is of a dataset"
    for entry in lake.storage.names(str(dataset)):
        name = f"{dataset}/{entry}"
        is_part = entry.startswith("part-") and entry.endswith(".parquet")
        if is_part and not parts.is_whole(lake.storage, name, dataset.key[-KEY_DIGITS:]):
            usd = None if dataset.table == "replies" else 0.0
            yield Damage(name, "is not whole (a page's checksum, or its footer)", dataset, usd=usd)


def _reason(lake: Lake, dataset: Dataset, entry: Part | File, sizes: dict[str, int]) -> str | None:
    """Why a file is not what was committed, or None."""
    name, size = f"{dataset.name}/{entry.name}", sizes.get(entry.name)
    if size is None:
        return "is missing"
    if size != entry.bytes:
        return f"has {size:,} bytes, {entry.bytes:,} were committed"
    try:
        if size <= WHOLE_BELOW:
            data = lake.storage.read(name)
            found, footer = digest(data), parts.read_footer(data) if isinstance(entry, Part) else None
        else:
            with lake.storage.open(name) as file:
                found = stream_digest(file)
            footer = parts.footer_of(lake.storage, name) if isinstance(entry, Part) else None
    except (LakeError, OSError) as error:
        return f"cannot be read ({error})"
    if found != entry.digest:
        return "is not what was committed (its digest differs)"
    if isinstance(entry, Part):
        if footer is None:
            return "has no footer that can be read"
        if footer.fingerprint != dataset.fingerprint:
            return f"was written for another dataset (fingerprint {footer.fingerprint})"
        if footer.rows != entry.rows:
            return f"holds {footer.rows:,} rows, {entry.rows:,} were committed"
    return None


def _share_of_costs(dataset: Dataset, entry: Part | File) -> float:
    if dataset.table != "replies" or not isinstance(entry, Part) or not dataset.rows:
        return 0.0
    return dataset.usage.usd * entry.rows / dataset.rows


def followers(datasets: Sequence[Dataset]) -> Callable[[Reference], set[Reference]]:
    """What was made from a dataset, directly or not, among those of a lake."""
    children: dict[Reference, set[Reference]] = {}
    for dataset in datasets:
        for reference in dataset.inputs:
            children.setdefault(reference, set()).add(dataset.reference)

    def of(root: Reference) -> set[Reference]:
        found: set[Reference] = set()
        waiting = [root]
        while waiting:
            new = children.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    return of


def _of_the_root(lake: Lake, known: Sequence[Dataset]) -> Iterator[Damage]:
    """What lies beside the tables. A lake into which nothing was written yet has none of it."""
    storage, there = lake.storage, set(lake.storage.names(""))
    if MARK in there and _bytes(lake, MARK) != MARKED:
        yield Damage(MARK, "is not what was written")
    if VIEWS in there:
        views = _bytes(lake, VIEWS)
        if views is None or not is_intact(views):
            yield Damage(VIEWS, "is not what was written")
    elif known:
        yield Damage(VIEWS, "is missing")
    for name in _files(lake, [folder for folder in SEALED if folder in there]):
        try:
            unsealed(storage.read(name))
        except (LakeError, ValueError) as error:
            yield Damage(name, str(error))


def _files(lake: Lake, folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        for name in lake.storage.names(folder):
            if name.endswith(".json"):
                yield f"{folder}/{name}"


def _bytes(lake: Lake, name: str) -> bytes | None:
    try:
        return lake.storage.read(name)
    except LakeError:
        return None
