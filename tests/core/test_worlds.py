"""The table of `make worlds`: the catalogue's half, beside which the emoji of `make emoji` are put."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from deployments import worlds
from deployments.emoji import RENDERINGS
from scot_core.catalogue import world
from scot_core.catalogue.drawing import render
from scot_core.catalogue.grammar import read_caption
from scot_core.studies import study
from scot_core.studies.spec import Cell
from scot_core.triplets.mining import MinedEdit, mine


def test_products_are_drawn_as_their_captions_say_and_only_once(tmp_path: Path) -> None:
    rows = worlds.draw(tmp_path, 40)
    assert len({row["image"] for row in rows}) == 40
    rng = random.Random(0)
    for place, row in enumerate(rows):
        product = world.sample(rng, "seen")
        assert read_caption(row["caption"]) == {name: getattr(product, name) for name in worlds.SAID}
        with Image.open(tmp_path / row["image"]) as picture:
            assert picture.tobytes() == render(product, worlds.SIZE, place).tobytes()
    (tmp_path / rows[0]["image"]).write_bytes(b"kept")
    assert worlds.draw(tmp_path, 40) == rows
    assert (tmp_path / rows[0]["image"]).read_bytes() == b"kept"


def test_nearly_every_product_is_one_edit_away_from_another(tmp_path: Path) -> None:
    pairs = [(row["image"], row["caption"]) for row in worlds.draw(tmp_path, 300)]
    found = [edit for edit in mine(pairs, per_caption=4, seed=0, work=tmp_path) if isinstance(edit, MinedEdit)]
    assert len({edit.pair_id for edit in found}) > 250
    assert all(read_caption(edit.caption) != read_caption(edit.modified_caption) for edit in found)


@pytest.mark.parametrize("cell", [c for c in study("domain").cells if "folders" in str(c)], ids=lambda cell: cell.name)
def test_the_study_trains_on_folders_that_the_table_has(cell: Cell) -> None:
    settings = dict(setting.split("=") for setting in cell.settings)
    assert set(settings["train.folders"].split(",")) <= {worlds.WORLD, *RENDERINGS}
