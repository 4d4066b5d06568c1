"""Textual inversion: against AdamW by hand, and what it must not depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scot_core import encoders
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.searle import (
    TEMPLATES,
    CatalogueTower,
    ClipTower,
    OtiConfig,
    Phrase,
    PseudoTokenTower,
    Sentence,
    invert,
    phrases_of,
)
from tests import tiny_clip_text as tiny

W, D = 5, 4
CONCEPTS = ("mug", "hat")
PHRASES = phrases_of({name: [f"a photo of {name} that is {end}" for end in ("red", "$5", "new")] for name in CONCEPTS})
SHORT = OtiConfig(steps=40)
IDS = ("a.jpg", "b.jpg", "c.jpg")


class Linear:
    """A tower whose features are M w whatever the sentence, and one fixed vector for every plain text."""

    word_dim = W
    device = torch.device("cpu")
    matrix, plain = (torch.from_numpy(np.random.default_rng(3).normal(size=size)) for size in ((D, W), (D,)))

    def features(self, sentences: Sequence[Sentence], words: Tensor) -> Tensor:
        return words @ self.matrix.T

    def texts(self, texts: Sequence[str]) -> Tensor:
        return self.plain.expand(len(texts), -1)


def images(rows: int = 3, dim: int = D) -> Tensor:
    return torch.randn(rows, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def run(
    config: OtiConfig,
    tower: Any = None,
    ids: Sequence[str] = IDS,
    image: Tensor | None = None,
    phrases: Mapping[str, Sequence[Phrase]] = PHRASES,
    seed: int = 0,
) -> Tensor:
    image = images() if image is None else image
    return invert(tower or Linear(), ids, image, [CONCEPTS] * len(ids), phrases, config, seed)


def clip() -> ClipTower:
    return ClipTower(tiny.model(), tiny.tokenizer())


def first_words(config: OtiConfig) -> np.ndarray:
    """Where inversion begins: what it gives after one step that goes nowhere."""
    return run(replace(config, steps=1, learning_rate=1e-30)).numpy()


def cosine_gradient(feature: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of 1 - cos(feature, target) in the feature."""
    length, other = np.linalg.norm(feature), np.linalg.norm(target)
    return np.asarray((feature @ target / length**2 * feature - target) / (length * other))


@pytest.mark.parametrize("lambda_gpt", [0.5, 0.0])
def test_it_is_adamw_on_both_losses_and_keeps_the_moving_average(lambda_gpt: float) -> None:
    config = OtiConfig(lambda_gpt=lambda_gpt)
    matrix, plain = Linear.matrix.numpy(), Linear.plain.numpy()
    expected = []
    for word, image in zip(first_words(config), images().numpy(), strict=True):
        average, moment, square = word.copy(), np.zeros(W), np.zeros(W)
        for step in range(1, 351):
            feature = matrix @ word
            toward = cosine_gradient(feature, image) + lambda_gpt * cosine_gradient(feature, plain)
            gradient = matrix.T @ toward / (1 + lambda_gpt)
            moment, square = 0.9 * moment + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
            update = (moment / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
            word = word * (1 - 0.02 * 0.01) - 0.02 * update
            average = 0.99 * average + 0.01 * word
        expected.append(average)
    np.testing.assert_allclose(run(config).numpy(), expected, rtol=1e-6, atol=1e-8)


def test_it_begins_with_small_normal_words_of_each_images_own() -> None:
    config = OtiConfig(steps=1, learning_rate=1e-30)
    many = [f"{i}.jpg" for i in range(400)]
    first = run(config, ids=many, image=images(400))
    assert abs(float(first.std()) - 0.02) < 0.001
    assert abs(float(first.mean())) < 0.002
    assert len({tuple(row) for row in first.tolist()}) == 400
    assert not torch.isclose(first, run(config, ids=many, image=images(400), seed=1)).all(dim=1).any()


def distance(tower: PseudoTokenTower, words: Tensor, image: Tensor) -> Tensor:
    """L_cos of each image, the mean over all templates: that of a single step hangs on the template drawn."""
    each = [1 - torch.cosine_similarity(tower.features([t] * len(words), words), image) for t in TEMPLATES]
    return torch.stack(each).mean(dim=0)


def test_the_loss_falls_and_clips_words_say_what_hidden_words_said() -> None:
    tower, hidden = clip(), torch.randn(3, tiny.WIDTH, generator=torch.Generator().manual_seed(4))
    said = [functional.normalize(tower.features([t] * 3, hidden), dim=1) for t in TEMPLATES]
    image = torch.stack(said).mean(dim=0)
    config = OtiConfig(steps=75, ema_decay=0.9)
    heard: list[int] = []
    found = invert(tower, IDS, image, [CONCEPTS] * 3, PHRASES, config, 0, lambda step, _: heard.append(step))
    assert heard == [10, 20, 30, 40, 50, 60, 70, 75]
    first = run(replace(config, steps=1, learning_rate=1e-30), tower, image=image)
    assert (distance(tower, found, image) < 0.85 * distance(tower, first, image)).all()


def test_the_catalogues_words_come_to_say_its_images() -> None:
    encoder: Any = encoders.load("catalogue")
    tower = CatalogueTower(encoder)
    image = torch.from_numpy(encoder.embed_texts(["a red mug", "a small blue hat", "two green chairs"]))
    found, first = (run(replace(SHORT, learning_rate=rate), tower, image=image) for rate in (0.02, 1e-30))
    assert (distance(tower, found, image) < 0.6 * distance(tower, first, image)).all()


def test_an_image_has_the_same_word_in_any_batch() -> None:
    tower, image = clip(), images(3, tiny.DIM).float()
    together = run(SHORT, tower, image=image)
    assert together.dtype == torch.float32
    alone = torch.cat([run(SHORT, tower, IDS[i : i + 1], image[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
    backwards = run(SHORT, tower, IDS[::-1], image.flip(0)).flip(0)
    torch.testing.assert_close(together, backwards, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together, run(SHORT, tower, image=image, seed=1), atol=0.05)
    assert run(SHORT, tower, (), image[:0]).shape == (0, tiny.WIDTH)


def test_features_from_inference_mode_and_in_bfloat16_are_taken() -> None:
    with torch.inference_mode():
        image = images(3, tiny.DIM).float()
    tower = clip()
    assert run(SHORT, tower, image=image).isfinite().all()
    found = run(SHORT, ClipTower(tiny.model(dtype=torch.bfloat16), tiny.tokenizer()), image=image.bfloat16())
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_without_l_gpt_no_phrase_is_needed() -> None:
    assert run(OtiConfig(steps=2, lambda_gpt=0.0), phrases={}).shape == (3, W)
    with pytest.raises(DataError, match=r"a\.jpg has no phrase.*mug, hat"):
        run(SHORT, phrases={})
    with pytest.raises(DataError, match="for its concepts mug"):  # the second nearest is beyond the limit
        run(replace(SHORT, concepts=1), phrases={"hat": PHRASES["hat"]})


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="3 ids"):
        run(SHORT, image=images(2))
    with pytest.raises(DataError, match=r"b\.jpg is not finite"):
        run(SHORT, image=images().index_fill(0, torch.tensor([1]), torch.nan))
    for change in ({"steps": 0}, {"learning_rate": 0.0}, {"lambda_gpt": -1.0}, {"ema_decay": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(change))):
            OtiConfig(**change)
