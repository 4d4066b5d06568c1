"""An encoder fitted to one's own captions: by two towers out of folders, by the real ones, and from nothing."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from scot_core import encoders
from scot_core.config import FitConfig, Pipeline, with_overrides
from scot_core.config.settings import settings
from scot_core.descent import CHECKPOINT
from scot_core.encoders import halves
from scot_core.encoders.fitted import Projections, projections_of
from scot_core.encoders.fitted_spec import Shapes, weights_of
from scot_core.encoders.halves import folders
from scot_core.errors import ConfigError, DataError, ModelError
from scot_core.fit import Curve, Rows, contrast, fit
from scot_core.lake import Lake
from scot_core.search import Searcher
from scot_core.stages import recipes
from scot_core.stages.benchmark.measure_mined import MeasureMined
from scot_core.stages.embed.vectors import encoder_of, vectors_by_id
from scot_core.stages.fit.joined import joined
from scot_core.stages.fit.recalled import recall_of
from tests import tiny_towers
from tests.running import run_here
from tests.shapes import captioned

TINY = ["fit.image_tower=tiny-vit", "fit.text_tower=tiny-bert", "fit.min_times_chance=0"]
SMALL = [
    *("train.steps=20", "train.seeds=0", "train.batch_size=32", "benchmark.resamples=50", "generate.held_out=0.3"),
    *("embed.encoder=fitted", "fit.steps=40", "fit.batch_size=16", "fit.dim=32", "fit.image_hidden=32"),
]


def pipeline_of(table: Path, *overrides: str) -> Pipeline:
    own = ["captions.source=folder", f"captions.path={table}", "generate.writer=mined", "benchmark.names=mined"]
    return with_overrides(Pipeline(), [*own, *SMALL, *overrides])


@pytest.fixture(scope="module", autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("weights")
    tiny_towers.save(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOT_WEIGHTS", str(folder))
        settings.cache_clear()
        yield folder
    settings.cache_clear()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captioned(tmp_path_factory.mktemp("own") / "photos")


@pytest.fixture(scope="module")
def walked(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("fit") / "lake")
    list(recipes.walk(run_here, lake, pipeline_of(table, *TINY)))
    return lake


def test_the_fitted_encoder_is_an_encoder_like_any_other(walked: Lake, table: Path) -> None:
    made = walked.table("encoders").latest()
    images = walked.table("embeddings").latest(stage="embed-images")
    encoder = encoder_of(images)
    assert encoder.spec == encoders.spec_of(f"fitted:{made.key}", lake=walked)
    assert encoder.spec.revision == weights_of(made)
    assert projections_of(made).shapes.image_hidden == 2 * 32  # of two fits, side by side
    steps = [row["step"] for row in made.read().to_pylist() if row["phase"] == "validation"]
    assert len(steps) == len(set(steps)) and 40 < max(steps) <= 80
    row, vectors = vectors_by_id([images])
    with Image.open(table.parent / "pictures/two-green-star.png") as picture:
        again = encoder.embed_images([picture])
    np.testing.assert_allclose(again[0], vectors[row["pictures/two-green-star.png"]], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(encoder.embed_texts(["in violet", "a"]), axis=1), 1, atol=1e-5)
    hits = Searcher(walked).search(table.parent / "pictures/two-green-star.png", "in violet", 3).hits
    assert len(hits) == 3


def test_its_recall_stands_where_the_encoder_is_named(walked: Lake) -> None:
    found = recall_of(walked.table("encoders").latest())
    rows = walked.table("benchmarks").latest().read().to_pylist()
    [named] = {row["encoder"] for row in rows}
    assert named.startswith("fitted:") and named.endswith(f"(finds {found.recall:.0f} % of held-out captions)")
    assert found.chance == pytest.approx(100 / 48)


def test_towers_run_once_and_all_of_it_is_found_again(walked: Lake, table: Path) -> None:
    stages = {dataset.stage for dataset in walked.table("embeddings").datasets()}
    assert {"features-images", "features-images-view-1", "features-texts", "embed-images", "embed-texts"} == stages
    before = [dataset.name for dataset in walked.datasets()]
    list(recipes.walk(run_here, walked, pipeline_of(table, *TINY)))
    assert [dataset.name for dataset in walked.datasets()] == before


def test_other_towers_or_weights_than_it_was_fitted_on_are_refused(walked: Lake, weights: Path) -> None:
    made = walked.table("encoders").latest()
    pooling = weights / "tiny-bert" / "1_Pooling"
    pooling.mkdir()
    (pooling / "config.json").write_text('{"pooling_mode_cls_token": true}')
    try:
        with pytest.raises(ModelError, match="tiny-bert"):
            encoders.load(f"fitted:{made.key}", lake=walked)
    finally:
        (pooling / "config.json").unlink()
        pooling.rmdir()
    with pytest.raises(ModelError, match="holds no encoder other-1"):
        encoders.load("fitted:other-1", lake=walked)
    with pytest.raises(ConfigError, match="fitted:<key>"):
        encoders.load("fitted")
    with pytest.raises(ConfigError, match="reads no texts"):
        encoders.load("tower:tiny-vit").embed_texts(["a"])


def test_words_stand_beside_what_a_text_means_and_older_encoders_read_without_them(walked: Lake) -> None:
    features = walked.table("embeddings").latest(stage="features-texts").config["spec"]
    assert features["pooling"] == "mean of the words, then mean of the tokens"
    texts = ["a hat on a cat", "no hat"]
    with_words = halves.load("tower:tiny-bert").embed_texts(texts)
    without = halves.load("tower:tiny-bert", pooling="mean of the tokens").embed_texts(texts)
    width = without.shape[1]
    assert with_words.shape == (2, 2 * width)
    np.testing.assert_allclose(with_words[:, width:] * 2**0.5, without, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(with_words[:, :width], axis=1), 2**-0.5, atol=1e-5)
    with pytest.raises(ConfigError, match="no pooling 'first token'"):
        halves.load("tower:tiny-bert", pooling="first token")


def test_the_benchmark_refuses_an_encoder_that_has_seen_its_captions(walked: Lake, table: Path) -> None:
    combiners, triplets = walked.table("combiners").latest(), walked.table("triplets").latest()
    pictures = recipes.captions(run_here, walked, pipeline_of(table).captions)
    other = pipeline_of(table, *TINY, "generate.seed=5")
    seen_more = recipes.fit(run_here, walked, other.fit, other.generate, pictures.captions)
    embed = recipes.using(other.embed, seen_more.key)
    vectors = recipes.embed(run_here, walked, embed, pictures, triplets)
    with pytest.raises(ConfigError, match="captions that benchmark mined asks for"):
        MeasureMined(walked, other.benchmark, combiners, triplets, vectors.images, vectors.texts)


def test_an_encoder_near_chance_stops_the_run(table: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with pytest.raises(DataError, match=r"held-out\s+pictures' captions, by chance 2\.1"):
        list(recipes.walk(run_here, lake, pipeline_of(table, *TINY, "fit.min_times_chance=48", "fit.steps=1")))
    assert not lake.table("combiners").datasets()


def test_without_towers_the_shipped_architecture_is_trained_from_nothing(table: Path, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    list(recipes.walk(run_here, lake, pipeline_of(table, "fit.image_tower=nothing", "fit.min_times_chance=0")))
    encoder = encoder_of(lake.table("embeddings").latest(stage="embed-images"))
    assert encoder.spec.name.startswith("fitted:") and encoder.spec.image_size == 64
    assert lake.table("benchmarks").latest().rows


@pytest.mark.parametrize("name", folders.PACKAGED)
def test_real_towers_see_and_read(name: str) -> None:
    if not folders.is_here(name):
        pytest.skip(f"the packages of {name} are not installed (make towers)")
    tower = encoders.load(f"tower:{name}")
    if name == "all-minilm-l6-v2":
        near, other, far = tower.embed_texts(["a crimson mug", "a red cup", "stock prices fell"])
        assert near @ other > near @ far + 0.2
    else:
        pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
        features = tower.embed_images(pictures)
        assert features.shape == (2, tower.spec.dim) and not np.allclose(features[0], features[1], atol=1e-3)


def test_a_pickle_that_holds_more_than_tensors_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    package = tmp_path / "sinister_tower"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models" / "weights.pth").write_bytes(pickle.dumps(Sinister(tmp_path / "run"), 2))
    monkeypatch.syspath_prepend(str(tmp_path))
    unpack = folders.PACKAGED["efficientnet-lite0"][2]
    monkeypatch.setitem(folders.PACKAGED, "sinister", ("sinister_tower", "torch", unpack))
    with pytest.raises(ModelError, match="sinister_tower"):
        folders.folder_of("sinister")
    assert not (tmp_path / "run").exists() and not (weights / "sinister").exists()


class Sinister:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.path,)


def test_one_fit_has_the_key_it_had_before_there_were_several() -> None:
    assert "fits" not in FitConfig(fits=1).identity() and "fits" in FitConfig().identity()
    assert FitConfig(image_tower="nothing").identity() == FitConfig(image_tower="nothing", fits=1).identity()
    draws = FitConfig(fits=3, seed=4).draws()
    assert draws[0].seed == 4 and len({draw.seed for draw in draws}) == 3


@pytest.mark.parametrize("dim", [12, 5])
def test_joined_fits_compare_as_their_vectors_side_by_side(dim: int) -> None:
    """All 12 directions of three fits are kept where there are but 12 pictures and texts, and fewer where dim is 5."""
    image, text = (encoders.spec_of("catalogue").model_copy(update={"dim": width}) for width in (7, 6))
    torch.manual_seed(0)
    shapes = Shapes(image=image, text=text, dim=dim, image_hidden=8, text_hidden=9, image_dropout=0.5, text_dropout=0.5)
    fits = [Projections(shapes).eval() for _ in range(3)]
    images, texts = torch.randn(5, 7), torch.randn(7, 6)
    for each in fits:
        each.mean.fill_(0.5)
        each.deviation.fill_(2)
    whole = joined(fits, images, texts)
    beside = []
    for features, kind in ((images / 2 - 0.25, "image"), (texts, "text")):
        made = [getattr(each, kind)(features) for each in fits]
        vectors = torch.cat([of / torch.linalg.vector_norm(of, dim=1).mean() for of in made], 1)
        beside.append(nn.functional.normalize(vectors, dim=1))
    found = whole.of_images(images) @ whole.of_texts(texts).T
    assert found.shape == (5, 7) and whole.of_texts(texts).shape == (7, dim)
    torch.testing.assert_close(found, beside[0] @ beside[1].T, atol=1e-5 if dim == 12 else 0.3, rtol=0)
    assert joined(fits[:1], images, texts) is fits[0]


# ------------------------------------------------------------------------------------------------- training


class Rotated:
    """Pictures are captions turned by an orthogonal matrix: what is fitted is its inverse."""

    def __init__(self, count: int = 60, width: int = 8) -> None:
        draw = torch.Generator().manual_seed(3)
        self.texts = nn.functional.normalize(torch.randn(count, width, generator=draw), dim=1)
        self.images = self.texts @ torch.linalg.qr(torch.randn(width, width, generator=draw))[0]
        torch.manual_seed(0)
        self.model: nn.Module = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.1))

    def _seen(self, rows: Tensor) -> Tensor:
        return nn.functional.normalize(self.model(self.images[rows]), dim=1)

    def pairs(self, rows: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        return self._seen(rows), self.texts[rows]

    @torch.no_grad()
    def recall(self, rows: Tensor) -> float:
        return 100 * float(((self._seen(rows) @ self.texts.T).argmax(1) == rows).float().mean())


ROWS = Rows([torch.tensor([row]) for row in range(40)], torch.arange(40, 60))
CONFIG = FitConfig(steps=400, batch_size=20, learning_rate=0.02, checkpoint_every=50, weight_decay=0.0)


def fitted_by(work: Path, stop_at: int | None = None) -> tuple[Rotated, Curve]:
    learner = Rotated()

    def on_step(step: int) -> None:
        if stop_at is not None and step >= stop_at:
            raise KeyboardInterrupt

    return learner, fit(learner, ROWS, CONFIG, work, on_step)


def test_rows_that_were_not_trained_on_are_found(tmp_path: Path) -> None:
    learner, curve = fitted_by(tmp_path)
    assert learner.recall(ROWS.validation) == max(recall for _, recall in curve.recalls) >= 80
    assert not learner.model.training


def test_a_killed_fit_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole, curve = fitted_by(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fitted_by(tmp_path / "killed", stop_at=220)
    assert load_file(tmp_path / "killed" / CHECKPOINT)
    learner, again = fitted_by(tmp_path / "killed")
    assert again.recalls == curve.recalls and again.best == curve.best
    for one, other in zip(whole.model.parameters(), learner.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_loss_is_the_mean_of_both_cross_entropies() -> None:
    images, texts = torch.eye(2), torch.eye(2)
    expected = float(np.log(1 + np.exp(-2.0)))  # scale e^ln 2: similarities 2 and 0 in every row and column
    assert float(contrast(images, texts, torch.tensor(np.log(2.0)))) == pytest.approx(expected)


def test_too_few_captions_are_said_to_be() -> None:
    with pytest.raises(DataError, match="too few"):
        Rows([torch.tensor([0])], torch.tensor([1]))
