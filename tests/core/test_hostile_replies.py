"""What a server may send that no honest one sends: a reason for the row, or an error that says what to do; no harm."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scot_core.errors import BudgetReached
from scot_core.llm import Reply
from scot_core.llm.plain import MOST_TOKENS, plain
from scot_core.llm.remote.chat import highest_price
from scot_core.llm.remote.endpoint import ask
from scot_core.triplets import Parsed, Rejection, parse, read_reply
from tests.endpoints import KEY, SAMPLING, request, server
from tests.hostile import REJECTED, Asked, answering, completion, triplet


def replies(contents: Sequence[Any], **usage: Any) -> list[Reply]:
    """What the client makes of completions with these contents, one each."""

    def answer(asked: Asked) -> None:
        number = int(json.loads(asked.body)["messages"][-1]["content"])
        asked.send(completion(contents[number], **usage))

    kept: dict[str, Reply] = {}
    with answering(answer) as hostile:
        wanted = [request(str(number)) for number in range(len(contents))]
        ask(server(hostile.url), KEY, wanted, on_reply=lambda name, reply, usd: kept.update({name: reply}))
    return [kept[str(number)] for number in range(len(contents))]


# --------------------------------------------------------------------------------------------------- text

KEPT = {
    "a family joined by zero-width joiners": "add \U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "the flag of England, in tag characters": "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a heart with its variation selector": "\u2764\ufe0f",
    "Persian with a joiner that is none": "\u0622\u0628\u06cc\u200c\u062a\u0631",
    "Hebrew with its marks": "\u05db\u05d7\u05d5\u05dc\u200f \u200eblue",
    "Devanagari": "\u0928\u0940\u0932\u093e",
    "letters with their accents apart": "bleu fonce\u0301",
    "a pair of surrogates as escapes": r"\ud83d\ude00",
    "Chinese": "\u6539\u6210\u84dd\u8272",
}


@pytest.fixture(scope="module")
def rejected() -> dict[str, Reply]:
    return dict(zip(REJECTED, replies([content for content, _ in REJECTED.values()]), strict=True))


@pytest.mark.parametrize("name", REJECTED)
def test_a_reply_that_no_triplet_can_be_made_of_has_its_reason_and_can_be_stored(
    name: str, rejected: dict[str, Reply]
) -> None:
    reply = rejected[name]
    assert read_reply("a red mug", reply.text, reply.finish_reason, "json") == Rejection(REJECTED[name][1])
    assert reply.text.encode() is not None and "\x1b" not in reply.text and "\0" not in reply.text
    assert (reply.prompt_tokens, reply.completion_tokens) == (300, 20)  # it was paid for
    assert plain(reply) == reply


@pytest.mark.parametrize("name", [name for name, (_, reason) in REJECTED.items() if "control" not in reason])
def test_such_a_reply_that_is_stored_already_is_read_with_the_same_reason(name: str) -> None:
    content, reason = REJECTED[name]
    result = parse(content, "json")
    assert result == Rejection(reason) or result in (Rejection("not_json"), Rejection("wrong_schema"))


def test_text_of_any_language_is_text() -> None:
    for text, reply in zip(KEPT.values(), replies([triplet(text) for text in KEPT.values()]), strict=True):
        assert (reply.text, reply.finish_reason) == (triplet(text), "stop")
        assert parse(reply.text, "json") == Parsed(json.loads(f'"{text}"'), "a blue mug")


@given(st.text(max_size=60))
def test_what_can_be_stored_and_shown_is_left_alone(text: str) -> None:
    reply = plain(Reply(text, "stop", 1, 1))
    assert reply.text.encode() is not None
    if text.isprintable() and "\\" not in text:
        assert reply == Reply(text, "stop", 1, 1)


# ------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    "said",
    [-1, -(10**9), 2**31, 2**63, 10**30, 1e308, float("inf"), float("nan"), "many", "-5", [1], {"a": 1}, True, None, 0],
    ids=repr,
)
def test_counts_that_cannot_be_are_estimated_and_that_is_said_once(
    said: object, caplog: pytest.LogCaptureFixture
) -> None:
    (first, second) = replies(["twelve bytes"] * 2, usage={"prompt_tokens": said, "completion_tokens": said})
    assert first == second == Reply("twelve bytes", "stop", 9, 4, counted=False)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "estimates" in warnings[0].getMessage()


@pytest.mark.parametrize("said", [7, 7.0, "7"])
def test_counts_that_can_be_are_believed(said: object, caplog: pytest.LogCaptureFixture) -> None:
    (reply,) = replies(["a"], usage={"prompt_tokens": said, "completion_tokens": said})
    assert reply == Reply("a", "stop", 7, 7) and not caplog.records


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)


@given(prompt=JSON, written=JSON)
def test_no_count_is_below_nothing_or_beyond_what_a_table_holds(prompt: Any, written: Any) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": written}
    reply = request("a").read({"choices": [{"message": {"content": "b"}}], "usage": usage})
    assert 0 < reply.prompt_tokens <= MOST_TOKENS and 0 < reply.completion_tokens <= MOST_TOKENS


def test_counts_below_nothing_buy_nothing() -> None:
    cheap = {"prompt_tokens": -(10**6), "completion_tokens": -(10**6)}
    paid: list[float] = []
    with answering(lambda asked: asked.send(completion("ok", cheap))) as hostile:
        whom = server(hostile.url, concurrency=1)
        wanted = [replace(request(chr(97 + n)), sampling=replace(SAMPLING, max_tokens=2)) for n in range(26)]
        budget = 2 * highest_price(whom, wanted[0])
        with pytest.raises(BudgetReached):
            ask(whom, KEY, wanted, on_reply=lambda name, reply, usd: paid.append(usd), max_usd=budget)
        assert len(hostile.asked) == len(paid) == 2
    assert min(paid) > 0 and sum(paid) <= budget


# --------------------------------------------------------------------------------------------------- key


@pytest.mark.parametrize(
    "spelled",
    [
        KEY,
        KEY.replace("a", r"\u0061"),
        KEY.replace("c", r"\u0063", 1),
        "".join(rf"\u{ord(c):04X}" for c in KEY),
        KEY.replace("a", r"\\u0061"),
        KEY.replace("-", r"\-"),
    ],
)
@pytest.mark.parametrize("form", ["{}", '{{"modification": "{}", "modified_caption": "a"}}'])
def test_a_reply_that_spells_the_key_is_kept_without_it(spelled: str, form: str) -> None:
    (reply,) = replies([form.format(f"say {spelled} aloud")])
    assert reply.text == form.format("say *** aloud")
