"""Sentences from parts, phrases about concepts, the concepts of an image, and composed queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from scot_core.errors import DataError, ShapeError
from scot_core.searle import (
    TEMPLATES,
    ClipTower,
    Sentence,
    clean_phrase,
    compose,
    compose_both_orders,
    concept_vectors,
    nearest_concepts,
    phrase_prompt,
    phrases_of,
    query_sentence,
    vocabulary,
)
from tests import tiny_clip_text as tiny


def test_a_sentence_has_exactly_one_pseudo_token() -> None:
    assert Sentence.parse("a $ photo") == Sentence("a ", " photo")
    for text in ("a photo", "", "$ and $"):
        with pytest.raises(DataError, match="once"):
            Sentence.parse(text)
    assert len(set(TEMPLATES)) == 24


@settings(deadline=None)
@given(st.text())
def test_a_users_dollar_stays_text(modification: str) -> None:
    sentence = query_sentence(modification)
    assert sentence.before == "a photo of "
    assert sentence.with_word("mug") == f"a photo of mug that {modification}"


def test_the_concept_of_a_phrase_is_found_where_it_is_meant() -> None:
    written = {
        "photo": ["a photo of photo that shows a photo", "nothing of the kind"],
        "hot": ["a photo that is Hot, hot"],
        "cat": ["a photo of cats that run", "concatenation"],
        "$": ["a photo of $ that costs $5"],
    }
    phrases = phrases_of(written)
    assert set(phrases) == {"photo", "hot", "$"}
    (photo,), (hot,), (dollar,) = phrases["photo"], phrases["hot"], phrases["$"]
    assert (photo.sentence, photo.word) == (Sentence("a photo of ", " that shows a photo"), "photo")
    assert (hot.sentence, hot.word) == (Sentence("a photo that is ", ", hot"), "Hot")
    assert dollar.sentence == Sentence("a photo of ", " that costs $5")
    assert [phrase.text for phrase in (photo, hot, dollar)] == [written[name][0] for name in ("photo", "hot", "$")]
    assert phrase_prompt("a cat") == "a photo of a cat that"
    assert clean_phrase("a cat that\n\nruns... far") == "a cat that. runs. far"


def test_concepts_are_ranked_by_the_mean_of_their_templates() -> None:
    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0 + text.count("a"), 1.0 + text.count("b"), 1.0 + len(text)] for text in texts])

    names = vocabulary([" b", "aa", "b ", "", "ab"])
    assert names == ("b", "aa", "ab")
    templates = [Sentence.parse(text) for text in ("$", "b $ b")]
    vectors = concept_vectors(embed, names, templates)
    raw = [embed([t.with_word(name) for t in templates]) for name in names]
    means = np.array([(r / np.linalg.norm(r, axis=1, keepdims=True)).mean(axis=0) for r in raw])
    np.testing.assert_allclose(vectors, means / np.linalg.norm(means, axis=1, keepdims=True), rtol=1e-6)
    assert vectors.dtype == np.float32
    assert concept_vectors(embed, ["x"] * 300).shape == (300, 3)
    with pytest.raises(DataError):
        concept_vectors(embed, [])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 99))
def test_the_nearest_concepts_are_those_of_a_full_sort(k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = generator.integers(-2, 3, (5, 2)).astype(np.float32)  # small whole numbers: there are ties
    vectors = generator.normal(size=(7, 2)).astype(np.float32)
    names = [f"c{i}" for i in range(7)]
    for image, found in zip(images, nearest_concepts(images, vectors, names, k), strict=True):
        assert len(set(found)) == min(k, 7)
        scores = vectors @ image
        np.testing.assert_allclose([scores[names.index(n)] for n in found], np.sort(scores)[::-1][:k], atol=1e-6)
    with pytest.raises(ShapeError, match="do not fit"):
        nearest_concepts(images, vectors, names[:6])


def words(rows: int) -> Tensor:
    return torch.randn(rows, tiny.WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_queries_are_normalised_and_fashioniqs_average_both_orders() -> None:
    tower = ClipTower(tiny.model(dtype=torch.float64), tiny.tokenizer())
    captions = [("is red.", "has a $5 tag"), ("", "is, longer? ")]
    sentences = [
        ("is red and has a $5 tag", "has a $5 tag and is red"),
        (" and is, longer", "is, longer and "),
    ]
    expected = []
    for word, orders in zip(words(2), sentences, strict=True):
        vectors = [tower.features([query_sentence(order)], word[None])[0] for order in orders]
        first, second = (vector / vector.norm() for vector in vectors)
        torch.testing.assert_close(compose(tower, word[None], orders[:1])[0], first)
        expected.append((first + second) / (first + second).norm())
    torch.testing.assert_close(compose_both_orders(tower, words(2), captions), torch.stack(expected))
    many = compose(tower, words(300), ["is red"] * 300)
    torch.testing.assert_close(many[299], functional.normalize(many[299], dim=0))
    torch.testing.assert_close(many[299], compose(tower, words(300)[299:], ["is red"])[0])
    assert compose(tower, words(0), []).shape == (0, tiny.DIM)
    with pytest.raises(ShapeError, match="pairs"):
        compose(tower, words(2), ["one"])


def test_bfloat16_towers_give_float32_queries() -> None:
    half = ClipTower(tiny.model(dtype=torch.bfloat16), tiny.tokenizer())
    full = ClipTower(tiny.model(), tiny.tokenizer())
    one, other = (compose(tower, words(2), ["is red", "costs $5"]) for tower in (half, full))
    assert one.dtype == torch.float32
    assert (one * other).sum(dim=1).min() > 0.99
