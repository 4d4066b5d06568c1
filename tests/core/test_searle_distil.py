"""Training φ: its loss by hand, what it learns, and that it goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.searle import ClipTower, Distilled, Phi, PhiConfig, distill, distillation_loss, phrases_of
from tests import tiny_clip_text as tiny

ROWS, D = 20, 6
NAMES = [f"concept{letter}" for letter in "abcde"]
CONCEPTS = [[NAMES[row % 5], NAMES[row % 3]] for row in range(ROWS)]
PHRASES = phrases_of({name: [f"a photo of {name} that is {end}" for end in ("red", "$5")] for name in NAMES})
CONFIG = PhiConfig(epochs=8, batch_size=6, learning_rate=1e-3, checkpoint_every=4)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(ROWS, D, generator=generator)
    return images, torch.tanh(images @ torch.randn(D, tiny.WIDTH, generator=generator)) / 10


def run(work: Path, config: PhiConfig = CONFIG, **changes: Any) -> Distilled:
    images, tokens = data()
    tower = ClipTower(tiny.model(), tiny.tokenizer())
    arguments: dict[str, Any] = {
        "image_features": images,
        "oti_tokens": tokens,
        "concepts": CONCEPTS,
        "phrases": PHRASES,
        "seed": 3,
    }
    return distill(tower, config=config, work=work, **(arguments | changes))


def close(one: Distilled, other: Distilled) -> bool:
    pairs = zip(one.phi.parameters(), other.phi.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs)


def test_it_learns_and_gives_phi_on_the_cpu_in_evaluation_mode(tmp_path: Path) -> None:
    config = PhiConfig(epochs=50, batch_size=10, learning_rate=1e-2, dropout=0.1)
    trained = run(tmp_path, config)
    images, tokens = data()
    assert trained.curve[-1][0] == 100
    assert trained.curve[-1][1] < 0.75 * trained.curve[0][1]
    assert not trained.phi.training
    assert (trained.phi.input_dim, trained.phi.hidden_dim, trained.phi.output_dim) == (D, 4 * D, tiny.WIDTH)
    with torch.no_grad():
        nearest = (functional.normalize(trained.phi(images)) @ functional.normalize(tokens).T).argmax(dim=1)
    assert (nearest == torch.arange(ROWS)).float().mean() > 0.5


@pytest.mark.parametrize("distance", ["nt-xent", "l2"])
@pytest.mark.parametrize("lambda_gpt", [0.75, 0.0])
def test_its_first_loss_is_distance_plus_l_gpt(tmp_path: Path, distance: Any, lambda_gpt: float) -> None:
    config = PhiConfig(epochs=1, dropout=0.0, learning_rate=1e-30, distance=distance, lambda_gpt=lambda_gpt)
    concepts = [[NAMES[row % 5]] for row in range(ROWS)]
    phrases = {name: its[:1] for name, its in PHRASES.items()}  # nothing is left to chance
    trained = run(tmp_path, config, concepts=concepts, phrases=phrases)
    images, tokens = data()
    tower = ClipTower(tiny.model(), tiny.tokenizer())
    with torch.no_grad():
        words = trained.phi(images)
        expected = distillation_loss(tokens, words) if distance == "nt-xent" else ((tokens - words) ** 2).mean()
        its = [phrases[names[0]][0] for names in concepts]
        known, said = tower.texts([p.text for p in its]), tower.features([p.sentence for p in its], words)
        expected = expected + lambda_gpt * (1 - torch.cosine_similarity(known, said)).mean()
    ((step, loss),) = trained.curve
    assert step == 1
    assert loss == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("stops", [(10,), (10, 20)])
def test_a_stopped_training_ends_like_one_that_was_not(tmp_path: Path, stops: tuple[int, ...]) -> None:
    whole = run(tmp_path / "whole")
    assert [step for step, _ in whole.curve] == [10, 20, 24]
    for stop in stops:

        def on_step(step: int, _: float, stop: int = stop) -> None:
            if step >= stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "work", on_step=on_step)
    heard: list[int] = []
    resumed = run(tmp_path / "work", on_step=lambda step, _: heard.append(step))
    assert close(resumed, whole)
    assert [step for step, _ in resumed.curve] == [10, 20, 24]
    assert heard == [10, 20, 24]  # the first of them from the checkpoint, where that has it
    assert not close(run(tmp_path / "other", seed=4), whole)


def test_torn_and_foreign_checkpoints_are_none(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    checkpoint = tmp_path / "whole" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert close(run(tmp_path / "whole"), whole)
    Phi(D, 4 * D, tiny.WIDTH).save(tmp_path / "foreign")
    (tmp_path / "foreign" / "model.safetensors").rename(tmp_path / "foreign" / "checkpoint.safetensors")
    assert close(run(tmp_path / "foreign"), whole)


def test_a_batch_larger_than_the_data_is_all_of_it(tmp_path: Path) -> None:
    assert run(tmp_path, replace(CONFIG, batch_size=999, epochs=3)).curve[-1][0] == 3


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    images, tokens = data()
    with pytest.raises(ShapeError, match=r"\(20, 3\)"):
        run(tmp_path, oti_tokens=tokens[:, :3])
    with pytest.raises(ShapeError, match="19 lists"):
        run(tmp_path, concepts=CONCEPTS[1:])
    with pytest.raises(DataError, match="no image"):
        run(tmp_path, image_features=images[:0], oti_tokens=tokens[:0], concepts=[])
    with pytest.raises(DataError, match="image number 1 has no phrase"):
        run(tmp_path, replace(CONFIG, concepts=1), phrases={NAMES[0]: PHRASES[NAMES[0]]})
    assert run(tmp_path, replace(CONFIG, lambda_gpt=0.0), phrases={}).curve
    for change in ({"epochs": 0}, {"temperature": 0.0}, {"lambda_gpt": -1.0}, {"distance": "l1"}):
        with pytest.raises(ConfigError):
            PhiConfig(**change)
