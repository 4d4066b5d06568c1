"""The world and its language: domains and splits, captions that read back, edits, the judge, the teacher."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.catalogue import world
from scot_core.catalogue.grammar import Verdict, edit, judge, read_caption, read_modification, teach
from scot_core.catalogue.language import WORDS, caption, mentioned, with_article
from scot_core.catalogue.world import ATTRIBUTES, Product, sample, split_of, values
from scot_core.errors import DataError

MUG = Product("mug", "red", "striped", "a round handle", "star", "small", "wood")
SEEDS = st.integers(0, 2**32)


def random_caption(rng: random.Random, split: str | None = None) -> tuple[Product, frozenset[str], str]:
    product, mention = sample(rng, split), mentioned(rng)
    return product, mention, caption(product, mention, rng.getrandbits(30))


# ---------------------------------------------------------------------------------------------- world


def test_the_world_has_72000_products() -> None:
    total = 0
    for product_type in world.TYPES:
        count = 1
        for attribute in ATTRIBUTES[1:]:
            count *= len(values(attribute, product_type))
        total += count
    assert total == 72_000


def test_held_out_pairs_leave_every_value_seen_somewhere() -> None:
    seen = [sample(random.Random(i), "seen") for i in range(600)]
    assert {p.colour for p in seen} == set(world.COLOURS)
    assert {p.pattern for p in seen} == set(world.PATTERNS)
    assert {p.type for p in seen} == set(world.TYPES) - {"dress", "vase"}
    assert len(world.HELD_COLOURS) == 16
    assert len(world.HELD_PATTERNS) == 8


@pytest.mark.parametrize(
    ("product", "split"),
    [
        (MUG, "seen"),
        (MUG.replace(type="vase", detail="two handles"), "type"),
        (Product("t-shirt", "red", "plain", "long sleeves", "none", "large", "grass"), "combination"),
        (Product("t-shirt", "black", "striped", "long sleeves", "none", "large", "grass"), "combination"),
    ],
)
def test_split_of(product: Product, split: str) -> None:
    assert split_of(product) == split


@given(seed=SEEDS, split=st.sampled_from([*world.SPLITS, None]))
@settings(max_examples=60, deadline=None)
def test_sample_stays_in_its_split_and_repeats(seed: int, split: str | None) -> None:
    product = sample(random.Random(seed), split)
    assert split in (None, split_of(product))
    assert product == sample(random.Random(seed), split)


def test_impossible_products_are_refused() -> None:
    with pytest.raises(DataError, match="mug cannot have detail 'ear flaps'; one of a round handle"):
        MUG.replace(detail="ear flaps")
    with pytest.raises(DataError, match="unknown product type 'hat'"):
        MUG.replace(type="hat")
    with pytest.raises(DataError, match="unknown attribute 'weight'"):
        values("weight", "mug")
    with pytest.raises(DataError, match="unknown split 'train'"):
        sample(random.Random(0), "train")


# ------------------------------------------------------------------------------------------- captions


def test_captions_in_full() -> None:
    texts = {caption(MUG, ATTRIBUTES, style) for style in range(400)}
    expected = {
        "a small red striped mug with a round handle and a star badge on a wooden table",
        "a photo of a small striped red cup on wooden boards, with a round handle and a star badge",
        "on a wooden table, a little red stripy mug that has a round handle and a star emblem",
        "this mug is little and red, with a striped pattern, a round handle and a star badge, shown on wooden boards",
        "small red striped cup, with a round handle and a star badge, on a wooden table",
    }
    assert expected <= texts
    assert len(texts) > 100


def test_plain_is_said_before_the_colour() -> None:
    product = MUG.replace(pattern="plain", colour="orange")
    texts = {caption(product, ("type", "colour", "pattern"), style) for style in range(100)}
    assert texts >= {"a plain orange mug", "this mug is orange, with no pattern", "plain orange cup"}
    assert not any("orange plain" in text for text in texts)


def test_articles() -> None:
    assert with_article("orange mug") == "an orange mug"
    texts = {caption(MUG.replace(colour="orange"), ("type", "colour"), style) for style in range(60)}
    assert "an orange mug" in texts
    assert not any("a orange" in text for text in texts)


@given(seed=SEEDS)
@settings(max_examples=200, deadline=None)
def test_captions_read_back(seed: int) -> None:
    product, mention, text = random_caption(random.Random(seed))
    assert read_caption(text) == {a: getattr(product, a) for a in mention}


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_one_style_differs_in_the_changed_words_only(seed: int) -> None:
    rng = random.Random(seed)
    product, style = sample(rng), rng.getrandbits(30)
    other = product.replace(colour=next(c for c in world.COLOURS if c != product.colour))
    mention = set(ATTRIBUTES) - {"background"}  # "on a white background" has a colour's word
    one, two = (caption(p, mention, style) for p in (product, other))
    assert one.replace(product.colour, other.colour).replace("an ", "a ") == two.replace("an ", "a ")


def test_about_a_quarter_is_left_out() -> None:
    rng = random.Random(0)
    mentions = [mentioned(rng) for _ in range(4000)]
    rates = {a: sum(a in m for m in mentions) / len(mentions) for a in ATTRIBUTES}
    for attribute, rate in rates.items():
        assert rate == pytest.approx(0.97 if attribute in ("type", "colour") else 0.75, abs=0.03)


def test_every_word_is_unambiguous() -> None:
    for attribute, words in WORDS.items():
        for value, synonyms in words.items():
            for word in synonyms:
                assert read_caption(f"an item {word}") == {attribute: value}


def test_contradictions_are_marked() -> None:
    assert read_caption("a red mug, blue") == {"type": "mug", "colour": "?"}
    assert read_caption("a credible smuggler, no-red, infrared") == {}


# ---------------------------------------------------------------------------------------------- edits


@given(seed=SEEDS)
@settings(max_examples=200, deadline=None)
def test_an_edit_changes_what_its_text_asks_for(seed: int) -> None:
    rng = random.Random(seed)
    product = sample(rng)
    made = edit(product, rng)
    after = made.product.attributes()
    assert read_modification(made.modification) == {a: after[a] for a in made.changed}
    differing = {a for a in ATTRIBUTES if after[a] != getattr(product, a)}
    assert made.changed <= differing <= made.changed | made.free
    assert 1 <= len(made.changed) <= 2
    assert made.free <= {"detail"}


def test_an_edit_keeps_to_what_is_allowed() -> None:
    rng = random.Random(5)
    for _ in range(50):
        made = edit(MUG, rng, max_changes=1, allowed=lambda p: split_of(p) == "combination")
        assert split_of(made.product) == "combination"
        assert len(made.changed) == 1
    with pytest.raises(DataError, match="no allowed edit"):
        edit(MUG, rng, allowed=lambda p: False)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("make it larger and add a star badge", {"size": "large", "badge": "star"}),
        ("take off the heart", {"badge": "none"}),
        ("replace the star with a heart", {"badge": "heart"}),
        ("Remove the sleeves", {"detail": "sleeveless"}),
        ("is plain and red", {"pattern": "plain", "colour": "red"}),
        ("the same design on a t-shirt", {"type": "t-shirt"}),
        ("place it on a green lawn", {"background": "grass"}),
        ("make it red and make it blue", {"colour": "?"}),
        ("surprise me", {}),
    ],
)
def test_modifications_read(text: str, asked: dict[str, str]) -> None:
    assert read_modification(text) == asked


# ---------------------------------------------------------------------------------------------- judge


@pytest.mark.parametrize(
    ("before", "modification", "after", "verdict"),
    [
        ("a red mug", "make it blue", "a blue mug", "right"),
        ("a red mug", "make it blue", "a blue cup", "right"),  # a synonym changes nothing
        ("a red mug", "add a star badge", "a red mug with a star badge", "right"),
        ("a red mug with a star badge", "remove the star", "a red mug", "right"),
        ("a red striped mug", "remove the pattern", "a plain red mug", "right"),
        ("a red mug with no handle", "turn it into a beanie", "a red beanie", "right"),
        ("a red tee with long sleeves", "make it a dress", "a red dress with long sleeves", "right"),
        ("a red mug", "surprise me", "a blue mug", "no_edit"),
        ("a red mug", "make it red", "a red cup", "no_edit"),
        ("a red mug", "make it red", "a red mug", "no_edit"),
        ("a red mug", "make it blue", "a red mug", "identical"),
        ("a red mug", "make it blue", " A red  mug", "identical"),
        ("a red mug", "make it blue", "a green mug", "not_applied"),
        ("a red mug", "make it blue", "a mug", "not_applied"),
        ("a red mug", "make it blue", "a red cup", "not_applied"),
        ("a red mug", "make it blue and green", "a blue and green mug", "not_applied"),
        ("a red mug", "make it blue and add a star badge", "a blue mug", "not_applied"),
        ("a red mug", "make it blue", "a blue vase", "collateral"),
        ("a red mug", "make it blue", "a blue mug with a star badge", "collateral"),
        ("a red mug on the grass", "make it blue", "a blue mug", "collateral"),
        ("a red mug with no badge", "make it blue", "a blue mug", "collateral"),
        ("a red mug with no handle", "turn it into a beanie", "a red beanie with no handle", "collateral"),
        ("a red mug with no handle", "turn it into a beanie", "a red beanie with ear flaps", "collateral"),
        ("a red tee with long sleeves", "make it a dress", "a red dress", "collateral"),
    ],
)
def test_judge(before: str, modification: str, after: str, verdict: str) -> None:
    assert judge(before, modification, after) == verdict


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "red", "blue", "mug", "gown", "no badge", "the", "star", "?", "", "é"])),
        min_size=3,
        max_size=3,
    )
)
@settings(max_examples=100, deadline=None)
def test_judge_takes_any_text(texts: list[list[str]]) -> None:
    before, modification, after = map(" ".join, texts)
    assert judge(before, modification, after) in Verdict


# -------------------------------------------------------------------------------------------- teacher


def test_the_teacher_is_always_right() -> None:
    rng = random.Random(8)
    for _ in range(2000):
        _, _, text = random_caption(rng)
        modification, modified = teach(text, rng)
        assert judge(text, modification, modified) == Verdict.RIGHT, (text, modification, modified)
        assert not any(wrong in f" {modified} " for wrong in (" a orange", " a item", " an r", "  ", " ,"))
        teach(modified, rng)  # what it writes, it can read


def test_the_teacher_keeps_the_wording() -> None:
    text = "a photo of a small striped red cup on wooden boards, with a round handle and a star emblem"
    rng = random.Random(0)
    written = {teach(text, rng)[1] for _ in range(2000)}
    assert text.replace("red", "blue") in written
    assert text.replace("a star", "a heart") in written
    assert text.replace("a star emblem", "no emblem") in written
    assert text.replace("small", "large") in written
    assert "a photo of a small striped red backpack on wooden boards, with a star emblem" in written


def test_the_teacher_inserts_what_was_not_mentioned() -> None:
    rng = random.Random(0)
    written = {teach("a red mug", rng) for _ in range(2500)}
    assert ("add a star badge", "a red mug with a star badge") in written
    assert ("show it on a wooden table", "a red mug on a wooden table") in written
    assert ("make it larger", "a large red mug") in written
    assert ("make it orange", "an orange mug") in written
    assert not any("remove" in modification for modification, _ in written)


def test_the_teacher_stays_out_of_what_is_held_out() -> None:
    rng = random.Random(2)
    for _ in range(1500):
        _, _, text = random_caption(rng, "seen")
        told = read_caption(teach(text, rng)[1])
        assert told.get("type") not in world.HELD_TYPES
        assert not world.is_held(told.get("type"), told.get("colour"), told.get("pattern"))


@pytest.mark.parametrize(
    "text", ["", "a dog runs on the beach", "a red red mug", "a mug red", "a red mug and a blue lamp", "red " * 1200]
)
def test_the_teacher_refuses_what_it_cannot_read(text: str) -> None:
    with pytest.raises(DataError, match="cannot read the caption"):
        teach(text, random.Random(0))
