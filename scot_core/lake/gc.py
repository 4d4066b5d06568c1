"""What no generation that is kept needs, and its removal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Lake, Reference
from scot_core.lake.generations import Generation, generation_of, generations, record_file, records
from scot_core.lake.manifest import MANIFEST
from scot_core.lake.promotion import in_use
from scot_core.lake.repair import ASIDE
from scot_core.lake.succession import lineages
from scot_core.lake.succession import record_file as backfill_file

YOUNG = timedelta(days=1)
AT_WORK = timedelta(hours=1)  # uncommitted work that changed since is somebody's


@dataclass(frozen=True, slots=True)
class Item:
    """A folder or file of the lake that may go."""

    name: str
    why: str
    bytes: int
    usd: float = 0.0
    """What was paid for it."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What stays for whom, what may go, and what is left alone though nothing names it."""

    kept: tuple[str, ...]
    items: tuple[Item, ...]
    left: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)

    @property
    def usd(self) -> float:
        return sum(item.usd for item in self.items)


def garbage(lake: Lake, keep: int, now: datetime | None = None) -> Garbage:
    """What may go where the `keep` newest generations stay, the promoted one, and the one that `rollback` goes to.

    All they were made from stays, and so does what is younger than a day and belongs to no generation yet, with what
    that was made from. Of uncommitted work nothing younger than a day goes, and no journal: it may hold replies that
    were paid for.

    Raises:
        ConfigError: `keep` is no positive number.
        LakeError: a manifest, a record or the alias is damaged, so that nobody can say what is needed.
    """
    if keep < 1:
        raise ConfigError(f"--keep {keep} would remove every generation: keep at least 1")
    now = now or datetime.now(UTC)
    datasets, damaged = lake.read()
    if damaged:
        raise LakeError(f"{damaged[0]}. Nothing is removed before that: see `scot check`")
    known = {dataset.reference: dataset for dataset in datasets}
    made = generations(lake)
    staying = _staying(lake, known, made, keep)
    stay = {dataset.reference for generation in staying for dataset in generation.members}
    named = {dataset.reference for generation in made for dataset in generation.members}
    for dataset in datasets:
        if dataset.reference not in named and now - dataset.created_at < YOUNG:
            stay |= {member.reference for member in generation_of(dataset, known).members}
    items = [
        _item(lake, d.name, "of no generation that is kept", d.usage.usd) for d in datasets if d.reference not in stay
    ]
    items += _records(lake, stay)
    items += _backfills(lake, datasets, stay)
    going, left = _uncommitted(lake, now)
    items += [*going, *_set_aside(lake, now)]
    return Garbage(tuple(g.id for g in staying), tuple(items), tuple(left))


def collect(lake: Lake, found: Garbage, now: datetime | None = None) -> None:
    """Remove it: manifests first, of what was made from others before these, so that a stop leaves whole datasets.

    Raises LakeError, and removes nothing, where a run seems to be at work: nobody can say which datasets it reads.
    """
    now = now or datetime.now(UTC)
    for folder in lake.uncommitted():
        if now - (lake.storage.changed(folder) or now) < AT_WORK:
            raise LakeError(f"{folder} was written to within the last hour: wait until the run that does is done")
    manifests = [f"{item.name}/{MANIFEST}" for item in found.items]
    for name in reversed(manifests):
        if lake.storage.exists(name):
            lake.storage.remove(name)
    lake.write_views()
    for item in reversed(found.items):
        lake.storage.remove(item.name)


def _staying(
    lake: Lake, known: Mapping[Reference, Dataset], made: Iterable[Generation], keep: int
) -> list[Generation]:  # fmt: skip
    used = {reference for dataset in known.values() for reference in dataset.inputs}
    newest = [generation for generation in made if generation.root.reference not in used][-keep:]
    promoted = [entry.root if entry.root in known else entry.combiners for entry in in_use(lake)[-2:]]
    found = [*newest, *(generation_of(known[root], known) for root in promoted if root in known)]
    return list({generation.id: generation for generation in found}.values())


def _records(lake: Lake, stay: set[Reference]) -> Iterator[Item]:
    """Records and reports of what goes."""
    for name, record in records(lake).items():
        if record.root not in stay:
            yield _item(lake, record_file(name), "the record of a generation that goes")
    for report in lake.storage.names("reports"):
        if Reference("benchmarks", report.removesuffix(".html")) not in stay:
            yield _item(lake, f"reports/{report}", "the report of a benchmark that goes")


def _backfills(lake: Lake, datasets: Sequence[Dataset], stay: set[Reference]) -> Iterator[Item]:
    """Records of what was done again, where nothing stays of it: the dataset, or what took its place, begun or done."""
    staying = {reference.key for reference in stay} | {folder.partition("/")[2] for folder in lake.uncommitted()}
    going = {dataset.key for dataset in datasets} - staying
    for key, after in lineages(lake.storage, datasets).items():
        if key not in staying and not staying & after and (after or key in going):
            yield _item(lake, backfill_file(key), "the record of a backfill of a dataset that goes")


def _uncommitted(lake: Lake, now: datetime) -> tuple[list[Item], list[Item]]:
    going, left = [], []
    for folder in lake.uncommitted():
        if now - (lake.storage.changed(folder) or now) < YOUNG:
            left.append(_item(lake, folder, "begun, and younger than a day"))
        elif "_journal" in lake.storage.names(folder):
            left.append(_item(lake, folder, "begun, and its journal may hold replies that were paid for"))
        else:
            going.append(_item(lake, folder, "begun more than a day ago, never committed"))
    return going, left


def _set_aside(lake: Lake, now: datetime) -> Iterator[Item]:
    for name in lake.storage.names(ASIDE):
        if name < f"{now - YOUNG:%Y%m%dT%H%M%S.%f}":
            yield _item(lake, f"{ASIDE}/{name}", "damaged, and moved aside more than a day ago")


def _item(lake: Lake, name: str, why: str, usd: float = 0.0) -> Item:
    return Item(name, why, sum(lake.storage.sizes(name).values()), usd)
