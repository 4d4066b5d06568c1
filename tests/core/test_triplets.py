"""Prompts, reading and screening of replies."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.catalogue import grammar, language, world
from scot_core.triplets import (
    EXAMPLES,
    REPLY_END,
    SYSTEM_PROMPT,
    Parsed,
    Rejection,
    chat_messages,
    few_shot_prompt,
    json_reply,
    local_completion,
    local_prompt,
    normalise,
    parse,
    read_reply,
    screen,
)

CAPTION = "a large red mug with a round handle on a wooden table"


def read(caption: str, modification: str, modified_caption: str) -> str:
    """ "kept", or the reason of the rejection."""
    result = read_reply(caption, json_reply(modification, modified_caption), "stop", "json")
    return result.reason if isinstance(result, Rejection) else "kept"


# ---------------------------------------------------------------------------------------------- prompts


def test_local_prompt_and_completion_make_one_text() -> None:
    text = local_prompt(CAPTION) + local_completion("make it blue", "a large blue mug")
    assert text == f"caption: {CAPTION}\nedit: make it blue\na large blue mug"


def test_a_model_that_is_not_tuned_is_shown_replies_in_the_form_in_which_they_are_read() -> None:
    task, *shown, asked = few_shot_prompt(CAPTION).split(REPLY_END)
    assert len(task) > 20 and f"caption:{asked}" == local_prompt(CAPTION)
    for text, (caption, modification, modified) in zip(shown, EXAMPLES, strict=True):
        given, _, reply = text.partition("\nedit:")
        assert given == f" {caption}" and parse(reply, "lines") == Parsed(modification, modified)


def test_chat_messages_are_the_task_the_examples_as_turns_and_the_caption() -> None:
    messages = chat_messages(CAPTION)
    turns = [{"role": "system", "content": SYSTEM_PROMPT}]
    for caption, modification, modified in EXAMPLES:
        reply = f'{{"modification": "{modification}", "modified_caption": "{modified}"}}'
        turns += [{"role": "user", "content": caption}, {"role": "assistant", "content": reply}]
    assert messages == [*turns, {"role": "user", "content": CAPTION}]
    assert chat_messages(CAPTION, "Be brief.")[0] == {"role": "system", "content": "Be brief."}
    assert chat_messages(CAPTION, "Be brief.")[1:] == messages[1:]
    assert json_reply("in \u201ccaf\u00e9\u201d style", "a b") == (
        '{"modification": "in \u201ccaf\u00e9\u201d style", "modified_caption": "a b"}'
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[1])
def test_worked_examples_pass_their_own_filters(example: tuple[str, str, str]) -> None:
    assert read(*example) == "kept"


# ---------------------------------------------------------------------------------------------- parsing

_line = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(_line, _line)
def test_both_styles_read_back_what_was_written(modification: str, modified_caption: str) -> None:
    expected = Parsed(modification, modified_caption)
    assert parse(local_completion(modification, modified_caption), "lines") == expected
    assert parse(json_reply(modification, modified_caption), "json") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" make it blue\na blue mug", Parsed("make it blue", "a blue mug")),
        (" make  it blue \n a blue mug\n\n", Parsed("make it blue", "a blue mug")),
        (" make it blue", "not_two_lines"),
        ("", "not_two_lines"),
        (" make it blue\na blue mug\ncaption: a red hat", "not_two_lines"),
        ("\na blue mug", "empty_modification"),
    ],
)
def test_lines(text: str, expected: Parsed | str) -> None:
    assert parse(text, "lines") == (Rejection(expected) if isinstance(expected, str) else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json_reply("make it blue", "a blue mug"), Parsed("make it blue", "a blue mug")),
        ("```json\n" + json_reply("make it\nblue", "a blue mug") + "\n```", Parsed("make it blue", "a blue mug")),
        ("```{}```", "wrong_schema"),
        ("```" + json_reply("make it blue", "a blue mug") + " ..", "not_json"),
        (".. " + json_reply("make it blue", "a blue mug") + "```", "not_json"),
        ('{"modification": "make it blue", "modified', "not_json"),
        ("make it blue", "not_json"),
        ("I\u2019m sorry, but I cannot help with that.", "refused"),
        ('["make it blue", "a blue mug"]', "wrong_schema"),
        ('{"edit": "make it blue", "modified_caption": "a blue mug"}', "wrong_schema"),
        ('{"modification": 3, "modified_caption": "a blue mug"}', "wrong_schema"),
        ('{"modification": "a", "modified_caption": "b", "note": "c"}', "wrong_schema"),
        ('{"modification": "make it blue", "modified_caption": "\\ud800"}', "error_wrong_encoding"),
        (json_reply(" ", "a blue mug"), "empty_modification"),
        (json_reply("make it blue", "\n"), "empty_modified_caption"),
    ],
)
def test_json(text: str, expected: Parsed | str) -> None:
    assert parse(text, "json") == (Rejection(expected) if isinstance(expected, str) else expected)


@pytest.mark.parametrize(
    ("finish_reason", "reason"),
    [
        ("length", "truncated"),
        ("refusal", "refused"),
        ("error:bad_request", "error_bad_request"),
        ("error:content-filter", "error_content_filter"),
    ],
)
def test_replies_that_are_not_whole_are_rejected_by_how_they_ended(finish_reason: str, reason: str) -> None:
    whole = json_reply("make it blue", CAPTION.replace("red", "blue"))
    assert read_reply(CAPTION, whole, finish_reason, "json") == Rejection(reason)
    parsed = Parsed("make it blue", CAPTION.replace("red", "blue"))
    assert screen(CAPTION, parsed, finish_reason) == Rejection(reason)
    assert screen(CAPTION, parsed, "stop") is None


# -------------------------------------------------------------------------------------------- screening


@pytest.mark.parametrize(
    ("modification", "modified_caption", "reason"),
    [
        ("make it blue", f"{CAPTION.upper()}.", "identical"),
        (CAPTION, CAPTION.replace("red", "blue"), "modification_is_caption"),
        (CAPTION.replace("red", "blue"), CAPTION.replace("red", "blue"), "modification_is_modified_caption"),
        ("edit: make it blue", CAPTION.replace("red", "blue"), "prompt_leak"),
        ("make it blue", CAPTION.replace("red", "blue") + " <|endoftext|>", "prompt_leak"),
        ("make it blue", "blue", "length"),
        ("make it blue " * 20, CAPTION.replace("red", "blue"), "length"),
        ("make it blue", CAPTION.replace("red", "blue") + " very" * 40, "length"),
        ("...", CAPTION.replace("red", "blue"), "length"),
        ("make it blue", CAPTION.replace("red", "green"), "unapplied_edit"),
        ("make it blue and add a lid", CAPTION.replace("red", "blue"), "unapplied_edit"),
        ("make it red", CAPTION.replace("round", "square"), "unapplied_edit"),
        ("remove the handle", CAPTION.replace("red", "plain"), "unapplied_edit"),
        ("make it blue", "a small blue mug with a round handle on a wooden table", "unsupported_edit"),
        ("make it blue", "a large blue mug with a round handle and a lid on a wooden table", "unsupported_edit"),
        ("make it blue", "a large blue mug on a wooden table", "lost_content"),
        ("make it blue", "a large blue mug with a round handle", "lost_content"),
        ("make it blue", "a blue mug with a round handle on a wooden table", "lost_content"),
    ],
)
def test_each_filter_has_its_reason(modification: str, modified_caption: str, reason: str) -> None:
    assert read(CAPTION, modification, modified_caption) == reason


@pytest.mark.parametrize(
    ("before", "longest"),
    [(1, 41), (10, 50), (26, 66), (27, 67), (28, 70), (100, 250), (500, 1000)],
)
def test_a_modified_caption_is_between_two_fifths_and_five_halves_as_long(before: int, longest: int) -> None:
    """Or 40 characters longer, whatever it is of; never above 1000."""

    def is_too_short_or_long(length: int) -> bool:
        return screen("a" * before, Parsed("make it blue", "b" * length), "stop") == Rejection("length")

    shortest = math.ceil(0.4 * before)
    assert [is_too_short_or_long(n) for n in (shortest - 1, shortest, longest, longest + 1)] == [
        True,
        False,
        False,
        True,
    ]


def test_a_modification_has_200_characters_at_most() -> None:
    modified = CAPTION.replace("red", "blue")
    assert screen(CAPTION, Parsed("make it blue".ljust(200), modified), "stop") is None
    assert screen(CAPTION, Parsed("make it blue".ljust(201), modified), "stop") == Rejection("length")


@pytest.mark.parametrize(
    "leak",
    [
        "Caption:",
        "edit =",
        "MODIFICATION:",
        "modified_caption:",
        "modified caption:",
        "<|im_end|>",
        "</s>",
        "```",
        "json",
        "{",
    ],
)
def test_what_a_prompt_leaves_in_a_reply_is_a_leak_unless_the_caption_has_it(leak: str) -> None:
    request, modified = "make it blue", CAPTION.replace("red", "blue")
    own = f"{CAPTION} {leak}"
    for parsed in (Parsed(f"{request} {leak}", modified), Parsed(request, f"{modified} {leak}")):
        assert screen(CAPTION, parsed, "stop") == Rejection("prompt_leak")
        assert screen(own.lower(), parsed, "stop") != Rejection("prompt_leak")
    assert screen(own, Parsed(request, f"{modified} {leak.lower()}"), "stop") is None


@pytest.mark.parametrize("text", ["an edited photo", "a caption on a sign", "2 < 3 and 4 > 3", "jsons", "modification"])
def test_what_only_looks_like_a_prompt_is_no_leak(text: str) -> None:
    assert screen(CAPTION, Parsed(text, CAPTION.replace("red", "blue")), "stop") != Rejection("prompt_leak")


@pytest.mark.parametrize(
    ("wanted", "there", "reason"),
    [
        ("a lemon slice", "a lemon", "kept"),  # half of a clause may be missing
        ("a fresh lemon slice in brass", "a fresh lemon", "kept"),
        ("a fresh lemon slice", "a lemon", "unapplied_edit"),
        ("a fresh lemon slice", "a fresh lemon", "kept"),
    ],
)
def test_more_than_half_of_a_request_must_be_there(wanted: str, there: str, reason: str) -> None:
    assert read(CAPTION, f"add {wanted}", f"{CAPTION} and {there}") == reason


@pytest.mark.parametrize(
    ("caption", "modification", "modified_caption"),
    [
        (CAPTION, "make it smaller", "a small red mug with a round handle on a wooden table"),
        (CAPTION, "without the handle", "a large red mug on a wooden table"),
        (CAPTION, "remove the handle", "a large red mug with no handle on a wooden table"),
        (CAPTION, "turn it into a vase", "a large red vase on a wooden table"),
        (
            "A group of people walking down a street with umbrellas.",
            "make it a sunny day and remove the umbrellas",
            "A group of people walking down a street on a sunny day.",
        ),
        (
            "A plate of food with broccoli and rice.",
            "replace the broccoli with carrots",
            "A plate of food with carrots and rice.",
        ),
        (
            "A young boy wearing a red shirt plays baseball in a park.",
            "change his shirt to blue",
            "A young boy wearing a blue shirt plays baseball in a park.",
        ),
        (
            "Two women are talking in a kitchen.",
            "have three women talking instead",
            "Three women are talking in a kitchen.",
        ),
        (
            "A child eating a slice of pizza at a table",
            "instead of pizza, eating cake",
            "A child eating a slice of cake at a table",
        ),
        (
            "Stone & Beam Modern Leather Armchair, Brown",
            "in black with wooden legs",
            "Stone & Beam Modern Leather Armchair, Black, with Wooden Legs",
        ),
        ("A vase of flowers on a table.", "no flowers", "An empty vase on a table."),
    ],
    ids=lambda text: text[:30],
)
def test_edits_of_everyday_captions_are_kept(caption: str, modification: str, modified_caption: str) -> None:
    assert read(caption, modification, modified_caption) == "kept"


def lessons(count: int) -> list[tuple[str, str, str]]:
    rng = random.Random(11)
    captions = [
        language.caption(world.sample(rng, "seen"), language.mentioned(rng), rng.getrandbits(30)) for _ in range(count)
    ]
    return [(caption, *grammar.teach(caption, rng)) for caption in captions]


def test_the_filters_keep_the_teachers_triplets() -> None:
    rows = lessons(500)
    kept = sum(read(*row) == "kept" for row in rows)
    assert kept / len(rows) >= 0.97


def test_the_filters_reject_wrong_triplets_without_knowing_the_grammar() -> None:
    rng = random.Random(12)
    wrong = []
    for caption, modification, modified in lessons(300):
        other = grammar.teach(caption, rng)
        wrong.append((caption, modification, grammar.teach(modified, rng)[1]))  # something else changed as well
        wrong.append((caption, modification, other[1]))  # another edit than asked for
        wrong.append((caption, f"{modification} and {other[0]}", modified))  # half of what was asked for
    wrong = [row for row in wrong if grammar.judge(*row) is not grammar.Verdict.RIGHT]
    assert len(wrong) > 600
    rejected = sum(read(*row) != "kept" for row in wrong)
    assert rejected / len(wrong) >= 0.97


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.text(max_size=120), st.sampled_from(["lines", "json"]))
def test_any_reply_is_a_triplet_or_has_a_reason(caption: str, text: str, style: str) -> None:
    for reply in (text, json.dumps({"modification": text, "modified_caption": caption})):
        result = read_reply(caption, reply, "stop", "json" if style == "json" else "lines")
        assert isinstance(result, Parsed) or result.reason.replace("_", "").isalpha()


def test_two_lines_are_read_as_the_object_is() -> None:
    whole = local_completion("make it blue", CAPTION.replace("red", "blue"))
    assert read_reply(CAPTION, whole, "stop", "lines") == Parsed("make it blue", CAPTION.replace("red", "blue"))
    assert read_reply(CAPTION, whole, "stop", "json") == Rejection("not_json")


def test_case_space_and_marks_at_the_ends_make_no_other_text() -> None:
    assert normalise("  'Stra\u00dfe,\n 2 x\tX-ray lamps!?\" ") == "strasse, 2 x x-ray lamps"
    assert normalise("X Y") == "x y"
