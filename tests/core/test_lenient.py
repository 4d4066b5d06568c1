"""The lenient filter: edits as people write them pass, edits that were not done do not; and filters as a setting."""

from __future__ import annotations

import pytest

from scot_core.config import GenerateConfig, SeedConfig, profile
from scot_core.triplets import Parsed, Rejection, lenient, read_reply, screen
from scot_core.triplets.edits import fault

KEPT = [  # the strict filter refuses the first group: more, or other words, than were asked for
    ("a pier at sunset", "make it night-time", "a pier at night", False),
    ("a lake-side-hut", "remove the lake", "a side-hut", False),
    ("colourful houses in a blanket of fog", "remove the fog", "colourful houses on a clear day", False),
    ("red-carpet-best-dressed-emma", "Keanu would be better", "red-carpet-best-dressed-keanu", False),
    ("a photo of the falls", "make it in 3D", "3D render of the falls", False),
    ("a girl who loved the sea", "put a hat on her", "a girl, wearing a hat, who loved the sea", False),
    ("a large red mug", "make it blue", "a large blue mug", True),
    ("a dog and a ball", "remove the ball", "a dog", True),
]
REFUSED = [
    ("a red mug", "make it blue", "a green mug", "unapplied_edit"),
    ("a red mug", "make it red", "a red cup", "unapplied_edit"),
    ("a red mug", "make it blue and striped", "a blue mug", "unapplied_edit"),
    ("a dog and a ball", "remove the ball", "a dog and a ball near a tree", "unapplied_edit"),
    ("a red mug", "please", "the red mug", "unapplied_edit"),
    ("a red mug", "make it blue", "a blue lamp with flowers on a chair", "unsupported_edit"),
    ("a small red mug on a table beside a lamp", "make it blue", "a blue mug", "lost_content"),
]


@pytest.mark.parametrize(("caption", "modification", "modified", "strict"), KEPT)
def test_edits_that_people_write_are_kept(caption: str, modification: str, modified: str, strict: bool) -> None:
    assert lenient.fault(caption, modification, modified) is None
    assert (fault(caption, modification, modified) is None) == strict


@pytest.mark.parametrize(("caption", "modification", "modified", "reason"), REFUSED)
def test_edits_that_were_not_done_are_refused(caption: str, modification: str, modified: str, reason: str) -> None:
    assert lenient.fault(caption, modification, modified) == reason


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("night-time", "night", True), ("realism", "photorealistic", False), ("glittery", "glitter", True),
     ("rennaissance", "renaissance", True), ("red", "reddish", False), ("bird", "bard", False), ("cat", "cats", True)],
)  # fmt: skip
def test_words_that_are_alike(a: str, b: str, same: bool) -> None:
    assert lenient.alike(a, b) == lenient.alike(b, a) == same


def test_what_is_kept_grows_from_strict_to_off() -> None:
    caption, off = "a pier at sunset", Parsed("make it blue", "a pier at sunset")
    assert screen(caption, off, "stop", "off") is None
    assert screen(caption, off, "stop", "lenient") == screen(caption, off, "stop") == Rejection("identical")
    assert screen(caption, off, "length", "off") == Rejection("truncated")
    assert read_reply(caption, "make it night-time\na pier at night", "stop", "lines", "lenient") == Parsed(
        "make it night-time", "a pier at night"
    )
    assert isinstance(read_reply(caption, "make it night-time\na pier at night", "stop", "lines"), Rejection)
    assert read_reply(caption, "one line", "stop", "lines", "off") == Rejection("not_two_lines")


def test_another_filter_asks_for_no_other_replies() -> None:
    strict, other = GenerateConfig(), GenerateConfig(filter="off")
    assert strict.identity() == other.identity() and SeedConfig().identity() == SeedConfig(filter="off").identity()
    assert profile("paper").generate.filter == profile("paper").seed.filter == "lenient"
