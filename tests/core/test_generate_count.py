"""Tries of stage generate go on until as many captions have a triplet as are wanted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from scot_core.config import GenerateConfig, validated
from scot_core.lake import Dataset, Identity, Lake
from scot_core.stages import recipes
from scot_core.stages.generate.local import Write
from scot_core.stages.replies import reading
from scot_core.stages.replies.read import reply_columns
from scot_core.stages.step import Committed, Work
from scot_core.triplets import local_completion, read_reply
from tests.catalogue_rows import commit_captions
from tests.running import run_here

CAPTIONS = 30


def half_at_a_time(work: Work) -> Committed:
    """A model half of whose replies are triplets, in place of one that has to be loaded."""
    if isinstance(work, Write):
        draft = work.drafts["replies"]
        for shard in range(len(work.shards())):
            rows = [
                {**row, "seed": 0, "finish_reason": "stop" if number % 2 else "length", "usd": 0.0}
                | {"text": local_completion("by night", f"{row['caption']} by night")}
                | {"prompt_tokens": 1, "completion_tokens": 1}
                for number, row in enumerate(work.rows(shard))
            ]
            draft.write_part(shard, reply_columns(rows, "generate", "half", work.attempt))
        return {"replies": draft.commit(len(work.shards()), rows_in=sum(work.shards()))}
    return run_here(work)


def made(folder: Path, **settings: Any) -> tuple[Lake, Dataset]:
    lake = Lake(folder)
    captions = commit_captions(lake, CAPTIONS)
    draft = lake.draft(Identity("adapters", captions.source, "finetune", "a" * 32, {"base": "x", "revision": None}))
    config = validated(GenerateConfig, {"filter": "off", **settings})
    return lake, recipes.generate(half_at_a_time, lake, config, captions, draft.commit(0, rows_in=0))


@pytest.mark.parametrize(
    ("count", "attempts", "tries", "kept"), [(None, 2, 2, 22), (10, 6, 1, 15), (24, 6, 3, 26), (30, 4, 4, 28)]
)
def test_tries_end_where_there_are_as_many_as_are_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int | None, attempts: int, tries: int, kept: int
) -> None:
    caplog.set_level(logging.WARNING)
    lake, triplets = made(tmp_path, count=count, attempts=attempts)
    assert (len(lake.table("replies").datasets()), triplets.rows) == (tries, kept)
    assert triplets.manifest.rows.given == CAPTIONS == triplets.rows + lake.table("rejects").latest().rows
    assert ("generate.count is 30, and 28" in caplog.text) is (count == 30)


def test_what_was_tried_is_tried_no_second_time_and_the_count_is_in_no_key_of_replies(tmp_path: Path) -> None:
    _, few = made(tmp_path, count=10, attempts=6)
    lake, more = made(tmp_path, count=24, attempts=6)
    assert len(lake.table("replies").datasets()) == 3 and few.inputs[0] == more.inputs[0]
    assert made(tmp_path, count=24, attempts=3)[1].record == more.record


@pytest.mark.parametrize("count", [None, 24])
def test_a_reply_is_judged_once_however_many_tries_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int | None
) -> None:
    judge = Mock(wraps=read_reply)
    monkeypatch.setattr(reading, "_judged", judge)  # which keeps some, but not as many as there may be
    lake, _ = made(tmp_path, count=count, attempts=3, filter="lenient")
    judged = [call for call in judge.call_args_list if "lenient" in call.args]
    assert len(judged) == sum(dataset.rows for dataset in lake.table("replies").datasets()) > CAPTIONS
