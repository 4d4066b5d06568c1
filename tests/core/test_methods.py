"""Every way of composing a query, against what it is defined as."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import scot_core.methods
from scot_core.benchmarks.baselines import choose_weight, weighted
from scot_core.combiner import Combiner
from scot_core.config import settings as environment
from scot_core.encoders import load
from scot_core.encoders.spec import embed_requests
from scot_core.errors import ConfigError, ShapeError
from scot_core.methods import METHODS, Examples, Need, Queries, find_methods, method
from scot_core.methods.slerp import slerp
from scot_core.searle import (
    OtiConfig,
    Phi,
    Phrase,
    PseudoTokenTower,
    Sentence,
    concept_vectors,
    invert,
    nearest_concepts,
    phrases_of,
    tower_of,
)
from scot_core.vectors import Vectors
from tests.tiny_encoders import save

T = TypeVar("T")
DIM = 128
ENCODER = load("catalogue")
TEXTS = ("in red instead", "without the badge", "make it striped", "in red instead")

ASKED: Sequence[tuple[str, ...]] = [(text,) for text in TEXTS]


def unit(rows: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


class Lake:
    """What a method may know, without a lake: random weights, and a φ for each seed."""

    seeds = (0, 1)
    oti = OtiConfig(steps=3, concepts=2)

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.weights: dict[str, list[Any]] = {
            "combiners": [Combiner(DIM, 8, 8).eval() for _ in self.seeds],
            "inverters": [Phi(DIM, 16, self.tower.word_dim).eval() for _ in self.seeds],
        }

    @property
    def tower(self) -> PseudoTokenTower:
        return tower_of(ENCODER)

    @property
    def examples(self) -> Examples:
        image, text = unit(40, 3), unit(40, 4)
        target = weighted(image, text, 0.8)
        return Examples(image, text, target, np.concatenate([target, unit(30, 5)]))

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return ENCODER.embed_texts(texts)

    def embed_requests(self, texts: Sequence[str]) -> Vectors:
        return embed_requests(ENCODER, texts, known_words=True)

    def load(self, need: Need, read: Callable[[Path], T]) -> dict[str, T]:
        return {f"seed-{seed}": one for seed, one in zip(self.seeds, self.weights[need.table], strict=True)}

    def phrases(self, need: Need) -> Mapping[str, Sequence[Phrase]]:
        return phrases_of({word: [f"a photo of {word} that is small"] for word in ("mug", "lamp", "bag")})


def queries(modifications: Sequence[tuple[str, ...]] = ASKED) -> Queries:
    images = unit(len(modifications), 1)
    images[-1] = images[0]  # two queries about one image
    ids = [*(f"image-{row}" for row in range(len(images) - 1)), "image-0"]
    return Queries(ids, images, modifications, lambda: ENCODER.embed_texts([" and ".join(m) for m in modifications]))


def test_every_method_of_the_mission_is_there_in_the_order_of_what_it_learns() -> None:
    names = list(METHODS)
    assert {*names[:3]} == {"image-only", "text-only", "image+text"} and {*names[3:6]} == {
        "tuned-sum",
        "tuned-sum-known",
        "slerp",
    }
    assert {*names[6:]} == {"scot", "infonce", "scot-grounded", "searle", "searle-oti", "pic2word", "lincir"}
    with pytest.raises(ConfigError, match="there is no method 'magic'; the methods are image-only"):
        method("magic")
    for file in Path(scot_core.methods.__file__).parent.glob("*.py"):
        assert len(file.read_text().splitlines()) <= 150, file


@pytest.mark.parametrize("name", METHODS)
def test_a_query_vector_is_of_length_one_and_depends_on_its_own_query(name: str) -> None:
    ready = METHODS[name].ready(Lake())
    asked = queries()
    assert len(ready.runs) == (2 if METHODS[name].needs and "weight" not in ready.shown else 1)
    for compose in ready.runs.values():
        together = compose(asked)
        assert together.shape == (4, DIM) and together.dtype == np.float32
        assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
        assert together[0] == pytest.approx(together[3], abs=1e-4), "the same image and text, whatever the row"
        alone = Queries(asked.ids[1:2], asked.images[1:2], asked.modifications[1:2], lambda: asked.texts[1:2])
        assert compose(alone)[0] == pytest.approx(together[1], abs=1e-4)


def test_texts_are_embedded_for_who_looks_at_them() -> None:
    def refuse() -> Vectors:
        raise AssertionError("nobody looks at the texts' embeddings")

    silent = Queries(["a"], unit(1, 1), [("in red",)], refuse)
    for name in ("searle", "searle-oti", "pic2word", "lincir"):
        next(iter(METHODS[name].ready(Lake()).runs.values()))(silent)


def sentence_features(sentences: Sequence[Sentence], words: torch.Tensor) -> torch.Tensor:
    return functional.normalize(tower_of(ENCODER).features(sentences, words), dim=1)


@pytest.mark.parametrize(("name", "between"), [("searle", " that "), ("lincir", " that "), ("pic2word", " , ")])
def test_the_reference_s_pseudo_token_stands_in_the_method_s_sentence(name: str, between: str) -> None:
    lake, asked = Lake(), queries()
    phi = lake.weights["inverters"][1]
    with torch.no_grad():
        words = phi(torch.from_numpy(asked.images))
        expected = sentence_features([Sentence("a photo of ", between + text) for text in TEXTS], words)
    assert METHODS[name].ready(lake).runs["seed-1"](asked) == pytest.approx(expected.numpy(), abs=1e-5)


def test_two_captions_are_asked_in_both_orders() -> None:
    lake, asked = Lake(), queries([("is red.", "has dots"), ("is red.", "has dots")])
    with torch.no_grad():
        words = lake.weights["inverters"][0](torch.from_numpy(asked.images))
        one, other = (
            sentence_features([Sentence("a photo of ", f" that {text}")] * 2, words)
            for text in ("is red and has dots", "has dots and is red")
        )
    expected = functional.normalize(one + other, dim=1).numpy()
    assert METHODS["searle"].ready(lake).runs["seed-0"](asked) == pytest.approx(expected, abs=1e-5)


def test_references_are_inverted_once_each_when_they_are_asked_for() -> None:
    lake, asked = Lake(), queries()
    phrases = lake.phrases(Need("phrases", ""))
    vectors = concept_vectors(lake.embed_texts, list(phrases))
    concepts = nearest_concepts(asked.images[:3], vectors, list(phrases), 2)
    words = invert(lake.tower, asked.ids[:3], torch.from_numpy(asked.images[:3]), concepts, phrases, lake.oti, 1)
    sentences = [Sentence("a photo of ", f" that {text}") for text in TEXTS]
    with torch.no_grad():
        expected = sentence_features(sentences, words[[0, 1, 2, 0]])
    assert METHODS["searle-oti"].ready(lake).runs["seed-1"](asked) == pytest.approx(expected.numpy(), abs=1e-4)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`SCOT_WEIGHTS` with a tiny BLIP and a tiny CLIP."""
    monkeypatch.setenv("SCOT_WEIGHTS", str(tmp_path))
    environment.settings.cache_clear()
    for name in ("blip", "clip-b32"):
        save(name, tmp_path / name)
    yield
    environment.settings.cache_clear()


def test_an_encoder_without_a_tower_for_pseudo_tokens_says_so(weights: None) -> None:
    with pytest.raises(ConfigError, match="encoder blip does not give its text tower to pseudo-tokens"):
        tower_of(load("blip", device="cpu"))
    assert tower_of(load("clip-b32", device="cpu")).word_dim == 32


def test_slerp_by_hand() -> None:
    image, text = np.eye(2, dtype=np.float32)[[0, 0, 0]] * 3, np.array([[0, 5], [1, 0], [-1, 0]], np.float32)
    third = slerp(image[:1], text[:1], 1 / 3)[0]  # of a right angle: 30 degrees
    assert third == pytest.approx([np.sqrt(3) / 2, 0.5])
    assert slerp(image[1:2], text[1:2], 0.4)[0] == pytest.approx([1, 0])
    assert slerp(image[2:], text[2:], 0.25)[0] == pytest.approx([1, 0]), "opposite: the weighted sum"
    with pytest.raises(ConfigError, match=r"in \[0, 1\]"):
        slerp(image, text, 1.5)
    with pytest.raises(ShapeError, match="pairs"):
        slerp(image, text[:1], 0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(0, 1))
def test_slerp_divides_the_angle(seed: int, weight: float) -> None:
    image, text = unit(5, seed), unit(5, seed + 100)
    between = slerp(image, text, weight)
    angles = [np.arccos(np.clip((one * between).sum(axis=1), -1, 1)) for one in (image, text)]
    whole = np.arccos((image * text).sum(axis=1))
    assert angles[0] == pytest.approx(weight * whole, abs=2e-3) and sum(angles) == pytest.approx(whole, abs=2e-3)


def test_weights_are_chosen_on_training_triplets() -> None:
    lake = Lake()
    some = lake.examples
    for name, shown, blend in (("tuned-sum", "image+text", weighted), ("slerp", "slerp", slerp)):
        best = choose_weight(some.image, some.text, some.target, some.gallery, blend)
        ready = METHODS[name].ready(lake)
        assert 0 < best < 1 and ready.shown == f"{shown}, weight {best:.2f}"
        assert ready.runs[""](queries()) == pytest.approx(blend(queries().images, queries().texts, best))


def test_another_method_is_the_file_that_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(scot_core.methods.__file__).parents[2] / "docs" / "methods.md").read_text()
    (tmp_path / "away.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    monkeypatch.setattr(scot_core.methods, "__path__", [*scot_core.methods.__path__, str(tmp_path)])
    found = find_methods()
    assert {*found} == {*METHODS, "away"}
    asked = queries()
    away = found["away"].ready(Lake()).runs[""](asked)
    assert np.linalg.norm(away, axis=1) == pytest.approx(1) and (away * asked.images).sum() < 0
