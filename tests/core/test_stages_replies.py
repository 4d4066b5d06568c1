"""From replies to triplets and rejects: every caption ends in one of the two, with its reason and its tries."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.catalogue.grammar import teach
from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.world import sample
from scot_core.config import ServerConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.manifest import Rows
from scot_core.lake.schema import pair_id
from scot_core.llm.remote.chat import Sampling, TextRequest
from scot_core.query import query
from scot_core.stages.replies.ask import ask_and_keep
from scot_core.stages.replies.read import ReadReplies, reply_columns, usage_of
from scot_core.stages.replies.reading import Reading
from scot_core.triplets import Style, json_reply, local_completion
from tests.replies import read_replies
from tests.running import run_here


def _captions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        product = sample(rng, "seen")
        texts[caption(product, mentioned(rng), rng.getrandbits(30))] = None
    return [_row(f"image-{number}", text) for number, text in enumerate(texts)]


def _row(image_id: str, text: str) -> dict[str, Any]:
    return {"pair_id": pair_id("shop", image_id, text), "source": "shop", "image_id": image_id, "caption": text}


def _good(row: dict[str, Any], style: Style, seed: int = 0) -> str:
    parts = teach(row["caption"], random.Random(seed))
    return json_reply(*parts) if style == "json" else local_completion(*parts)


@dataclass
class Replies:
    """Replies of one attempt, in the order they were asked."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any], text: str, finish_reason: str = "stop") -> None:
        fields = {"text": text, "finish_reason": finish_reason, "prompt_tokens": 7, "completion_tokens": 3, "usd": 0.5}
        self.rows.append({**row, **fields, "seed": 0})

    def columns(self, attempt: int) -> dict[str, Any]:
        return reply_columns(self.rows, "generate", f"model-{attempt}", attempt)

    def table(self, attempt: int) -> pa.Table:
        return pa.table(self.columns(attempt))


def _read(captions: Sequence[dict[str, Any]], style: Style, *attempts: Replies) -> list[Reading]:
    return read_replies(captions, [a.table(number).to_pylist() for number, a in enumerate(attempts, 1)], style)


# ------------------------------------------------------------------------------------- one reading


@pytest.mark.parametrize("style", ["json", "lines"])
def test_a_good_reply_becomes_a_triplet(style: Style) -> None:
    (row,) = captions = _captions(1)
    replies = Replies()
    replies.add(row, _good(row, style))
    (reading,) = _read(captions, style, replies)
    assert (reading.modification, reading.modified_caption) == teach(row["caption"], random.Random(0))
    assert (reading.reason, reading.tries, reading.model, reading.caption) == (None, 1, "model-1", row)


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ("{half", "stop", "not_json"),
        ('{"edit": "make it red"}', "stop", "wrong_schema"),
        ("I'm sorry, but I can't do that.", "stop", "refused"),
        ("I cannot help with this.", "refusal", "refused"),
        ('{"modification": "make', "length", "truncated"),
        ("", "error:bad_request", "error_bad_request"),
        ('{"modification": "", "modified_caption": "a mug"}', "stop", "empty_modification"),
    ],
)
def test_a_reply_that_is_none_is_rejected_with_its_reason_and_text(text: str, finish_reason: str, reason: str) -> None:
    captions = _captions(1)
    replies = Replies()
    replies.add(captions[0], text, finish_reason)
    (reading,) = _read(captions, "json", replies)
    assert (reading.reason, reading.raw, reading.tries) == (reason, text, 1)
    assert reading.modification is reading.modified_caption is None


def test_an_unchanged_caption_is_no_edit() -> None:
    captions = _captions(1)
    replies = Replies()
    replies.add(captions[0], json_reply("make it red", captions[0]["caption"]))
    (reading,) = _read(captions, "json", replies)
    assert reading.reason == "identical"


# ------------------------------------------------------------------------------------- several tries


def test_the_first_good_try_counts_and_the_last_bad_one_is_kept() -> None:
    captions = _captions(3)
    first, second, third = Replies(), Replies(), Replies()
    first.add(captions[0], _good(captions[0], "lines"))
    first.add(captions[1], "rambling")
    first.add(captions[2], "rambling")
    second.add(captions[1], _good(captions[1], "lines"))
    second.add(captions[2], "rambling on", "length")
    third.add(captions[2], "rambling for good")
    readings = _read(captions, "lines", first, second, third)
    assert [(r.tries, r.model, r.reason) for r in readings] == [
        (1, "model-1", None),
        (2, "model-2", None),
        (3, "model-3", "not_two_lines"),
    ]
    assert readings[2].raw == "rambling for good"


def test_a_modification_counts_once_for_a_caption() -> None:
    text = _captions(1)[0]["caption"]
    captions = [_row("image-0", text), _row("image-1", text), _captions(2)[1]]
    replies = Replies()
    modification, modified = teach(text, random.Random(0))
    replies.add(captions[0], local_completion(modification, modified))
    replies.add(captions[1], local_completion(f"  {modification.upper()} . ", modified))
    replies.add(captions[2], _good(captions[2], "lines"))
    readings = _read(captions, "lines", replies)
    assert [r.reason for r in readings] == [None, "duplicate", None]
    assert readings[1].raw.startswith("   " + modification.upper())


def test_a_duplicate_is_given_its_second_try() -> None:
    text = _captions(1)[0]["caption"]
    captions = [_row("image-0", text), _row("image-1", text), _row("image-2", text)]
    first, second = Replies(), Replies()
    first.add(captions[0], "rambling")
    first.add(captions[1], _good(captions[1], "lines"))
    first.add(captions[2], _good(captions[2], "lines"))
    second.add(captions[0], _good(captions[0], "lines"))  # what the second row has said before
    second.add(captions[2], _good(captions[2], "lines", seed=1))
    assert [(r.reason, r.tries) for r in _read(captions, "lines", first, second)] == [
        ("duplicate", 2),
        (None, 1),
        (None, 2),
    ]


def test_readings_follow_the_order_of_the_replies_not_of_the_captions() -> None:
    captions = _captions(5)
    replies = Replies()
    for row in reversed(captions[1:]):
        replies.add(row, _good(row, "lines"))
    assert [r.caption for r in _read(captions, "lines", replies)] == list(reversed(captions[1:]))


CAPTIONS = [*_captions(6), _row("twin", _captions(6)[0]["caption"])]
REPLY = st.sampled_from(["good", "other", "rambling", "cut", "refused"])


def _reply(replies: Replies, row: dict[str, Any], kind: str) -> None:
    if kind in ("good", "other"):
        replies.add(row, _good(row, "lines", seed=kind == "other"))
    else:
        replies.add(row, kind, {"cut": "length", "refused": "refusal"}.get(kind, "stop"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(REPLY, REPLY), min_size=len(CAPTIONS), max_size=len(CAPTIONS)), st.booleans())
def test_every_caption_that_was_asked_ends_as_a_triplet_or_as_a_reject(
    kinds: list[tuple[str, str]], again: bool
) -> None:
    first, second = Replies(), Replies()
    for row, (kind, _) in zip(CAPTIONS, kinds, strict=True):
        _reply(first, row, kind)
    for reading, (_, kind) in zip(_read(CAPTIONS, "lines", first), kinds, strict=True):
        if reading.reason is not None and again:
            _reply(second, dict(reading.caption), kind)
    readings = _read(CAPTIONS, "lines", first, second) if second.rows else _read(CAPTIONS, "lines", first)
    assert [r.caption["pair_id"] for r in readings] == [row["pair_id"] for row in CAPTIONS]
    tried = Counter(row["pair_id"] for row in [*first.rows, *second.rows])
    for reading in readings:
        assert (reading.reason is None) == (reading.modification is not None) == (reading.modified_caption is not None)
        assert reading.tries == tried[reading.caption["pair_id"]]
        assert reading.model == f"model-{reading.tries}"
    kept = [(r.caption["caption"], r.modification) for r in readings if r.reason is None]
    assert len(set(kept)) == len(kept)


# ------------------------------------------------------------------------------------- in the lake


def _committed(lake: Lake, table: str, stage: str, columns: dict[str, Any]) -> Dataset:
    draft = lake.draft(Identity(table, "shop", stage, fingerprint(stage, 1, {}, []), {}))
    return draft.commit(1, rows_in=draft.write_part(0, columns))


def _in_the_lake(lake: Lake) -> tuple[Dataset, list[Dataset]]:
    captions = _captions(5)
    image = {"image": [{"bytes": b"png", "path": "a.png"}] * 5}
    rows = {name: [row[name] for row in captions] for name in ("pair_id", "source", "image_id", "caption")}
    first, second = Replies(), Replies()
    for row in captions[:3]:
        first.add(row, _good(row, "lines"))
    first.add(captions[3], "rambling")
    first.add(captions[4], "cut short", "length")
    second.add(captions[3], _good(captions[3], "lines"))
    second.add(captions[4], "cut short again", "length")
    attempts = [
        _committed(lake, "replies", "generate", first.columns(1)),
        _committed(lake, "replies", "generate-try2", second.columns(2)),
    ]
    return _committed(lake, "captions", "captions", {**rows, **image}), attempts


def test_the_step_commits_triplets_and_rejects_that_add_up(lake: Lake) -> None:
    captions, attempts = _in_the_lake(lake)
    rejects, triplets = run_here(ReadReplies(lake, "generate", "generated", "lines", captions, attempts)).values()
    assert triplets.manifest.rows == Rows(given=5, out=4, rejected=1)
    assert list(triplets.inputs) == [d.reference for d in attempts]
    (reject,) = rejects.read().to_pylist()
    assert (reject["reason"], reject["raw"], reject["tries"]) == ("truncated", "cut short again", 2)
    rows = triplets.read().to_pylist()
    assert {row["kind"] for row in rows} == {"generated"}
    assert [row["model"] for row in rows] == ["model-1"] * 3 + ["model-2"]
    assert {row["pair_id"] for row in rows} | {reject["pair_id"]} == set(captions.read()["pair_id"].to_pylist())
    assert query(lake, "select count(*)::int as n from triplets join captions using (pair_id)").to_pylist() == [
        {"n": 4}
    ]


def test_the_step_is_not_done_twice_and_another_style_is_another_dataset(local_lake: Lake) -> None:
    captions, attempts = _in_the_lake(local_lake)
    step = ReadReplies(local_lake, "generate", "generated", "lines", captions, attempts)
    first = [d.record for d in run_here(step).values()]
    assert [
        d.record
        for d in run_here(ReadReplies(local_lake, "generate", "generated", "lines", captions, attempts)).values()
    ] == first
    fewer = ReadReplies(local_lake, "generate", "generated", "lines", captions, attempts[:1])
    other = ReadReplies(local_lake, "generate", "generated", "json", captions, attempts)
    loosely = ReadReplies(local_lake, "generate", "generated", "lines", captions, attempts, "off")
    assert len({s.outputs["triplets"].key for s in (step, fewer, other, loosely)}) == 4
    triplets = run_here(fewer)["triplets"]
    assert triplets.manifest.rows == Rows(given=5, out=3, rejected=2)


def test_usage_adds_up_over_parts() -> None:
    one, two = Replies(), Replies()
    for row in _captions(3):
        one.add(row, "text")
    two.add(_captions(1)[0], "text")
    usage = usage_of(iter([one.table(1), two.table(1), Replies().table(1)]), 2.5)
    assert (usage.seconds, usage.prompt_tokens, usage.completion_tokens, usage.usd) == (2.5, 28, 12, 2.0)


def test_a_shard_that_another_run_has_done_meanwhile_is_not_paid_for_again(lake: Lake) -> None:
    replies = Replies()
    captions = _captions(3)
    for row in captions:
        replies.add(row, "text")
    draft = lake.draft(Identity("replies", "shop", "generate", "a" * 32, {}))
    draft.write_part(0, replies.columns(1))
    draft.commit(1, rows_in=3)  # the journal goes with it
    nowhere = ServerConfig(base_url="http://127.0.0.1:9/v1", model="m", attempts=1)
    requests = [TextRequest(row["pair_id"], "prompt", Sampling(0.0, 1, 0)) for row in captions]
    kept = ask_and_keep(draft, 0, nowhere, "", requests, lambda _: None)
    assert {name: row["text"] for name, row in kept.items()} == {row["pair_id"]: "text" for row in captions}
