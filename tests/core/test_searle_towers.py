"""Pseudo-tokens in the text towers: as good as a word of the vocabulary, and never taken from a user's text."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from scot_core import encoders
from scot_core.errors import DataError, ScotError, ShapeError
from scot_core.searle import CatalogueTower, ClipTower, PseudoTokenTower, Sentence, query_sentence, text_features
from tests import tiny_clip_text as tiny

F64 = torch.float64


def ids() -> Tensor:
    """Three texts with `$`, the second with two of them, and padding after the end."""
    texts = ["a $ in red", "$ costs 5 $", "we see a $ and much else"]
    return torch.as_tensor(tiny.tokenizer()(texts, padding=True, return_tensors="pt").input_ids)


def words(rows: int = 3, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(rows, tiny.WIDTH, dtype=F64, generator=torch.Generator().manual_seed(1)).to(dtype)


def as_vocabulary(model: Any, row: list[int], word: Tensor) -> Tensor:
    """What the model itself says of a text in which the spare token is the pseudo-token."""
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny.SPARE] = word
        return torch.as_tensor(model(torch.tensor([row])).text_embeds[0])


@pytest.mark.parametrize("eos", [2, tiny.END])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_first_placeholder_of_each_row_becomes_the_pseudo_token(eos: int, attention: str) -> None:
    model = tiny.model(eos, attention, F64)
    own = model.get_input_embeddings().weight[tiny.DOLLAR].expand(3, -1)
    torch.testing.assert_close(text_features(model, ids(), own, tiny.DOLLAR), model(ids()).text_embeds)
    features = text_features(model, ids(), words(), tiny.DOLLAR)
    assert features.shape == (3, tiny.DIM)
    for row, word, feature in zip(ids().tolist(), words(), features, strict=True):
        row[row.index(tiny.DOLLAR)] = tiny.SPARE
        torch.testing.assert_close(feature, as_vocabulary(model, row, word))


def test_it_is_differentiable_in_the_pseudo_tokens() -> None:
    model = tiny.model(dtype=F64).requires_grad_(False)
    pseudo = words().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: text_features(model, ids(), w, tiny.DOLLAR), pseudo)


def test_a_whole_clip_serves_and_bfloat16_is_close() -> None:
    whole = tiny.whole_model()
    own = whole.text_model.embeddings.token_embedding.weight[tiny.DOLLAR].expand(3, -1)
    expected = whole.get_text_features(ids()).pooler_output
    torch.testing.assert_close(text_features(whole, ids(), own, tiny.DOLLAR), expected)
    full = text_features(tiny.model(), ids(), words(dtype=torch.float32), tiny.DOLLAR)
    half = text_features(tiny.model(dtype=torch.bfloat16), ids(), words(dtype=torch.float32), tiny.DOLLAR)
    assert half.dtype == torch.bfloat16
    assert torch.cosine_similarity(half.float(), full).min() > 0.99


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda i, w: (i[:2], w), ShapeError, r"\(2, 16\).*\(3, 16\)"),
        (lambda i, w: (i, w[:, :5]), ShapeError, r"\(3, 5\)"),
        (lambda i, w: (i, w.long()), ShapeError, "int64"),
        (lambda i, w: (i.float(), w), ShapeError, "float32"),
        (lambda i, w: (torch.cat([i, i[:, -1:].expand(-1, 99)], dim=1), w), ShapeError, "77"),
        (lambda i, w: (i.masked_fill(torch.arange(3)[:, None] == 1, tiny.END), w), ScotError, "row 1 "),
    ],
)
def test_what_does_not_fit_is_refused(change: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        input_ids, pseudo_tokens = change(ids(), words(dtype=torch.float32))
        text_features(tiny.model(), input_ids, pseudo_tokens, tiny.DOLLAR)


def clip_ids(sentence: Sentence) -> list[int]:
    """The tokens of a sentence with the spare token for its pseudo-token."""
    pieces = tiny.tokenizer()([sentence.before, sentence.after], add_special_tokens=False).input_ids
    return [tiny.START, *pieces[0], tiny.SPARE, *pieces[1], tiny.END]


def test_a_users_dollar_is_text_to_clip() -> None:
    model = tiny.model(dtype=F64)
    sentences = [query_sentence("costs $ 5, not $ 6"), Sentence("$ for a ", ""), Sentence("", "")]
    features = ClipTower(model, tiny.tokenizer()).features(sentences, words())
    for sentence, word, feature in zip(sentences, words(), features, strict=True):
        row = clip_ids(sentence)
        assert row.count(tiny.SPARE) == 1
        assert row.count(tiny.DOLLAR) == sentence.before.count("$") + sentence.after.count("$")
        torch.testing.assert_close(feature, as_vocabulary(model, row, word))


def test_clip_reads_as_many_tokens_as_it_has_places_for() -> None:
    model = tiny.model(dtype=F64)
    tower = ClipTower(model, tiny.tokenizer())
    long = query_sentence("x " * 100)
    row = clip_ids(long)
    assert len(row) > tiny.LIMIT
    expected = as_vocabulary(model, [*row[: tiny.LIMIT - 1], tiny.END], words()[0])
    torch.testing.assert_close(tower.features([long], words(1))[0], expected)
    with pytest.raises(DataError, match="beyond the 77 tokens"):
        tower.features([Sentence("x " * 75, "")], words(1))
    assert tower.features([Sentence("x " * 74, "y")], words(1)).isfinite().all()


def test_clips_plain_texts_are_its_own() -> None:
    model = tiny.model()
    tower: PseudoTokenTower = ClipTower(model, tiny.tokenizer())
    texts = ["a red mug", "", "a very large and blue mug"]
    for text, feature in zip(texts, tower.texts(texts), strict=True):
        torch.testing.assert_close(
            feature, model(tiny.tokenizer()([text], return_tensors="pt").input_ids).text_embeds[0]
        )
    assert (tower.word_dim, tower.device.type) == (tiny.WIDTH, "cpu")
    assert tower.texts([]).shape == tower.features([], words(0, torch.float32)).shape == (0, tiny.DIM)


def test_the_catalogues_encoder_reads_pseudo_tokens() -> None:
    encoder: Any = encoders.load("catalogue")
    tower: PseudoTokenTower = CatalogueTower(encoder)
    mug = encoder.text.embed_tokens(encoder.tokenise(["mug"]))[0][0, 1]
    sentences = [Sentence("a photo of a ", " that costs $5"), Sentence("$ for a red ", ""), Sentence("", "")]
    features = tower.features(sentences, mug.expand(3, -1))
    torch.testing.assert_close(features, tower.texts([s.with_word("mug") for s in sentences]), rtol=1e-4, atol=1e-5)
    other = tower.features(sentences, torch.randn(3, tower.word_dim))
    assert not torch.isclose(features, other).all(dim=1).any()
    assert tower.features([Sentence("x " * 31, "")], mug[None]).shape == (1, encoder.spec.dim)
    with pytest.raises(DataError, match="beyond the words"):
        tower.features([Sentence("a ", ""), Sentence("x " * 32, "")], mug.expand(2, -1))
    with pytest.raises(ShapeError, match="pseudo-tokens"):
        tower.features(sentences, mug)
    word = mug[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(tower.features(sentences[:1], word).sum(), word)
    assert gradient.abs().sum() > 0
    assert all(parameter.grad is None for parameter in encoder.text.parameters())


def test_importing_the_package_does_not_import_transformers() -> None:
    code = "import sys, scot_core.searle; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
