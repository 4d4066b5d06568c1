"""Shards that are done again: those whose rows match and no others, under new keys, with every row accounted for."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scot.backfill import backfill as command
from scot_core.catalogue.teacher import serve
from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Lake
from scot_core.lake.check import check
from scot_core.lake.gc import collect, garbage
from scot_core.lake.generations import record
from scot_core.lake.sealed import sealed, unsealed
from scot_core.stages import recipes
from scot_core.stages.step import Committed, Work
from tests.core.test_own_captions import pipeline_of
from tests.seeding import answered, seed, seed_config, texts
from tests.shapes import captioned
from tests.teacher_faults import Fault, Faults


class Counting:
    """A runner that remembers which shards were done."""

    def __init__(self) -> None:
        self.worked: Counter[str] = Counter()

    def __call__(self, work: Work) -> Committed:
        if (found := work.committed()) is not None:
            return found
        with work:
            for shard in range(len(work.shards())):
                if work.run(shard, lambda _: None):
                    self.worked[f"{work.name} {shard}"] += 1
            return work.commit()


def rows(dataset: Dataset, but: tuple[int, ...] = ()) -> list[list[dict[str, Any]]]:
    """Of every part but these, without the name of the dataset."""
    return [
        part.drop_columns(["key"]).to_pylist() for index, part in enumerate(dataset.read_parts()) if index not in but
    ]


def test_pictures_that_were_mended_are_read_again_and_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, lake = captioned(tmp_path / "photos"), Lake(tmp_path / "lake")
    picture = sorted((tmp_path / "photos" / "pictures").iterdir())[0]
    kept = picture.read_bytes()
    picture.write_bytes(b"")
    plan = pipeline_of(table, "captions.shard_rows=12")

    def made(run: Counting) -> tuple[Dataset, Dataset]:
        captions = recipes.captions(run, lake, plan.captions).captions
        return captions, recipes.generate(run, lake, plan.generate, captions)

    before, mined = made(Counting())
    assert before.rejected == 1 and len(before.parts) == 4
    picture.write_bytes(kept)
    where = "stage = 'captions' and reason like 'image%'"
    command("rejects", where=where, lake=lake.url, json_=True)
    (planned,) = json.loads(capsys.readouterr().out)
    assert (planned["dataset"], planned["rows"], planned["matching"], planned["begun"]) == (before.name, 12, 1, False)
    assert made(Counting()) and lake.table("captions").latest().name == before.name, "it was said, and not done"
    command("rejects", where=where, lake=lake.url, yes=True)
    assert mined.name in capsys.readouterr().out
    with pytest.raises(ConfigError, match="being done again already"):
        command("rejects", where=where, key=before.key, lake=lake.url)
    again = Counting()
    after, mined_again = made(again)
    (shard,) = planned["shards"]
    assert again.worked == {f"read captioned images {shard}": 1, "mine triplets 0": 1}
    assert (after.rows, after.rejected, after.manifest.rows.given) == (48, 0, 48) and after.key != before.key
    assert rows(after, but=(shard,)) == rows(before, but=(shard,)) and mined_again.key != mined.key
    assert set(after.read(["key"])["key"].to_pylist()) == {after.key}
    nothing = Counting()
    assert [found.name for found in made(nothing)] == [after.name, mined_again.name] and not nothing.worked
    assert check(lake, everything=True).damages == ()
    before.check()


def test_replies_are_asked_for_again_shard_by_shard_and_again_after_that(local_lake: Lake) -> None:
    with serve() as url:
        first = seed(local_lake, seed_config(url))
        replies = local_lake.table("replies").latest()
        paid = answered(url)
        for shard, rows_in in ((1, 15), (2, 10)):
            row = local_lake.table("replies").latest().read_part(shard, ["pair_id"])["pair_id"][0].as_py()
            where = f"pair_id in (select pair_id from triplets_all where pair_id = '{row}') or pair_id = '{row}'"
            command("replies", where=where, lake=local_lake.url, yes=True)
            triplets = seed(local_lake, seed_config(url))
            now = local_lake.table("replies").latest()
            assert rows(now, but=(shard,)) == rows(replies, but=(shard,)) and now.key != replies.key
            assert triplets.rows + triplets.rejected == first.rows + first.rejected == 40
            asked = answered(url) - paid
            assert sum(asked.values()) == rows_in and [name for name, _ in texts(now)] == [n for n, _ in texts(replies)]
            replies, paid = now, answered(url)


def test_gc_drops_the_records_of_datasets_that_go_and_no_others(local_lake: Lake) -> None:
    later = datetime.now(UTC) + timedelta(days=3)

    def again(url: str) -> Dataset:
        command("replies", where="true", lake=local_lake.url, yes=True)
        seed(local_lake, seed_config(url))
        return local_lake.table("replies").latest()

    def going() -> set[str]:
        return {item.name for item in garbage(local_lake, 1, later).items if item.name.startswith("backfills/")}

    with serve() as url:
        seed(local_lake, seed_config(url))
        made = [local_lake.table("replies").latest()]
        made += [again(url), again(url)]
        assert sorted(local_lake.storage.names("backfills")) == sorted(f"{one.key}.json" for one in made[:2])
        assert going() == {f"backfills/{one.key}.json" for one in made[:2]}, "no generation has any of them"
        generation = record(local_lake, [local_lake.table("triplets").latest().key], {})
        assert going() == set(), "they lead to what stays"
        for one in made[:2]:  # the first backfills did not write down who follows
            name = f"backfills/{one.key}.json"
            tables = unsealed(local_lake.storage.read(name))["tables"]
            local_lake.storage.write(
                name, sealed({"format": 1, "tables": {"replies": {"shards": tables["replies"]["shards"]}}})
            )
        assert going() == set()
        collect(local_lake, garbage(local_lake, 1, later), later)
        assert [one.key for one in local_lake.table("replies").datasets()] == [made[2].key]
        asked = answered(url)
        seed(local_lake, seed_config(url))
        assert answered(url) == asked, "whoever asks for the first is given the last"
        local_lake.storage.remove(f"runs/{generation[0]}.json")
        collect(local_lake, garbage(local_lake, 1, later), later)
        assert local_lake.table("replies").datasets() == []
        assert going() <= {f"backfills/{made[0].key}.json"}, "of the first, nobody can say any more"


def test_what_has_no_shards_of_its_own_is_refused_with_what_to_do(local_lake: Lake) -> None:
    with serve(faults=Faults({Fault.APOLOGISE: 0.3})) as url:
        seed(local_lake, seed_config(url))
    with pytest.raises(ConfigError, match="give one of captions, galleries, replies, embeddings"):
        command("triplets", where="true", lake=local_lake.url)
    with pytest.raises(ConfigError, match=r"read from replies.*scot backfill replies --where"):
        command("rejects", where="true", lake=local_lake.url, key=local_lake.table("triplets").latest().key)
    with pytest.raises(ConfigError, match="query failed"):
        command("replies", where="no_such_column = 1", lake=local_lake.url)
    with pytest.raises(ConfigError, match="query"):
        command("replies", where="1=1); copy (select 1) to 'x' --", lake=local_lake.url)


def test_a_damaged_record_is_found_and_said(local_lake: Lake) -> None:
    with serve() as url:
        seed(local_lake, seed_config(url))
        key = local_lake.table("replies").latest().key
        command("replies", where="true", lake=local_lake.url, yes=True)
        name = f"backfills/{key}.json"
        local_lake.storage.write(name, local_lake.storage.read(name).replace(b"true", b"TRUE"))
        assert name in [damage.file for damage in check(local_lake).damages]
        with pytest.raises(LakeError, match=r"backfills.*is damaged.*scot check --repair"):
            seed(local_lake, seed_config(url))
