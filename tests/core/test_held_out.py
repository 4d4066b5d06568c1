"""What a source's benchmark holds out is shown by no triplet, whoever wrote it and whatever the filters are set to."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.catalogue.held_out import shows
from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.world import HELD_TYPES, is_held, sample
from scot_core.config import GenerateConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.schema import pair_id
from scot_core.sources import held_out_of
from scot_core.stages.generate.mined import MineTriplets
from scot_core.stages.replies.read import ReadReplies, reply_columns
from scot_core.triplets import Filter, local_completion
from tests.replies import read_replies
from tests.running import run_here

SEEN = "a white t-shirt"  # t-shirts are held out in red and blue, and striped


@pytest.mark.parametrize(
    ("before", "asked", "after", "held"),
    [
        (SEEN, "make it green", "a green t-shirt", False),
        (SEEN, "make it green", "a green stripy t-shirt", True),  # the modified caption
        ("a red tee", "make it green", "a green tee", True),  # the caption
        (SEEN, "turn it into a vase", "a white item", True),  # the modification, by itself
        (SEEN, "make it red", "a large item", True),  # the modification, of that caption
        (SEEN, "replace the gown with a lamp", "a white lamp", True),  # what goes is named as well
        (SEEN, "turn it from red to green", "a green item", False),  # no t-shirt is said to be red
        ("a red mug", "turn it into a green t-shirt", "a green t-shirt", False),
        ("a red mug", "turn it into a t-shirt", "a red item", True),
        (SEEN, "put it on a brick wall", "a t-shirt and a lamp in red and green", True),
        ("a dog on the beach", "make it run", "a dog runs on the beach", False),
    ],
)
def test_what_shows(before: str, asked: str, after: str, held: bool) -> None:
    assert shows(before, asked, after) is held


@given(seed=st.integers(0, 2**32), place=st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_a_caption_shows_what_is_held_out_where_it_names_it(seed: int, place: int) -> None:
    rng = random.Random(seed)
    product, mention = sample(rng), mentioned(rng)
    said = {name: value if name in mention else None for name, value in product.attributes().items()}
    texts = ["", "", ""]
    texts[place] = caption(product, mention, rng.getrandbits(30))
    held = said["type"] in HELD_TYPES or is_held(said["type"], said["colour"], said["pattern"])
    assert shows(*texts) is held


def _rows(source: str, *texts: str) -> list[dict[str, Any]]:
    ids = [pair_id(source, str(number), text) for number, text in enumerate(texts)]
    return [
        {"pair_id": pair, "source": source, "image_id": str(number), "caption": text}
        for number, (pair, text) in enumerate(zip(ids, texts, strict=True))
    ]


def _replies(rows: list[dict[str, Any]], modification: str, modified: str) -> list[dict[str, Any]]:
    reply = {"text": local_completion(modification, modified), "finish_reason": "stop", "model": "m"}
    return [{**row, **reply, "seed": 0, "prompt_tokens": 1, "completion_tokens": 1, "usd": 0.0} for row in rows]


@pytest.mark.parametrize("strength", ["off", "lenient", "strict"])
def test_no_setting_turns_it_off_and_other_sources_hold_out_nothing(strength: Filter) -> None:
    for source, reason in (("catalogue", "held_out"), ("shop", None)):
        rows = _rows(source, SEEN)
        (reading,) = read_replies(rows, [_replies(rows, "make it red", "a red t-shirt")], "lines", strength)
        assert (reading.reason, reading.modification is None) == (reason, reason is not None)
    assert held_out_of("shop") is None


def test_it_is_tried_again_and_it_comes_after_the_filters() -> None:
    rows = _rows("catalogue", SEEN)
    held = _replies(rows, "make it red", "a red t-shirt")
    good = _replies(rows, "make it pink", "a pink t-shirt")
    not_applied = _replies(rows, "make it red", SEEN)
    (second,) = read_replies(rows, [held, good], "lines")
    assert (second.modified_caption, second.tries) == ("a pink t-shirt", 2)
    (again,) = read_replies(rows, [held, not_applied], "lines")
    assert (again.reason, again.tries) == ("identical", 2)


def _captions(lake: Lake, source: str, rows: list[dict[str, Any]]) -> Dataset:
    draft = lake.draft(Identity("captions", source, "captions", "f" * 32, {}))
    columns = {name: [row[name] for row in rows] for name in ("pair_id", "source", "image_id", "caption")}
    draft.write_part(0, {**columns, "image": [{"bytes": b"", "path": ""}] * len(rows)})
    return draft.commit(1, rows_in=len(rows))


def test_only_the_keys_of_sources_that_hold_out_change(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for source, keyed in (("catalogue", True), ("shop", False)):
        rows = _rows(source, SEEN)
        captions, draft = (
            _captions(lake, source, rows),
            lake.draft(Identity("replies", source, "generate", "e" * 32, {})),
        )
        draft.write_part(0, reply_columns(_replies(rows, "make it red", "a red tee"), "generate", "m", 1))
        read = ReadReplies(lake, "generate", "generated", "lines", captions, [draft.commit(1, rows_in=1)])
        mine = MineTriplets(lake, GenerateConfig(writer="mined"), captions)
        assert [("held_out_rule" in step.outputs["triplets"].config) for step in (read, mine)] == [keyed, keyed]


def test_mined_triplets_neither_start_there_nor_lead_there(tmp_path: Path) -> None:
    rng = random.Random(3)
    texts = {caption(sample(rng), mentioned(rng), rng.randrange(3)) for _ in range(800)}
    lake, rows = Lake(tmp_path), _rows("catalogue", *sorted(texts))
    steps = run_here(MineTriplets(lake, GenerateConfig(writer="mined"), _captions(lake, "catalogue", rows)))
    rejects, triplets = (steps[table].read().to_pylist() for table in ("rejects", "triplets"))
    assert len(triplets) > 1000
    assert not [t for t in triplets if shows(t["caption"], t["modification"], t["modified_caption"])]
    held = {row["pair_id"] for row in rows if shows(row["caption"], "", "")}
    assert held and held <= {reject["pair_id"] for reject in rejects if reject["reason"] == "held_out"}
    assert {row["pair_id"] for row in (*rejects, *triplets)} == {row["pair_id"] for row in rows}
