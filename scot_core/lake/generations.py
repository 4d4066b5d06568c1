"""Generations: everything that one result was made from, under one id, and the records that runs leave.

A generation is a dataset, its root (a benchmark, or the last dataset of a run that ended before), with all that it was
made from. Its id is made of the fingerprints of these, so it is found in any lake and stored in no manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Lake, Reference
from scot_core.lake.fingerprint import canonical_json, digest, key_of
from scot_core.lake.sealed import sealed, unsealed
from scot_core.lake.table import committed_at

RUNS = "runs"  # the folder of the records
ENDS = ("benchmarks", "combiners", "inverters")  # what a run is for
ROOTS = (*ENDS, "pseudo_tokens", "embeddings", "triplets", "adapters", "captions")  # the last of a run comes first
WITH_REJECTS = ("captions", "triplets", "phrases", "pseudo_tokens")  # tables whose rejects have the same key


@dataclass(frozen=True)
class Generation:
    """A root and what it was made from, with the rejects and galleries beside that; oldest first."""

    id: str
    root: Dataset
    members: tuple[Dataset, ...]
    missing: tuple[Reference, ...] = ()
    """What it was made from and is no longer in the lake."""

    def of(self, table: str) -> list[Dataset]:
        return [dataset for dataset in self.members if dataset.table == table]

    @property
    def combiners(self) -> Dataset | None:
        """The Combiner that it ends in or measures."""
        direct = [self.root.reference, *self.root.inputs]
        return next((dataset for dataset in self.of("combiners") if dataset.reference in direct), None)

    @property
    def usd(self) -> float:
        """What its replies cost."""
        return sum(dataset.usage.usd for dataset in self.of("replies"))


@dataclass(frozen=True)
class Record:
    """What a run said of its generation when it ended."""

    generation: str
    root: Reference
    finished_at: datetime
    scot: str
    settings: Mapping[str, Any]
    datasets: tuple[str, ...]


def generation_of(root: Dataset, known: Mapping[Reference, Dataset]) -> Generation:
    """Follow the inputs of a dataset among those of a lake."""
    found: dict[Reference, Dataset] = {root.reference: root}
    missing: dict[Reference, None] = {}
    waiting = [root]
    while waiting:
        for reference in waiting.pop().inputs:
            if reference not in known:
                missing[reference] = None
            elif reference not in found:
                found[reference] = known[reference]
                waiting.append(known[reference])
    prints = sorted(f"{d.table}/{d.fingerprint}" for d in found.values())
    name = key_of(f"gen-{root.source}", digest(canonical_json([*prints, *sorted(map(str, missing))])))
    beside = [Reference("rejects", d.key) for d in found.values() if d.table in WITH_REJECTS]
    everything = {**found, **{reference: known[reference] for reference in beside if reference in known}}
    return Generation(name, root, tuple(sorted(everything.values(), key=committed_at)), tuple(missing))


def generations(lake: Lake) -> list[Generation]:
    """Every generation of a lake, by the age of its root, oldest first.

    Their roots are the benchmarks, Combiners and φ's that were never measured, and what runs ended in that stopped
    before.
    Raises LakeError where a record is damaged.
    """
    known = {dataset.reference: dataset for dataset in lake.datasets()}
    used = {reference for dataset in known.values() for reference in dataset.inputs}
    roots = {d.reference for d in known.values() if d.table in ENDS and d.reference not in used}
    roots |= {record.root for record in records(lake).values() if record.root not in used}
    found = [generation_of(known[root], known) for root in roots if root in known]
    return sorted(found, key=lambda generation: committed_at(generation.root))


def find(lake: Lake, wanted: str) -> Generation:
    """A generation by its id, the start of its id or of its digits, or `newest`.

    Raises ConfigError where there is none, or more than one.
    """
    known = generations(lake)
    starts = [g for g in known if g.id.startswith(wanted) or g.id.rsplit("-", 1)[-1].startswith(wanted)]
    fitting = [g for g in starts if g.id == wanted] or (known[-1:] if wanted == "newest" else starts)
    if len(fitting) != 1:
        there = ", ".join(g.id for g in fitting or known) or "none"
        what = "more than one generation" if fitting else "no generation"
        raise ConfigError(f"{wanted!r} names {what} of {lake.url} (there are: {there}); see `scot runs`")
    return fitting[0]


def record(lake: Lake, keys: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """Write down what a run ended in, at its end: a file for each of its generations, which the first run keeps.

    Args:
        keys: those of its last datasets, of whatever tables.
        settings: as JSON has them.

    Returns:
        The ids of the generations.
    """
    ids = []
    for made in ended_in(lake, keys):
        content = {
            "format": 1,
            "generation": made.id,
            "root": made.root.name,
            "finished_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "scot": version("scot"),
            "settings": dict(settings),
            "datasets": [dataset.name for dataset in made.members],
        }
        lake.storage.create(record_file(made.id), sealed(content))
        ids.append(made.id)
    return ids


def ended_in(lake: Lake, keys: Iterable[str]) -> list[Generation]:
    """The generations that a run ended in, by the keys of its last datasets, of whatever tables."""
    known = {dataset.reference: dataset for dataset in lake.datasets()}
    return [generation_of(root, known) for root in _roots(known, list(keys))]


def record_file(generation: str) -> str:
    return f"{RUNS}/{generation}.json"


def records(lake: Lake) -> dict[str, Record]:
    """Every record, by the id of its generation. Raises LakeError naming one that is damaged."""
    names = [name.removesuffix(".json") for name in lake.storage.names(RUNS) if name.endswith(".json")]
    return {name: _read(lake, record_file(name)) for name in names}


def _read(lake: Lake, file: str) -> Record:
    try:
        content = unsealed(lake.storage.read(file))
        return Record(
            generation=content["generation"],
            root=Reference.parse(content["root"]),
            finished_at=datetime.fromisoformat(content["finished_at"]),
            scot=content["scot"],
            settings=content["settings"],
            datasets=tuple(content["datasets"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(lake, file, error) from error


def damaged(lake: Lake, file: str, error: Exception) -> LakeError:
    return LakeError(f"{lake.storage.path(file)} is damaged ({error}): `scot check --repair` moves it aside")


def _roots(known: Mapping[Reference, Dataset], keys: Sequence[str]) -> list[Dataset]:
    """The benchmarks among them, else the dataset of the last table, of several the newest with most behind it."""
    for table in ROOTS:
        found = [known[reference] for key in keys if (reference := Reference(table, key)) in known]
        if found and table == "benchmarks":
            return found
        if found:
            return [max(found, key=lambda dataset: (len(generation_of(dataset, known).members), committed_at(dataset)))]
    return []
