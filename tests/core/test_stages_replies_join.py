"""Replies of any number: joined and read part by part, they become what they become when read at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.stages.replies import twins
from scot_core.stages.replies.join import Row, Rows
from scot_core.stages.replies.read import CAPTION_COLUMNS, REPLY_COLUMNS, Readings, reply_columns
from scot_core.stages.replies.reading import Reader, Reading
from scot_core.stages.replies.twins import are_among, repeated
from scot_core.triplets.reading import normalise

TEXTS = ("a red mug", "a blue mug", "a green mug with a lid")
REPLY = "make it black\na black mug"
SAID = st.sampled_from([REPLY, "make it white\na white mug", "rambling", ""])


def _commit(lake: Lake, table: str, stage: str, rows: Sequence[dict[str, Any]], size: int, number: int) -> Dataset:
    draft = lake.draft(Identity(table, "shop", stage, fingerprint(stage, number, {"rows": repr(rows)}, []), {}))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    for index, part in enumerate(parts):
        if table == "replies":
            draft.write_part(index, reply_columns(part, "generate", "m", 1))
        else:
            columns = {name: [row[name] for row in part] for name in CAPTION_COLUMNS}
            draft.write_part(index, {**columns, "image": [{"bytes": b"png", "path": "a.png"}] * len(part)})
    return draft.commit(len(parts), rows_in=len(rows))


def _reply(row: dict[str, Any], text: str) -> dict[str, Any]:
    said = {"text": text, "finish_reason": "stop" if text else "length", "prompt_tokens": 1, "completion_tokens": 1}
    return {**row, **said, "usd": 0.0, "seed": 0, "model": "m"}


def _at_once(captions: Sequence[Row], attempts: Sequence[Sequence[Row]], read: Reader) -> list[Reading]:
    """What is to come out: the first acceptable reply counts, unless its request was accepted for the same caption."""
    by_id = {row["pair_id"]: row for row in captions}
    readings: dict[str, Reading] = {}
    accepted: set[tuple[str, str]] = set()
    for number, replies in enumerate({row["pair_id"]: row for row in rows} for rows in attempts):
        for pair in list(readings) if number else replies:
            if pair in replies and (number == 0 or readings[pair].reason is not None):
                reading = read(by_id[pair], replies[pair], readings.get(pair))
                request = (reading.caption["caption"], normalise(reading.modification or ""))
                readings[pair] = (
                    reading.rejected("duplicate") if not reading.reason and request in accepted else reading
                )
                accepted |= set() if readings[pair].reason else {request}
    return list(readings.values())


@settings(max_examples=20, deadline=None)
@given(
    asked=st.lists(st.tuples(st.integers(0, 4), SAID, SAID, SAID), min_size=1, max_size=12),
    sizes=st.tuples(*[st.integers(1, 5)] * 5),
    backwards=st.booleans(),
    redone=st.booleans(),
)
def test_part_by_part_they_are_read_as_at_once(
    tmp_path_factory: Any, asked: list[tuple[Any, ...]], sizes: tuple[int, int, int, int, int], backwards: bool,
    redone: bool,
) -> None:  # fmt: skip
    """Captions of which some are the same, in parts of any sizes; replies of up to three tries, the first in the same
    order or the other, and perhaps made anew with other words when the others had asked again.
    """
    lake, read = Lake(tmp_path_factory.mktemp("lake")), Reader("lines", "off")
    texts = [TEXTS[n] if n < len(TEXTS) else f"a mug of pattern {i}" for i, (n, *_) in enumerate(asked)]
    rows = [
        {"pair_id": f"{i:032x}", "source": "shop", "image_id": f"{i}", "caption": text} for i, text in enumerate(texts)
    ]
    said = {row["pair_id"]: each for row, (_, *each) in zip(rows, asked, strict=True)}
    tries: list[list[dict[str, Any]]] = []
    waiting: list[Row] = list(rows[::-1] if backwards else rows)
    while waiting and len(tries) < 3:
        tries.append([_reply(dict(row), said[row["pair_id"]][len(tries)]) for row in waiting])
        waiting = [reading.caption for reading in _at_once(rows, tries, read) if reading.reason is not None]
    captions = _commit(lake, "captions", "captions", rows, sizes[0], 1)
    if redone:
        tries[0] = [_reply(row, said[row["pair_id"]][-1]) for row in tries[0]]
    numbered = list(enumerate(tries, 2))
    made = [_commit(lake, "replies", str(n), each, sizes[1 + n % 2], n) for n, each in numbered[:: -1 if redone else 1]]
    attempts = made[:: -1 if redone else 1]
    at_once = _at_once(rows, [attempt.read(REPLY_COLUMNS).to_pylist() for attempt in attempts], read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twins, "AT_ONCE", sizes[4])
        some = Readings(captions, attempts, read, tmp_path_factory.mktemp("work"))
        found = [
            reading for start in range(0, len(some), sizes[3]) for reading in some.between(start, start + sizes[3])
        ]
    assert found == at_once


def test_rows_are_found_by_place_and_by_id_wherever_they_lie(lake: Lake) -> None:
    rows = [{"pair_id": f"{i:032x}", "source": "s", "image_id": "i", "caption": f"c {i // 2}"} for i in range(10)]
    captions = _commit(lake, "captions", "captions", rows, 3, 1)
    held = Rows(captions, CAPTION_COLUMNS)
    assert len(held) == 10
    assert [dict(row) for row in held.between(2, 8)] == rows[2:8]
    assert held.between(9, 20) == rows[9:]
    for wanted in ([8, 1], [0], [9, 5, 2], []):
        ids = [rows[i]["pair_id"] for i in wanted]
        assert held.of([*ids, "nowhere"]) == {i: row for i, row in ((r["pair_id"], r) for r in rows) if i in ids}
    assert are_among([*rows, {"caption": "c"}], repeated(captions)).tolist() == [True] * 10 + [False]
