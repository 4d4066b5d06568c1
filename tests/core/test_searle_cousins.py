"""Pic2Word and LinCIR: what they learn from, by hand and on a random CLIP, and that their queries beat chance."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scot_core.catalogue.drawing import render
from scot_core.catalogue.language import caption
from scot_core.catalogue.world import ATTRIBUTES, sample
from scot_core.encoders import load
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.searle import (
    ClipTower,
    LincirConfig,
    Phi,
    Schedule,
    Sentence,
    query_sentence,
    tower_of,
    train_lincir,
    train_pic2word,
)
from scot_core.searle.lincir import without_keywords
from scot_core.searle.pic2word import contrast
from tests import tiny_clip_text as tiny

SCHEDULE = Schedule(steps=100, batch_size=16, learning_rate=3e-3, dropout=0.1, checkpoint_every=40)
COLOURS, THINGS = ("red", "green", "blue", "pink", "grey", "teal"), ("mug", "hat", "bag", "lamp")
CAPTIONS = [f"a {colour} {thing} on the table" for colour in COLOURS for thing in THINGS]


def tower() -> ClipTower:
    return ClipTower(tiny.model(), tiny.tokenizer())


def images() -> Tensor:
    """What an image encoder in the same space would give: texts' features, a little off, of length sqrt(D)."""
    features = tower().texts(CAPTIONS)
    noise = 0.05 * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    return functional.normalize(functional.normalize(features, dim=1) + noise, dim=1) * math.sqrt(tiny.DIM)


def found(phi: Phi) -> float:
    """Share of images that "a photo of $" finds first among all."""
    shown = images()
    with torch.no_grad():
        asked = tower().features([Sentence.parse("a photo of $")] * len(shown), phi(shown))
    nearest = (functional.normalize(asked, dim=1) @ shown.T).argmax(dim=1)
    return float((nearest == torch.arange(len(shown))).float().mean())


def test_pic2word_learns_and_its_sentences_find_their_images(tmp_path: Path) -> None:
    trained = train_pic2word(tower(), images(), SCHEDULE, 0, tmp_path)
    assert trained.curve[-1][1] < 0.7 * trained.curve[0][1]
    assert found(trained.phi) > 5 / len(CAPTIONS)


def test_lincir_learns_from_captions_and_its_sentences_find_images_it_never_saw(tmp_path: Path) -> None:
    """On the shipped encoder: a random one gives a pseudo-token no meaning that outlives its sentence."""
    encoder, rng = load("catalogue"), random.Random(0)
    texts = [caption(sample(rng), ATTRIBUTES, number) for number in range(200)]
    schedule = Schedule(steps=60, batch_size=64, learning_rate=2e-3, dropout=0.1)
    trained = train_lincir(tower_of(encoder), texts, LincirConfig(noise=0.5), schedule, 0, tmp_path)
    assert trained.curve[-1][1] < 0.7 * trained.curve[0][1]
    shown = torch.from_numpy(encoder.embed_images([render(sample(rng), 64, number) for number in range(50)]))
    with torch.no_grad():
        words = trained.phi(shown * math.sqrt(shown.shape[1]))
        asked = tower_of(encoder).features([Sentence.parse("a photo of $")] * len(shown), words)
    nearest = (functional.normalize(asked, dim=1) @ shown.T).argmax(dim=1)
    assert float((nearest == torch.arange(len(shown))).float().mean()) > 5 / len(shown)


def test_the_contrast_by_hand() -> None:
    sentences = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    shown = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    logits = [[1.0, 0.0], [0.6, 0.8]]  # of images over sentences
    rows = [math.log(math.exp(a) + math.exp(b)) for a, b in logits]
    columns = [math.log(math.exp(a) + math.exp(b)) for a, b in zip(*logits, strict=True)]
    expected = (sum(rows) + sum(columns)) / 4 - (1.0 + 0.8) / 2
    assert float(contrast(sentences, shown, 1.0)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", ["pic2word", "lincir"])
def test_a_stopped_training_ends_like_one_that_was_not(tmp_path: Path, method: str) -> None:
    schedule = Schedule(steps=30, batch_size=8, learning_rate=1e-3, checkpoint_every=10)

    def run(work: Path, stop: int | None = None) -> Phi:
        def on_step(step: int, _: float) -> None:
            if stop is not None and step >= stop:
                raise KeyboardInterrupt

        if method == "pic2word":
            return train_pic2word(tower(), images(), schedule, 1, work, on_step).phi
        return train_lincir(tower(), CAPTIONS, LincirConfig(), schedule, 1, work, on_step).phi

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "work", 20)
    pairs = zip(run(tmp_path / "work").parameters(), whole.parameters(), strict=True)
    assert all(torch.allclose(one, other, rtol=1e-3, atol=1e-4) for one, other in pairs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red mug on the table", "$ on $"),
        ("on white, a tee that has no badge", "on $, $ that has no $"),
        ("mug", "$"),
        ("in the $5 of it", "in $ $$ of it"),
        ("of it", "a photo of $"),
        ("", "a photo of $"),
        ("t-shirts and dogs' toys!", "$ and $' $!"),
    ],
)
def test_runs_of_keywords_are_replaced(text: str, expected: str) -> None:
    assert without_keywords(text).with_word("$") == expected


def test_a_pseudo_token_may_stand_in_several_places() -> None:
    """With the embedding of an ordinary word, the features are those of the sentence that says it."""
    model, words = tiny.model(), tiny.tokenizer()
    both = ClipTower(model, words)
    letter = words("x", add_special_tokens=False).input_ids
    word = model.text_model.embeddings.token_embedding.weight[letter].detach()
    sentence = Sentence("a ", " of ", (" and ", " <|startoftext|> "))
    said = both.texts([sentence.with_word("x")])
    assert torch.allclose(both.features([sentence], word), said, atol=1e-5)
    long = Sentence("", " a" * 40 + " ", (" b" * 60 + " ", " c"))  # the last place is beyond what is read
    assert torch.allclose(both.features([long], word), both.texts([long.with_word("x")]), atol=1e-5)
    assert query_sentence("in $").parts == ("a photo of ", " that in $")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to contrast"):
        train_pic2word(tower(), images()[:1], SCHEDULE, 0, tmp_path)
    with pytest.raises(ShapeError):
        train_pic2word(tower(), images()[0], SCHEDULE, 0, tmp_path)
    with pytest.raises(ConfigError, match="temperature"):
        train_pic2word(tower(), images(), SCHEDULE, 0, tmp_path, temperature=0.0)
    with pytest.raises(DataError, match="no caption"):
        train_lincir(tower(), [], LincirConfig(), SCHEDULE, 0, tmp_path)
    with pytest.raises(ConfigError, match="noise"):
        LincirConfig(noise=-1.0)
    with pytest.raises(ConfigError, match="steps"):
        Schedule(steps=0)
