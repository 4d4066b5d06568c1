"""Drawing: which pairs, in which shards, and how much memory that takes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.captions.entries import Entry, Reason, Refused, refused
from scot_core.captions.reader import Reader
from scot_core.captions.spool import spool
from scot_core.lake.schema import pair_id

GROWTH = 150 << 20  # bytes of memory that 390,000 more entries may take; as objects they take 290 MB


class Listed(Reader):
    """Entries of a list."""

    def __init__(
        self,
        items: Sequence[Entry | Refused],
        count: int | None = None,
        source: str = "shop",
        paths: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.items, self.count, self.source, self._paths = items, count, source, paths

    @property
    def files(self) -> Sequence[str]:
        return []

    def entries(self) -> Iterator[Entry | Refused]:
        return iter(self.items)

    def pictures(self) -> Iterator[tuple[str, str]]:
        return iter(self._paths)


def _entry(image: int, caption: object) -> Entry:
    return Entry(f"i{image}", f"{image}.png", f"caption {caption}")


def _bad(number: int) -> Refused:
    return refused(Reason.MALFORMED_ENTRY, f"line {number}", "?")


def _draw(*readers: Reader, seed: int = 0, one: bool = False, shard_rows: int = 10) -> list[list[dict[str, Any]]]:
    """The rows of each shard."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = spool(readers, Path(folder), seed=seed, one_per_image=one, shard_rows=shard_rows)
        shards = [drawn.shard(index) for index in range(len(drawn.sizes))]
        assert drawn.sizes == [len(rows) for rows in shards]
        assert [path.name for path in Path(folder).iterdir()] == ["spool.parquet"]
    return shards


def _rows(shards: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for rows in shards for row in rows]


def _ids(shards: Sequence[Sequence[dict[str, Any]]]) -> set[str]:
    return {row["pair_id"] for row in _rows(shards) if row["reason"] is None}


ITEMS = st.lists(
    st.one_of(
        st.builds(_entry, st.integers(0, 6), st.integers(0, 5)),
        st.builds(_bad, st.integers(0, 99)),
    ),
    max_size=60,
)


@settings(max_examples=25, deadline=None)
@given(items=ITEMS, count=st.none() | st.integers(1, 40), one=st.booleans(), shard_rows=st.integers(1, 30))
def test_the_invariants_of_a_draw(items: list[Entry | Refused], count: int | None, one: bool, shard_rows: int) -> None:
    shards = _draw(Listed(items, count), one=one, shard_rows=shard_rows)
    rows = _rows(shards)
    entries = Counter((item.image_id, item.caption) for item in items if isinstance(item, Entry))
    reasons = Counter(row["reason"] for row in rows)

    # as many different pairs as asked for, or all there are
    available = len({image for image, _ in entries}) if one else len(entries)
    assert reasons[None] == len(_ids(shards)) == min(available, count or available)
    # rows in: every entry of a drawn pair, and every refusal
    kept = [(row["image_id"], row["caption"]) for row in rows if row["reason"] is None]
    assert reasons["duplicate_pair"] == sum(entries[pair] - 1 for pair in kept)
    assert reasons["malformed_entry"] == len(items) - entries.total()
    if one:
        assert len({image for image, _ in kept}) == len(kept)
    # an image lies in one shard, its rows next to each other, and shards are no longer than an image makes them
    images = [[image for image, _ in groupby(r["image_id"] for r in s if r["image_id"])] for s in shards]
    flat = [image for names in images for image in names]
    assert len(flat) == len(set(flat))
    largest = max((len(list(g)) for _, g in groupby(rows, key=lambda r: r["image_id"] or r["pair_id"])), default=0)
    assert all(shard_rows <= len(s) < shard_rows + largest for s in shards[:-1])


@settings(max_examples=15, deadline=None)
@given(items=ITEMS, seed=st.integers(0, 9), one=st.booleans(), data=st.data())
def test_a_draw_does_not_depend_on_the_order_of_the_files(
    items: list[Entry | Refused], seed: int, one: bool, data: st.DataObject
) -> None:
    moved = data.draw(st.permutations(items))
    drawn, again = (_draw(Listed(order, 7), seed=seed, one=one) for order in (items, moved))
    assert _ids(drawn) == _ids(again)


def test_a_larger_draw_holds_the_smaller_one_and_another_seed_draws_others() -> None:
    items = [_entry(n, n) for n in range(200)]
    small, large, other = _draw(Listed(items, 20)), _draw(Listed(items, 50)), _draw(Listed(items, 20), seed=1)
    assert _ids(small) < _ids(large)
    assert _ids(small) != _ids(other)
    assert len(_ids(other)) == 20


def test_each_source_is_drawn_for_itself() -> None:
    items = [_entry(n, n) for n in range(30)]
    others = [Entry(f"b{n}", None, "text") for n in range(30)]
    paths = [(f"b{n}", f"b/{n}.png") for n in range(29)] + [("b3", "b/another.png")]
    rows = _rows(_draw(Listed(items, 5), Listed(others, 9, "b", paths)))
    assert Counter(row["source"] for row in rows) == {"shop": 5, "b": 9}
    assert all(row["pair_id"] == pair_id(row["source"], row["image_id"], row["caption"]) for row in rows)
    everything = {r["image_id"]: r["path"] for r in _rows(_draw(Listed(others, None, "b", paths)))}
    assert everything["b29"] is None and everything["b3"] == "b/3.png" and everything["b5"] == "b/5.png"


def test_nothing_drawn_is_no_shard() -> None:
    assert _draw(Listed([])) == []


def test_a_spool_that_is_there_is_used_again(tmp_path: Path) -> None:
    first = spool([Listed([_entry(1, 1)])], tmp_path, seed=0, one_per_image=False, shard_rows=5)
    again = spool([Listed([])], tmp_path, seed=0, one_per_image=False, shard_rows=5)
    assert again.shard(0) == first.shard(0)


STREAM = """
import resource, sys, tempfile
from pathlib import Path
from scot_core.captions.coco import Coco
from scot_core.captions.spool import spool
from scot_core.config import CocoConfig

with tempfile.TemporaryDirectory() as folder:
    reader = Coco(CocoConfig(root=sys.argv[1], count=500))
    drawn = spool([reader], Path(folder), seed=0, one_per_image=False, shard_rows=100)
    rows = [row for index in range(len(drawn.sizes)) for row in drawn.shard(index)]
    assert len(rows) == 500 and all(row["path"] for row in rows), rows[:3]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def _write_coco(root: Path, count: int) -> None:
    """Captions of the published form, five an image, written without being held."""
    path = root / "annotations" / "captions_train2017.json"
    path.parent.mkdir(parents=True)
    images, text = count // 5, "A man riding a wave on top of a surfboard , number"
    of_image = '"license": 3, "height": 427, "width": 640, "date_captured": "2013-11-14 17:02:52"'
    with path.open("w") as file:
        file.write('{"info": {}, "licenses": [], "annotations": [')
        for n in range(count):
            comma = "," if n else ""
            file.write(f'{comma}{{"image_id": {n * 7919 % images}, "id": {n}, "caption": "{text} {n} ."}}')
        file.write('], "images": [')
        for n in range(images):
            comma = "," if n else ""
            file.write(f'{comma}{{{of_image}, "id": {n}, "file_name": "{n:012d}.jpg"}}')
        file.write("]}")


@pytest.mark.slow
def test_captions_stream_in_flat_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 400_000):
        _write_coco(tmp_path / str(count), count)
        command = [sys.executable, "-c", STREAM, str(tmp_path / str(count))]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert peaks[1] - peaks[0] < GROWTH, [peak >> 20 for peak in peaks]
