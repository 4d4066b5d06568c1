"""One bad reply must not block the stage: not when it arrives, and not where an older version kept it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from scot_core.catalogue.teacher import serve
from scot_core.errors import GateError
from scot_core.lake import Lake
from scot_core.stages.seed.work import SeedWork
from tests.hostile import REJECTED, Asked, answering, completion
from tests.seeding import SEEDS, answered, captions_of, seed, seed_config

USAGE = [None, {"prompt_tokens": -(10**9), "completion_tokens": 2**40}]


def test_every_reply_ends_as_triplet_or_reject_whatever_it_is(local_lake: Lake) -> None:
    contents = [content for content, _ in REJECTED.values()]
    asked_for: list[str] = []

    def answer(asked: Asked) -> None:
        asked_for.append(json.loads(asked.body)["messages"][-1]["content"])
        number = len(asked_for)
        asked.send(completion(contents[number % len(contents)], USAGE[number % 2]))

    with answering(answer) as hostile:
        config = seed_config(hostile.url, concurrency=1)
        for _ in range(2):  # the second time nothing is asked again
            with pytest.raises(GateError, match=rf"keeps 0 of {SEEDS} replies"):
                seed(local_lake, config)
    assert len(asked_for) == len(set(asked_for)) == SEEDS
    triplets, rejects, replies = (local_lake.table(name).latest() for name in ("triplets", "rejects", "replies"))
    assert (triplets.rows, triplets.record.rejected) == (0, SEEDS)
    reasons = Counter(rejects.read()["reason"].to_pylist())
    assert set(reasons) == {reason for _, reason in REJECTED.values()}
    assert 0 < replies.usage.usd < 50 * SEEDS


PAID = {"prompt_tokens": 300, "completion_tokens": 9, "usd": 0.309}
BAD: list[dict[str, Any]] = [
    {**PAID, "text": "half a pair \ud800"},
    {**PAID, "text": r'{"modification": "\ud800", "modified_caption": "a"}'},
    {**PAID, "text": "\x1b[2J"},
    {"text": "too many", "prompt_tokens": 2**40, "completion_tokens": 9, "usd": 2**40 / 1000},
    {"text": "too few", "prompt_tokens": -(10**9), "completion_tokens": -(10**9), "usd": -2e6},
    {"text": "beyond all", "prompt_tokens": 10**30, "completion_tokens": 1, "usd": 1e27},
]


@pytest.mark.parametrize("max_usd", [None, 100.0])
def test_a_journal_of_an_older_version_is_read_on_and_nothing_is_asked_again(
    local_lake: Lake, max_usd: float | None
) -> None:
    with serve() as url:
        config = seed_config(url, max_usd=max_usd)
        work = SeedWork(local_lake, config, captions_of(local_lake))
        ids = [row["pair_id"] for row in work.rows(0)]
        journal = work.draft.journal(0)
        for name, record in zip(ids, BAD, strict=False):
            journal.append({"id": name, "finish_reason": "stop", **record})
        journal.close()
        triplets = seed(local_lake, config)
        paid = answered(url)
    replies = {row["pair_id"]: row for row in local_lake.table("replies").latest().read().to_pylist()}
    assert set(paid.values()) == {1} and len(paid) == len(replies) - len(BAD)
    assert [replies[name]["finish_reason"] for name in ids[:6]] == [
        "error:wrong_encoding", "error:wrong_encoding", "error:control_characters", "stop", "stop", "stop",
    ]  # fmt: skip
    assert [(replies[n]["prompt_tokens"], replies[n]["usd"]) for n in ids[2:6]] == [(300, 0.309)] * 4
    rejects = local_lake.table("rejects").latest()
    assert triplets.rows + rejects.rows == len(replies) and triplets.record.rejected == rejects.rows
