"""`scot backfill`: exactly the shards done again whose rows match."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from scot.options import JsonOption, LakeOption, lake_at, out
from scot.terminal import say, show_table
from scot.values import of_records
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Lake
from scot_core.lake.backfill import TABLES, Backfill, backfills, begin
from scot_core.lake.check import followers
from scot_core.lake.views import parquet
from scot_core.query import ROOT, query

Flag = Annotated[bool, Parameter(negative="")]


def backfill(
    table: str, /, *, where: str, key: str | None = None, yes: Flag = False, lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Do those shards of a table again, and only those, that hold rows of which a condition is true.

    Says what that would be; with --yes the next `scot run` or regeneration with the same settings does it, under new
    keys from there on. What was committed stays.

    Parameters
    ----------
    table
        captions, galleries, replies or embeddings, or the rejects that were written beside one of them.
    where
        SQL over a row of the table, such as "reason = 'image_missing'"; it may ask the other views.
    key
        A dataset of the table; default the newest of each source and stage.
    yes
        Begin.
    """
    place = lake_at(lake)
    if table not in (*TABLES, "rejects"):
        raise ConfigError(f"{table} is not made in shards of its own: give one of {', '.join(TABLES)}, or rejects")
    chosen = _chosen(place, table, key)
    found = backfills(place, table, {dataset.key: _matching(place, dataset, where) for dataset in chosen})
    if yes:
        for one in found:
            begin(place, one, where)
    if json_:
        print(json.dumps([_plain(place, one, begun=yes) for one in found]))
        return
    if not found:
        say(out, f"no row of the newest {table} in {place.url} matches: nothing to do again")
        return
    rows = [{name: value for name, value in _plain(place, one, begun=yes).items() if name in SHOWN} for one in found]
    show_table(out, of_records(rows), title=f"{'begun' if yes else 'would be done again'} in {place.url}")
    for one in found:
        after = ", ".join(sorted(map(str, followers(place.datasets())(one.dataset.reference)))) or "nothing yet"
        say(out, f"made from {one.dataset.name}, and made anew after it: {after}")
    if yes:
        say(out, "`scot run` with the same settings, or the next regeneration, does it")
    else:
        say(out, "nothing was begun; --yes does it")


SHOWN = ("dataset", "shards", "of", "rows", "matching", "usd")


def _chosen(place: Lake, table: str, key: str | None) -> list[Dataset]:
    if key is not None:
        return [place.table(table).latest(key=key)]
    return list({(dataset.source, dataset.stage): dataset for dataset in place.table(table).matching()}.values())


def _matching(place: Lake, dataset: Dataset, where: str) -> dict[int, int]:
    """Rows of which the condition holds, by shard. Raises ConfigError with DuckDB's words where it is none."""
    if not dataset.parts:
        return {}
    source = parquet([f"{ROOT}{dataset.name}/{part.name}" for part in dataset.parts], "filename=true")
    counted = query(place, f"SELECT filename, count(*) AS n FROM {source} WHERE ({where}\n) GROUP BY filename")
    shards = {f"{ROOT}{dataset.name}/{part.name}": index for index, part in enumerate(dataset.parts)}
    return {shards[row["filename"]]: row["n"] for row in counted.to_pylist()}


def _plain(place: Lake, one: Backfill, *, begun: bool) -> dict[str, object]:
    return {
        "dataset": one.dataset.name,
        "shards": list(one.shards),
        "of": len(one.dataset.parts),
        "rows": one.rows,
        "matching": one.matching,
        "usd": round(one.usd, 4),
        "begun": begun,
    }
