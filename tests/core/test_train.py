"""Training the Combiner: it learns, depends on seed and data alone, and goes on where it was stopped."""

from __future__ import annotations

import inspect
import json
import os
import tempfile
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from scot_core import losses
from scot_core.combiner import Combiner
from scot_core.config import TrainConfig
from scot_core.descent import CHECKPOINT
from scot_core.draws import batches, reseed, seed_of
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.train import Trained, train_combiner
from scot_core.training_set import TrainingSet

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


def test_a_resumed_run_does_and_tells_only_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def counted(*batches: Tensor) -> Tensor:
        steps.append(len(batches))
        return losses.infonce_loss(*batches)

    monkeypatch.setitem(losses.LOSSES, "infonce", counted)
    config = CONFIG.model_copy(update={"loss": "infonce"})
    with pytest.raises(KeyboardInterrupt):
        train_combiner(DATA, config, 3, tmp_path, _stop_at_20)
    assert len(steps) == 20
    told: list[tuple[int, float]] = []
    trained = train_combiner(DATA, config, 3, tmp_path, lambda *step: told.append(step))
    assert len(steps) == 20 + 9  # from the checkpoint of step 16, which knows the curve up to 10
    assert [step for step, _ in told] == [10, 20, 25]
    assert trained.curve == told


def test_a_checkpoint_holds_weights_moments_and_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written whole before it takes its name, every so many steps, and not for a run that is done."""
    synchronised: list[list[str]] = []
    (tmp_path / "a").mkdir()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synchronised.append(sorted(path.name for path in (tmp_path / "a" / "b").iterdir()))

    monkeypatch.setattr(os, "fsync", fsync)
    trained = train_combiner(DATA, CONFIG.model_copy(update={"steps": 24}), 3, tmp_path / "a" / "b")
    assert synchronised == [["checkpoint.tmp"]] + 4 * [["checkpoint.safetensors", "checkpoint.tmp"]]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [CHECKPOINT]
    shapes = {name: value.shape for name, value in trained.combiner.named_parameters()}
    with safe_open(tmp_path / "a" / "b" / CHECKPOINT, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert metadata["step"] == "20"
    assert [tuple(point) for point in json.loads(metadata["record"])] == trained.curve[:2]
    for name, shape in shapes.items():
        assert tensors.pop(f"weight/{name}").shape == shape
        assert tensors.pop(f"exp_avg/{name}").shape == tensors.pop(f"exp_avg_sq/{name}").shape == shape
        assert tensors.pop(f"step/{name}").item() == 20
    assert not tensors


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


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_it_is_a_plain_loop_over_the_loss_of_the_configuration(tmp_path: Path, loss: str) -> None:
    """Whole batches without dropout, so that nothing depends on the order of the rows but rounding."""
    own = {"alpha_pos": 3.0, "alpha_neg": 2.0, "margin": -0.3, "learning_rate": 0.01, "weight_decay": 0.5}
    config = CONFIG.model_copy(update={"loss": loss, "batch_size": 4000, "dropout": 0.0, "steps": 11, **own})
    trained = train_combiner(DATA, config, 5, tmp_path)
    known = inspect.signature(losses.LOSSES[loss]).parameters
    objective = losses.by_name(
        loss, **{name: own[name] for name in ("alpha_pos", "alpha_neg", "margin") if name in known}
    )
    torch.manual_seed(5)
    combiner = Combiner(8, 16, 16, 0.0)
    optimizer = torch.optim.AdamW(combiner.parameters(), lr=0.01, weight_decay=0.5)
    curve, rows = [], slice(None)
    for _ in range(11):
        composed = combiner(DATA.image[rows], DATA.modification[rows])
        value = objective(composed, DATA.modified_caption[rows], DATA.caption[rows])
        curve.append(value.item())
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert [step for step, _ in trained.curve] == [10, 11]
    assert [value for _, value in trained.curve] == pytest.approx(curve[-2:], rel=1e-4, abs=1e-4)
    for name, value in combiner.state_dict().items():
        torch.testing.assert_close(_weights(trained)[name], value, rtol=1e-3, atol=1e-3)


def test_every_step_has_a_dropout_of_its_own(tmp_path: Path) -> None:
    """One triplet and no learning to speak of: nothing but the mask differs between two steps."""
    config = CONFIG.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "steps": 50})
    curves = [train_combiner(_data(rows=1), config, seed, tmp_path / str(seed)).curve for seed in (0, 1)]
    assert all(len({value for _, value in curve}) > 1 for curve in curves)
    assert curves[0] != curves[1]
    without = train_combiner(_data(rows=1), config.model_copy(update={"dropout": 0.0}), 0, tmp_path / "without").curve
    assert [value for _, value in without] == pytest.approx([without[0][1]] * 5)


def test_a_loop_is_seeded_as_torch_would(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    for seed in (0, 7, seed_of(3, 11)):
        torch.manual_seed(seed)
        expected = torch.rand(5)
        reseed(seed)
        assert torch.equal(torch.rand(5), expected)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    for at_work in (False, True):  # the generators of GPUs, where there are any
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda at_work=at_work: at_work)
        reseed(2)
    assert seeds == [2]


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 12), size=st.integers(1, 14), seed=st.integers(0, 2**31 - 1))
def test_an_epoch_draws_every_row_at_most_once_and_whole_batches_of_them(rows: int, size: int, seed: int) -> None:
    batches: list[list[int]] = []

    def recorded(composed: Tensor, target: Tensor, caption: Tensor) -> Tensor:
        assert torch.equal(target, caption)  # the parts of a triplet stay together
        batches.append([int(number) for number in target[:, 0] * rows])
        return composed.sum()

    numbers = (torch.arange(rows) / rows + 0.5 / rows).unsqueeze(1).expand(rows, 2).contiguous()
    per_epoch = rows // min(size, rows)
    config = CONFIG.model_copy(
        update={"loss": "infonce", "batch_size": size, "steps": 4 * per_epoch, "projection_dim": 2, "hidden_dim": 2}
    )
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as work:
        patch.setitem(losses.LOSSES, "infonce", recorded)
        train_combiner(TrainingSet(numbers, numbers, numbers, numbers), config, seed, Path(work))
    epochs = [list(chain(*batches[at : at + per_epoch])) for at in range(0, len(batches), per_epoch)]
    assert len(epochs) == 4
    assert {len(batch) for batch in batches} == {min(size, rows)}
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == per_epoch * min(size, rows)
        assert set(epoch) <= set(range(rows))
        if rows % min(size, rows) == 0:
            assert set(epoch) == set(range(rows))
    # Which rows a seed draws stays as it is: datasets are known by their seeds.
    for number, epoch in enumerate(epochs):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + number) * 2_654_435_761 % 2**63)
        assert epoch == torch.randperm(rows, generator=generator)[: len(epoch)].tolist()


def test_data_that_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"\(3, 8\), \(4, 8\)"):
        TrainingSet(torch.zeros(4, 8), torch.zeros(4, 8), torch.zeros(3, 8), torch.zeros(4, 8))
    empty = torch.zeros(0, 8)
    with pytest.raises(
        DataError, match=r"^there is no triplet to train on; look at the table `rejects` for the reasons$"
    ):
        TrainingSet(empty, empty, empty, empty)
    with pytest.raises(ConfigError, match="nosuchloss"):
        train_combiner(DATA, CONFIG.model_copy(update={"loss": "nosuchloss"}), 0, tmp_path)


def _stop_at_20(step: int, _: float) -> None:
    if step >= 20:
        raise KeyboardInterrupt


@pytest.mark.parametrize("first", [0, 1, 4, 11])
def test_batches_are_the_same_wherever_a_run_is_taken_up(first: int) -> None:
    whole = [rows.tolist() for rows in islice(batches(10, 3, seed=5), first + 7)]
    assert [rows.tolist() for rows in islice(batches(10, 3, seed=5, first=first), 7)] == whole[first:]


def test_reduced_precision_ends_near_the_full_one(undisturbed: Trained, tmp_path: Path) -> None:
    reduced = CONFIG.model_copy(update={"precision": "bfloat16"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scot_core.train.multiplies_bfloat16", lambda *, on_gpu: True)
        found = train_combiner(DATA, reduced, 3, tmp_path / "here")
        assert _same(found, train_combiner(DATA, reduced, 3, tmp_path / "again"))
        patch.setattr("scot_core.train.multiplies_bfloat16", lambda *, on_gpu: False)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ConfigError, match="precision=bfloat16 is slower than float32 here"):
            train_combiner(DATA, reduced, 3, tmp_path / "refused")
    assert not _same(found, undisturbed)
    assert found.curve[-1][1] == pytest.approx(undisturbed.curve[-1][1], rel=0.05, abs=0.5)
    assert all(value.dtype == torch.float32 for value in _weights(found).values())


def test_the_usual_precision_is_in_no_key() -> None:
    assert "precision" not in CONFIG.identity()
    assert CONFIG.model_copy(update={"precision": "bfloat16"}).identity() == {
        **CONFIG.identity(),
        "precision": "bfloat16",
    }
