"""Texts and vectors of any number: sorted and looked up on the disk, they are what they are in memory."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scot_core import spill
from scot_core.errors import LakeError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.schema import text_id
from scot_core.stages.embed.different import different
from scot_core.stages.embed.vectors import rows_of, stored
from scot_core.stages.generate.joined import joined
from scot_core.stages.rewordings import rewordings_of
from scot_core.stages.train import training_set
from scot_core.triplets.rewording import reworded
from tests.running import run_here

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@settings(max_examples=30, deadline=None)
@given(parts=st.lists(st.lists(ANY, max_size=6), max_size=5), rows=st.integers(1, 4))
def test_each_text_is_there_once_in_order_in_shards(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[str]], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    made = different((pa.array(part, pa.string()) for part in parts), folder, rows)
    shards = [made.shard(index) for index in range(len(made.sizes))]
    every = sorted(set(chain.from_iterable(parts)))
    assert shards == [every[start : start + rows] for start in range(0, len(every), rows)]
    assert [len(shard) for shard in shards] == list(made.sizes)
    assert different(iter(()), folder, rows) == made, "the file is used as it is"
    assert [path.name for path in folder.iterdir()] == ["texts.arrow"]


def test_what_does_not_fit_into_memory_is_sorted_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "MEMORY", "24MB")
    texts = [f"a text of some length that is number {number * 7919 % 150_000:06d}" for number in range(300_000)]
    made = different((pa.array(texts[at : at + 5_000]) for at in range(0, 300_000, 5_000)), tmp_path, 40_000)
    assert made.sizes == (40_000, 40_000, 40_000, 30_000)
    assert list(chain.from_iterable(map(made.shard, range(4)))) == sorted(set(texts))


def _embedded(lake: Lake, what: str, ids: list[str], size: int) -> Dataset:
    draft = lake.draft(Identity("embeddings", "shop", f"embed-{what}", "e" * 32, {"what": what}))
    starts = range(0, len(ids), size)
    for shard, start in enumerate(starts):
        some = ids[start : start + size]
        vectors = np.array([[start + at, 1] for at in range(len(some))], np.float32)
        columns = {
            name: [value] * len(some) for name, value in (("source", "shop"), ("kind", "text"), ("encoder", "e"))
        }
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2)
        draft.write_part(shard, {**columns, "item_id": some, "text": [None] * len(some), "vector": flat})
    return draft.commit(len(starts), rows_in=len(ids))


def _triplets(lake: Lake, stage: str, rows: list[tuple[str, str, str, str]], size: int) -> Dataset:
    draft = lake.draft(Identity("triplets", "shop", stage, fingerprint(stage, 1, {}, []), {}))
    starts = range(0, len(rows), size)
    for shard, start in enumerate(starts):
        some = rows[start : start + size]
        columns = zip(("image_id", "caption", "modification", "modified_caption"), zip(*some, strict=True), strict=True)
        same = {name: ["x"] * len(some) for name in ("pair_id", "source", "kind", "model")}
        draft.write_part(shard, {**same, **{name: list(column) for name, column in columns}})
    return draft.commit(len(starts), rows_in=len(rows))


@settings(max_examples=5, deadline=None, phases=[Phase.generate])
@given(asked=st.lists(st.lists(st.integers(0, 8), max_size=6), max_size=4), size=st.integers(1, 4))
def test_a_vector_is_found_by_its_id_wherever_it_lies(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[int]], size: int
) -> None:
    lake, work = Lake(tmp_path_factory.mktemp("lake")), tmp_path_factory.mktemp("work")
    dataset = _embedded(lake, "texts", [f"id {number * 5 % 9}" for number in range(9)], size)
    there = stored(dataset, work)
    found = rows_of((pa.array([f"id {n}" for n in part], pa.string()) for part in asked), there, dataset)
    assert found.tolist() == [n * 2 % 9 for part in asked for n in part]
    assert there.vectors[:, 0].tolist() == list(range(9))
    with pytest.raises(LakeError, match="has no vector for nowhere, which embeddings/"):
        rows_of([pa.array(["id 1", "nowhere", "elsewhere"])], there, dataset)
    twice = stored(_embedded(lake, "images", ["id 1", "id 1"], size), work)
    with pytest.raises(LakeError, match="two vectors of one id"):
        rows_of([pa.array(["id 1"])], twice, dataset)


@pytest.mark.parametrize("first", [None, 1, 3, 5])
def test_every_triplet_has_the_vectors_of_its_texts_and_image(lake: Lake, tmp_path: Path, first: int | None) -> None:
    rows = [(f"im{n % 2}", f"c{n % 3}", f"m{n}", f"c{(n + 1) % 3}") for n in range(5)]
    texts = sorted({text for row in rows for text in row[1:]})
    images = _embedded(lake, "images", ["im1", "im0"], 1)
    vectors = _embedded(lake, "texts", [text_id(text) for text in texts], 3)
    data = training_set(_triplets(lake, "generate", rows, 2), images, vectors, tmp_path, first)
    kept = rows[:first]
    assert data.image[:][:, 0].tolist() == [1 - int(image[2:]) for image, *_ in kept]
    for place, column in enumerate((data.caption, data.modification, data.modified_caption), 1):
        assert column[:][:, 0].tolist() == [texts.index(row[place]) for row in kept]


def test_every_triplet_has_the_vectors_of_its_other_wordings(lake: Lake, tmp_path: Path) -> None:
    rows = [("im", "c", modification, "u") for modification in ("make it red", "in blue", "make it red")]
    wordings = [reworded(modification, 2) for _, _, modification, _ in rows]
    texts = sorted(set(chain.from_iterable(wordings)))
    vectors = _embedded(lake, "rewordings", [text_id(text) for text in texts], 2)
    found = rewordings_of(_triplets(lake, "generate", rows, 2), vectors, tmp_path, 2)
    assert [way[:][:, 0].tolist() for way in found] == [[texts.index(ways[n]) for ways in wordings] for n in range(2)]


def test_joined_triplets_are_those_of_each_dataset_in_parts_of_theirs(lake: Lake) -> None:
    rows = [(f"im{n}", f"c{n}", f"m{n}", f"u{n}") for n in range(7)]
    first, second = _triplets(lake, "seed", rows[:2], 5), _triplets(lake, "generate", rows[2:], 2)
    every = joined(run_here, lake, [first, second, first])
    assert [part.rows for part in every.parts] == [2, 2, 2, 1]
    assert every.read(["image_id"])["image_id"].to_pylist() == [row[0] for row in rows]
