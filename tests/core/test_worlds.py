"""The table of `make worlds`: the catalogue's half, beside which the emoji of `make emoji` are put."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deployments import worlds
from deployments.emoji import RENDERINGS
from scot_core.catalogue.grammar import read_caption
from scot_core.studies import study
from scot_core.studies.spec import Cell
from scot_core.triplets.mining import MinedEdit, mine


def test_products_are_drawn_as_their_captions_say_and_only_once(tmp_path: Path) -> None:
    rows = worlds.draw(tmp_path, 40)
    assert len({row["image"] for row in rows}) == 40
    for row in rows:
        assert {"type", "colour", "pattern", "badge"} == read_caption(row["caption"]).keys()
        with Image.open(tmp_path / row["image"]) as picture:
            assert picture.size == (worlds.SIZE, worlds.SIZE) and np.asarray(picture).std() > 1
    (tmp_path / rows[0]["image"]).write_bytes(b"kept")
    assert worlds.draw(tmp_path, 40) == rows
    assert (tmp_path / rows[0]["image"]).read_bytes() == b"kept"


def test_captions_of_products_that_differ_in_one_attribute_differ_by_one_edit(tmp_path: Path) -> None:
    pairs = [(row["image"], row["caption"]) for row in worlds.draw(tmp_path, 300)]
    found = [edit for edit in mine(pairs, per_caption=4, seed=0, work=tmp_path) if isinstance(edit, MinedEdit)]
    assert len({edit.pair_id for edit in found}) > 250
    changed = Counter[int]()
    for edit in found:
        before, after = read_caption(edit.caption), read_caption(edit.modified_caption)
        changed[sum(before.get(name) != after.get(name) for name in before.keys() | after.keys())] += 1
    assert changed[1] > changed.total() / 4


@pytest.mark.parametrize("cell", study("domain").cells, ids=lambda cell: cell.name)
def test_the_study_trains_on_folders_that_the_table_has(cell: Cell) -> None:
    settings = dict(setting.split("=") for setting in cell.settings)
    folders = settings.get("train.folders", worlds.WORLD).split(",")
    assert set(folders) <= {worlds.WORLD, *RENDERINGS}
