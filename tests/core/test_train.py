"""Training the Combiner: it learns, depends on seed and data alone, and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scot_core.combiner import Combiner
from scot_core.config import TrainConfig
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.train import CHECKPOINT, Trained, TrainingSet, train_combiner

CONFIG = TrainConfig(projection_dim=16, hidden_dim=16, steps=25, batch_size=16, checkpoint_every=4)


def _data(rows: int = 40, dim: int = 8) -> TrainingSet:
    generator = torch.Generator().manual_seed(0)
    image, caption, modification = (functional.normalize(torch.randn(rows, dim, generator=generator)) for _ in range(3))
    return TrainingSet(image, caption, modification, functional.normalize(image + modification))


DATA = _data()


def _weights(trained: Trained) -> dict[str, Tensor]:
    return trained.combiner.state_dict()


def _same(first: Trained, second: Trained) -> bool:
    mine, other = _weights(first), _weights(second)
    return first.curve == second.curve and all(torch.equal(mine[name], other[name]) for name in mine)


def _interrupted(work: Path, config: TrainConfig, at: Sequence[int]) -> Trained:
    """Training stopped at these steps, and taken up again each time."""
    for stop in at:

        def on_step(step: int, _: float, stop: int = stop) -> None:
            if step >= stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_combiner(DATA, config, 3, work, on_step)
        torch.rand(100)  # what another run leaves of the global random numbers must not matter
    return train_combiner(DATA, config, 3, work)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_combiner(DATA, CONFIG, 3, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("at", [[10, 20], [25]])
def test_a_resumed_run_ends_with_the_same_bits(undisturbed: Trained, tmp_path: Path, at: Sequence[int]) -> None:
    assert _same(_interrupted(tmp_path, CONFIG, at), undisturbed)


def test_how_often_checkpoints_are_written_changes_nothing(undisturbed: Trained, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"checkpoint_every": 1})
    assert _same(train_combiner(DATA, config, 3, tmp_path), undisturbed)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_torn_checkpoint_counts_as_none(undisturbed: Trained, tmp_path: Path, share: float) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_combiner(DATA, CONFIG, 3, tmp_path, _stop_at_20)
    checkpoint = tmp_path / CHECKPOINT
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: int(share * len(whole))])
    assert _same(train_combiner(DATA, CONFIG, 3, tmp_path), undisturbed)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_is_no_checkpoint_counts_as_none(undisturbed: Trained, tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    (tmp_path / CHECKPOINT).with_suffix(".tmp").write_bytes(content)
    assert _same(train_combiner(DATA, CONFIG, 3, tmp_path), undisturbed)


def test_a_checkpoint_of_another_shape_counts_as_none(undisturbed: Trained, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_combiner(DATA, CONFIG.model_copy(update={"hidden_dim": 8}), 3, tmp_path, _stop_at_20)
    assert _same(train_combiner(DATA, CONFIG, 3, tmp_path), undisturbed)


def test_progress_is_told_of_a_resumed_run_from_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_combiner(DATA, CONFIG, 3, tmp_path, _stop_at_20)
    told: list[int] = []
    trained = train_combiner(DATA, CONFIG, 3, tmp_path, lambda step, _: told.append(step))
    assert told == [10, 20, 25]  # the checkpoint of step 16 knows the curve up to 10
    assert [step for step, _ in trained.curve] == [10, 20, 25]


@pytest.mark.parametrize("loss", ["scot", "infonce"])
def test_it_learns(tmp_path: Path, loss: str) -> None:
    config = CONFIG.model_copy(update={"loss": loss, "steps": 50, "dropout": 0.0, "batch_size": 40})
    trained = train_combiner(DATA, config, 0, tmp_path)
    assert trained.curve[-1][1] < trained.curve[0][1]
    untrained = Combiner(8, 16, 16, 0.0).eval()
    targets = DATA.modified_caption

    def similarity(combiner: Combiner) -> float:
        with torch.inference_mode():
            return float((combiner(DATA.image, DATA.modification) * targets).sum(-1).mean())

    assert not trained.combiner.training
    assert similarity(trained.combiner) > max(0.9, similarity(untrained))


def test_seeds_give_different_weights(undisturbed: Trained, tmp_path: Path) -> None:
    other = train_combiner(DATA, CONFIG, 4, tmp_path)
    assert not _same(other, undisturbed)
    assert other.curve[0][0] == undisturbed.curve[0][0]


def test_every_row_is_seen_once_an_epoch(tmp_path: Path) -> None:
    """With a batch as large as the data, two orders of the rows differ in nothing but rounding."""
    whole = CONFIG.model_copy(update={"batch_size": 4000, "dropout": 0.0, "steps": 5})
    turned = TrainingSet(
        *(part.flip(0) for part in (DATA.image, DATA.caption, DATA.modification, DATA.modified_caption))
    )
    first, second = (
        train_combiner(data, whole, 0, tmp_path / name) for name, data in (("as it is", DATA), ("turned", turned))
    )
    assert first.curve[0][1] == pytest.approx(second.curve[0][1], rel=1e-5)
    for name, value in _weights(first).items():
        assert torch.allclose(value, _weights(second)[name], atol=1e-4)


def test_data_that_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"\(3, 8\), \(4, 8\)"):
        TrainingSet(torch.zeros(4, 8), torch.zeros(4, 8), torch.zeros(3, 8), torch.zeros(4, 8))
    empty = torch.zeros(0, 8)
    with pytest.raises(DataError, match="no triplet to train on; look at the table `rejects`"):
        TrainingSet(empty, empty, empty, empty)
    with pytest.raises(ConfigError, match="nosuchloss"):
        train_combiner(DATA, CONFIG.model_copy(update={"loss": "nosuchloss"}), 0, tmp_path)


def _stop_at_20(step: int, _: float) -> None:
    if step >= 20:
        raise KeyboardInterrupt
