"""The tables of `make emoji`, from a handful of emoji: what Unicode's structure says is exact, and only that."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from PIL import Image

from deployments import emoji

ANNOTATED = {
    "1F468-200D-2696-FE0F": ("people-body", "man judge"),
    "1F469-200D-2696-FE0F": ("people-body", "woman judge"),
    "1F469-1F3FB-200D-2696-FE0F": ("people-body", "woman judge: light skin tone"),
    "1F469-1F3FF-200D-2696-FE0F": ("people-body", "woman judge: dark skin tone"),
    "2764-FE0F": ("smileys-emotion", "red heart"),
    "1F499": ("smileys-emotion", "blue heart"),
    "1F494": ("smileys-emotion", "broken heart"),
    "1F1F9-1F1F3": ("flags", "flag: Tunisia"),
}


@pytest.fixture
def found(tmp_path: Path) -> list[emoji.Emoji]:
    """As the packages lay them: Noto lacks one picture, and writes no FE0F in another."""
    modules = tmp_path / "node_modules"
    for rendering, (place, ending) in emoji.RENDERINGS.items():
        (modules / place).mkdir(parents=True)
        for code in ANNOTATED:
            if (rendering, code) != ("noto", "1F494"):
                name = code.lower() if rendering == "fluent" else code.lower().replace("-fe0f", "")
                Image.new("RGB", (8, 8), "red").save(modules / place / f"{name}{ending}")
    rows = [
        {"hexcode": code, "group": group, "subgroups": "", "annotation": said}
        for code, (group, said) in ANNOTATED.items()
    ]
    (modules / emoji.ANNOTATIONS).parent.mkdir(parents=True)
    (modules / emoji.ANNOTATIONS).write_text(json.dumps([*rows, {**rows[0], "hexcode": "1F9FF", "annotation": "no"}]))
    return emoji.read(modules, tmp_path / "emoji")


def test_pictures_are_joined_by_code_point_and_tones_are_said_as_people_say_them(
    found: list[emoji.Emoji], tmp_path: Path
) -> None:
    captions = {each.caption: each.pictures for each in found}
    assert "woman judge with light skin tone" in captions and "flag: Tunisia" in captions and "no" not in captions
    assert captions["red heart"] == ("fluent/2764-fe0f.webp", "noto/2764.png")
    assert captions["broken heart"] == ("fluent/1f494.webp",)
    assert all((tmp_path / "emoji" / picture).is_file() for pictures in captions.values() for picture in pictures)


def test_pairs_differ_in_what_their_kind_says(found: list[emoji.Emoji]) -> None:
    pairs = emoji.pairs_of(found, random.Random(0))
    asked = {kind: {(a.caption, b.caption) for a, b, _ in some} for kind, some in pairs.items()}
    light, dark = (f"woman judge with {tone} skin tone" for tone in ("light", "dark"))
    assert asked["tone"] == {(light, dark), (dark, light)}
    assert asked["gender"] == {("man judge", "woman judge"), ("woman judge", "man judge")}
    assert asked["colour"] == {("red heart", "blue heart"), ("blue heart", "red heart")}
    assert ("broken heart", "red heart") in asked["other"] and not asked["other"] & asked["colour"]
    assert all("dark" in text for a, b, text in pairs["tone"] if b.caption == dark)
