"""Loss `scot-grounded`: where its vectors lie, where it starts, what it draws, and how it is found in a lake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from scot_core.benchmarks.baselines import weighted
from scot_core.combiner import Combiner
from scot_core.config import TrainConfig
from scot_core.grounding import grounded, lead_loss, modality_gap, moved, start_as_sum, tuned_weight
from scot_core.losses import scot_loss
from scot_core.retrieval import top_k
from scot_core.train import train_combiner
from scot_core.training_set import Gathered, TrainingSet
from scot_core.triplets.rewording import reworded

DIM = 8
CONFIG = TrainConfig(
    loss="scot-grounded", projection_dim=16, hidden_dim=16, steps=25, batch_size=16, checkpoint_every=4, dropout=0.3
)


def _unit(rows: int, seed: int) -> Tensor:
    return functional.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)))


def _data(rows: int = 40) -> TrainingSet:
    image, caption, modification = (_unit(rows, seed) for seed in range(3))
    target = functional.normalize(image + modification)
    return TrainingSet(image, caption, modification, target, rewordings=(_unit(rows, 3), _unit(rows, 4)))


DATA = _data()
PLAIN = CONFIG.model_copy(update={"gap": 0.0, "start": "random", "moved_captions": 0.0, "rewordings": 0, "lead": 0.0})


def _interrupt(step: int, _: float) -> None:
    if step >= 20:
        raise KeyboardInterrupt


def test_the_gap_is_the_difference_of_the_means() -> None:
    image, caption = DATA.image[:].double(), DATA.caption[:].double()
    expected = image.mean(0) - caption.mean(0)
    torch.testing.assert_close(modality_gap(DATA).double(), expected, rtol=0, atol=1e-7)
    there = moved(caption, expected)
    assert torch.allclose(there.norm(dim=1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(there[3], (caption[3] + expected) / (caption[3] + expected).norm())


def test_an_image_counts_as_often_as_triplets_have_it() -> None:
    rows = torch.tensor([0, 0, 0, 1])
    data = TrainingSet(
        Gathered(DATA.image[:2], rows), *(Gathered(_unit(4, seed), torch.arange(4)) for seed in (5, 6, 7))
    )
    expected = DATA.image[:2].double()[rows].mean(0) - _unit(4, 5).double().mean(0)
    torch.testing.assert_close(modality_gap(data).double(), expected, rtol=0, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(weight=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_a_combiner_that_starts_as_the_sum_is_the_sum(weight: float, seed: int) -> None:
    torch.manual_seed(seed)
    combiner = Combiner(DIM, 16, 16).double().eval()
    start_as_sum(combiner, weight)
    image, text = _unit(9, seed).double(), _unit(9, seed + 100).double()
    composed = combiner(image, text).detach().numpy()
    assert combiner.modality_weight(image, text).detach().numpy() == pytest.approx(weight, abs=1e-12)
    expected = functional.normalize(weight * text + (1 - weight) * image).numpy()
    assert composed == pytest.approx(expected, abs=1e-12)
    gallery = _unit(30, seed + 200).double()
    assert np.array_equal(np.argsort(composed @ gallery.numpy().T), np.argsort(expected @ gallery.numpy().T))


def test_before_it_learns_it_finds_what_the_tuned_sum_finds(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 1, "learning_rate": 1e-30})
    trained = train_combiner(DATA, config, 0, tmp_path).combiner
    queries, gallery = (_unit(20, 8), _unit(20, 9)), _unit(200, 10)
    with torch.inference_mode():
        found = top_k(trained(*queries), gallery, 10)[1]
    tuned = weighted(queries[0].numpy(), queries[1].numpy(), tuned_weight(DATA))
    assert np.array_equal(np.asarray(found), np.asarray(top_k(tuned, gallery.numpy(), 10)[1]))


def test_without_its_parts_it_is_the_paper_s(tmp_path: Path) -> None:
    literal = CONFIG.model_copy(update={"loss": "scot"})
    curves = [train_combiner(DATA, config, 3, tmp_path / config.loss).curve for config in (literal,)]
    data = replace(DATA, rewordings=())
    plain = train_combiner(data, PLAIN.model_copy(update={"dropout": 0.0}), 3, tmp_path / "plain").curve
    paper = train_combiner(data, literal.model_copy(update={"dropout": 0.0}), 3, tmp_path / "paper").curve
    assert [loss for _, loss in plain] == pytest.approx([loss for _, loss in paper], rel=1e-4)
    assert curves[0] != paper


def test_the_texts_that_stand_for_images_are_moved_as_far_as_is_asked() -> None:
    rows, gap = torch.tensor([4, 7, 1]), modality_gap(DATA)
    config = PLAIN.model_copy(update={"gap": 0.5})
    image, text, target, caption = grounded(replace(DATA, rewordings=()), config)(rows)
    torch.testing.assert_close(image, DATA.image[rows])
    torch.testing.assert_close(text, DATA.modification[rows])
    torch.testing.assert_close(target, moved(DATA.modified_caption[rows], 0.5 * gap))
    torch.testing.assert_close(caption, moved(DATA.caption[rows], 0.5 * gap))
    value = scot_loss(text, target, caption)
    assert torch.isfinite(value)


def test_a_share_of_the_references_are_captions_and_every_wording_is_drawn() -> None:
    rows = torch.arange(40).repeat(50)
    torch.manual_seed(0)
    image, text, _, _ = grounded(DATA, CONFIG)(rows)
    captions = moved(DATA.caption[rows], modality_gap(DATA))
    as_caption = (image == captions).all(1)
    assert ((image == DATA.image[rows]).all(1) ^ as_caption).all()
    assert float(as_caption.float().mean()) == pytest.approx(CONFIG.moved_captions, abs=0.04)
    ways = (DATA.modification, *DATA.rewordings)
    drawn = torch.stack([(text == way[rows]).all(1) for way in ways])
    assert drawn.sum(0).eq(1).all()
    assert drawn.float().mean(1).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)


def test_the_lead_by_hand() -> None:
    composed = torch.eye(3, dtype=torch.float64)[[0, 0, 0]]
    angle = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)  # of the target, and below of reference and caption
    target = torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1)
    image = torch.tensor([[0.0, 1, 0], [0.8, 0.6, 0], [0, 0, 1]], dtype=torch.float64)
    caption = torch.tensor([[0.6, 0, 0.8], [0, 1, 0], [0.6, 0.8, 0]], dtype=torch.float64)
    short = [max(0.0, 0.2 + start - float(angle[row].cos())) for row, start in enumerate((0.6, 0.8, 0.6))]
    assert short[0] == 0 and short[1] > 0 and short[2] > 0
    assert float(lead_loss(composed, image, target, caption, 0.2)) == pytest.approx(4 * sum(short) / 3, abs=1e-12)


def test_a_combiner_tells_how_requests_are_read(tmp_path: Path) -> None:
    for known_words in (True, False):
        combiner = Combiner(DIM, 4, 4)
        combiner.known_words = known_words
        combiner.save(tmp_path / str(known_words))
        assert Combiner.load(tmp_path / str(known_words)).known_words is known_words
    assert "known_words" not in (tmp_path / "False" / "config.json").read_text()


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = train_combiner(DATA, CONFIG, 3, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_combiner(DATA, CONFIG, 3, tmp_path / "torn", _interrupt)
    torch.rand(100)
    again = train_combiner(DATA, CONFIG, 3, tmp_path / "torn")
    assert again.curve == whole.curve
    for name, value in whole.combiner.state_dict().items():
        assert torch.equal(again.combiner.state_dict()[name], value), name


def test_its_settings_are_its_own() -> None:
    parts = {"gap": 0.5, "start": "random", "moved_captions": 0.0, "rewordings": 2, "lead": 0.1, "known_words": False}
    assert TrainConfig(**parts).identity() == TrainConfig().identity()  # type: ignore[arg-type]
    assert not set(parts) & set(TrainConfig().identity())
    for name, value in parts.items():
        changed = CONFIG.model_copy(update={name: value}).identity()
        assert changed != CONFIG.identity() and changed[name] == value


@settings(max_examples=50, deadline=None)
@given(modification=st.text(max_size=40), count=st.integers(0, 12))
def test_a_request_in_other_words_holds_the_request(modification: str, count: int) -> None:
    ways = reworded(modification, count)
    assert len(ways) == count and ways == reworded(modification, count)
    assert all(modification in way and modification != way for way in ways)
    assert len(set(ways)) == min(count, 8)
