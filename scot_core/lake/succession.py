"""Datasets that are made again under a key of their own: which shards, and whose rows stay (see `backfill`).

A dataset's key says what was asked for; what is committed under it never changes. Where shards are to be done again, a
record names them, and from then on whoever asks for the dataset means its successor: the same rows but for those of
these shards, and a fingerprint made of both. So everything downstream gets new keys, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from scot_core.errors import LakeError
from scot_core.lake.dataset import Dataset, Identity
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.sealed import sealed, unsealed
from scot_core.lake.storage import Storage

BACKFILLS = "backfills"  # the folder of the records
VERSION = 1
MOST = 1000  # successions of one dataset

Shards = Mapping[str, list[int]]  # by table


def successor(identity: Identity, shards: list[int]) -> Identity:
    """Who takes the place of a dataset whose shards are done again."""
    again = {"of": identity.key, "shards": sorted(shards)}
    print_ = fingerprint("backfill", VERSION, {"shards": again["shards"]}, [identity.fingerprint])
    return replace(identity, fingerprint=print_, config={**identity.config, "backfill": again})


def current(storage: Storage, identity: Identity) -> Identity:
    """The identity that stands for this one now: itself, where nothing was done again. Raises LakeError if damaged."""
    for _ in range(MOST):
        shards = backfilled(storage, identity.key).get(identity.table)
        if shards is None:
            return identity
        identity = successor(identity, shards)
    raise LakeError(f"{storage.path(BACKFILLS)} holds more than {MOST} successors of {identity.table}/{identity.key}")


def backfilled(storage: Storage, key: str) -> Shards:
    """The shards that are done again of the datasets of a key, by table. Raises LakeError if the record is damaged."""
    return {table: entry["shards"] for table, entry in _entries(storage, key).items()}


def _entries(storage: Storage, key: str) -> dict[str, dict[str, Any]]:
    """What a record says of each table. Raises LakeError if it is damaged."""
    name = record_file(key)
    if not storage.exists(name):
        return {}
    try:
        tables = unsealed(storage.read(name))["tables"]
        return {str(table): {**entry, "shards": [int(s) for s in entry["shards"]]} for table, entry in tables.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LakeError(
            f"{storage.path(name)} is damaged ({error}): `scot check --repair` moves it aside, and what was there "
            "before the backfill counts again"
        ) from error


def lineages(storage: Storage, datasets: Iterable[Dataset]) -> dict[str, set[str]]:
    """Keys that follow a key for which there is a record, one after the other; empty where nobody can say which.

    Records say it, and manifests do: the records of the first backfills say only which shards. Raises LakeError.
    """
    keys = [name.removesuffix(".json") for name in storage.names(BACKFILLS) if name.endswith(".json")]
    follows: dict[str, set[str]] = {key: set() for key in keys}
    for key in keys:
        follows[key] |= {str(entry["to"]) for entry in _entries(storage, key).values() if "to" in entry}
    for dataset in datasets:
        of = dataset.config.get("backfill", {}).get("of")
        if of in follows:
            follows[of].add(dataset.key)
    found = {}
    for key in keys:
        found[key], waiting = set[str](), [key]
        while waiting:
            new = follows.get(waiting.pop(), set()) - found[key]
            found[key] |= new
            waiting += new
    return found


def record(storage: Storage, key: str, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Write down, at once for all tables, what is done again; other tables of the key keep what they have."""
    storage.write(record_file(key), sealed({"format": 1, "tables": {**_entries(storage, key), **tables}}))


def record_file(key: str) -> str:
    return f"{BACKFILLS}/{key}.json"
