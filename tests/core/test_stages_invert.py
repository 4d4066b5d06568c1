"""Inverting images and distilling φ's as stages: rows are accounted for, a killed run goes on, and queries come out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from scot_core.config import DistillConfig, EmbedConfig, InvertConfig, PhrasesConfig
from scot_core.config.settings import settings
from scot_core.encoders import load
from scot_core.errors import ConfigError, DataError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.schema import pair_id
from scot_core.llm import Reply
from scot_core.llm.local.writers import Writers
from scot_core.searle import Phi, compose, tower_of
from scot_core.stages.distill import distill, inverters_in
from scot_core.stages.embed.vectors import vectors_by_id
from scot_core.stages.invert import Inversion, invert, phrases_in
from scot_core.stages.invert.tokens import InvertImages
from scot_core.stages.progress import Stopped
from scot_core.stages.step import Committed, Work
from tests import tiny_encoders
from tests.running import run_here

CLIP = EmbedConfig(encoder="clip-b32", device="cpu")
COUNT = 18
COLOURS = {"red": (200, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 200)}
CONFIG = InvertConfig(
    phrases=PhrasesConfig(count=4), images=None, steps=12, concepts=2, shard_rows=7, batch_size=5, learning_rate=5e-2
)
SMALL = DistillConfig(steps=60, batch_size=12, seeds=(0, 1), dropout=0.1, checkpoint_every=20)


@pytest.fixture(autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("weights")
    tiny_encoders.save("clip-b32", folder / "clip-b32")
    monkeypatch.setenv("SCOT_WEIGHTS", str(folder))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def captions(lake: Lake) -> Dataset:
    """Squares of noisy colours, each with a caption that two others have as well."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(COUNT):
        colour = list(COLOURS)[number % 3]
        noise = rng.integers(0, 50, (32, 32, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise + np.array(COLOURS[colour], np.uint8)).save(buffer, "PNG")
        rows.append((f"image-{number:02d}", f"a {colour} square with $ {number % 8}", buffer.getvalue()))
    draft = lake.draft(Identity("captions", "own", "captions", "e" * 32, {}))
    columns = {
        "pair_id": [pair_id("own", image, text) for image, text, _ in rows],
        "source": ["own"] * COUNT,
        "image_id": [image for image, _, _ in rows],
        "caption": [text for _, text, _ in rows],
        "image": [{"bytes": data, "path": f"{image}.png"} for image, _, data in rows],
    }
    draft.write_part(0, columns)
    return draft.commit(1, rows_in=COUNT)


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the language model says, in turn, to every prompt."""
    says = [" is on a table\nand a second line", " hangs there", " $ costs $5", ""]

    def write(_: Writers, job: Any, progress: Any) -> list[Reply]:
        assert not job.repeat_bigrams and job.max_new_tokens == 28
        progress(len(job.prompts))
        return [Reply(says[at % len(says)], "stop", 5, 5) for at in range(len(job.prompts))]

    monkeypatch.setattr(Writers, "write", write)
    return says


def rows_of(lake: Lake, dataset: Dataset) -> list[tuple[str, str]]:
    """(reason, raw) of the rejects beside a dataset."""
    rejects = lake.table("rejects").find(dataset.key)
    assert rejects is not None
    return [(row["reason"], row["raw"]) for row in rejects.read().to_pylist()]


def inverted(lake: Lake, captions: Dataset, config: InvertConfig = CONFIG, run: Any = run_here) -> Inversion:
    return invert(run, lake, config, captions, CLIP)


@pytest.mark.usefixtures("writer")
def test_from_images_to_queries(lake: Lake, captions: Dataset, tmp_path: Path) -> None:
    found = inverted(lake, captions)
    assert found.phrases is not None
    phrases = phrases_in(found.phrases)
    assert set(phrases) == {"square", "red", "green", "blue"}
    assert [phrase.text for phrase in phrases["square"]] == [
        f"a photo of square that {end}" for end in ("is on a table", "hangs there", "$ costs $5")
    ]  # fmt: skip
    assert rows_of(lake, found.phrases) == [("empty", "")] * len(phrases)
    rows = found.tokens.read().to_pylist()
    assert [row["image_id"] for row in rows] == list(vectors_by_id([found.images])[0])
    assert found.tokens.manifest.rows.given == COUNT and rows_of(lake, found.tokens) == []
    assert all(len(row["concepts"].split("; ")) == 2 for row in rows)
    assert len(rows[0]["vector"]) == tiny_encoders.WIDTH
    tower, reference = tower_of(load("clip-b32", device="cpu")), torch.from_numpy(vectors_by_id([found.images])[1][:5])
    for method in ("searle", "pic2word", "lincir"):
        config = SMALL.model_copy(update={"method": method})
        made = distill(run_here, lake, config, captions, CLIP, found.tokens)
        curves = made.read().to_pylist()
        assert {(row["method"], row["seed"]) for row in curves} == {(method, 0), (method, 1)}
        first, last = (next(r["value"] for r in curves if (r["seed"], r["step"]) == (0, step)) for step in (10, 60))
        assert last < first
        learned = inverters_in(made, tmp_path / method)
        assert set(learned) == {0, 1} and made.config["spec"] == found.images.config["spec"]
        queries = compose(tower, learned[0](reference).detach(), ["in $ red"] * 5)
        assert queries.shape == (5, 16) and torch.allclose(queries.norm(dim=1), torch.ones(5))
        again = distill(run_here, lake, config, captions, CLIP, found.tokens)
        assert again.key == made.key


@pytest.mark.usefixtures("writer")
def test_the_loss_falls_with_the_steps(lake: Lake, captions: Dataset) -> None:
    def loss(steps: int) -> float:
        config = CONFIG.model_copy(update={"steps": steps, "lambda_gpt": 0.0})
        return float(np.mean(inverted(lake, captions, config).tokens.read(["loss"])["loss"].to_numpy()))

    assert loss(40) < loss(10) < loss(1)


@pytest.mark.usefixtures("writer")
def test_a_killed_run_goes_on_and_ends_the_same(lake: Lake, captions: Dataset, tmp_path: Path) -> None:
    done: list[int] = []

    def interrupted(work: Work) -> Committed:
        if work.stage != "invert" or work.unit != "images":
            return run_here(work)
        with work:
            work.run(0, lambda _: None)
            raise Stopped("killed")

    with pytest.raises(Stopped):
        inverted(lake, captions, run=interrupted)

    def resumed(work: Work) -> Committed:
        if work.unit == "images" and work.committed() is None:
            done.extend(shard for shard in range(len(work.shards())) if not work.is_done(shard))
        return run_here(work)

    tokens = inverted(lake, captions, run=resumed).tokens
    assert done == [1, 2]
    other = Lake(tmp_path / "other")
    draft = other.draft(Identity("captions", "own", "captions", "e" * 32, {}))
    draft.write_part(0, {n: c for n, c in captions.read().to_pydict().items() if n != "key"})
    whole = inverted(other, draft.commit(1, rows_in=COUNT)).tokens
    assert tokens.key == whole.key
    mine, theirs = (np.stack(d.read(["vector"])["vector"].to_pylist()) for d in (tokens, whole))
    assert np.allclose(mine, theirs, atol=1e-4)


def test_images_are_drawn_and_those_without_a_phrase_are_rejects(
    lake: Lake, captions: Dataset, writer: list[str]
) -> None:
    writer[:] = [" is here"]
    config = CONFIG.model_copy(update={"images": 7})
    assert inverted(lake, captions, config).tokens.rows == 7
    found = inverted(lake, captions)
    broken = found.images.read().to_pydict()
    broken["vector"][0] = [float("nan")] * 16
    draft = lake.draft(
        Identity("embeddings", "own", "embed-images", "f" * 32, found.images.config, found.images.inputs)
    )
    flat = pa.array(np.array(broken["vector"], np.float32).ravel())
    del broken["key"]
    draft.write_part(0, {**broken, "vector": pa.FixedSizeListArray.from_arrays(flat, 16)})
    images = draft.commit(1, rows_in=COUNT)
    made = run_here(InvertImages(lake, CONFIG, images, found.phrases))
    assert made["pseudo_tokens"].rows == COUNT - 1 and made["rejects"].rows == 1
    assert made["rejects"].read()["reason"].to_pylist() == ["not_finite"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "is empty"),
        ("\n  \n", "is empty"),
        ("LabelName,DisplayName\n", "is empty"),
        ("mug\nred\x1b[2J\n", "line 2 of the vocabulary"),
        ("x" * 101, "line 1 of the vocabulary"),
    ],
)
def test_a_vocabulary_that_is_none(
    lake: Lake, captions: Dataset, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "names.csv"
    if text is not None:
        path.write_text(text)
    config = CONFIG.model_copy(update={"phrases": PhrasesConfig(vocabulary=str(path))})
    with pytest.raises(DataError, match=message):
        inverted(lake, captions, config)


@pytest.mark.parametrize("text", ["Mug\n 'Nduja\nMug\n\n", 'LabelName,DisplayName\n/m/1,Mug\n/m/2,"\'Nduja"\n'])
def test_a_vocabulary_of_a_file_is_known_by_what_it_holds(
    lake: Lake, captions: Dataset, tmp_path: Path, writer: list[str], text: str
) -> None:
    writer[:] = [" is here"]
    path = tmp_path / "names.csv"
    path.write_text(text)
    made = inverted(lake, captions, CONFIG.model_copy(update={"phrases": PhrasesConfig(vocabulary=str(path), count=2)}))
    assert made.phrases is not None
    assert list(phrases_in(made.phrases)) == ["Mug", "'Nduja"]
    assert made.phrases.inputs == () or list(made.phrases.inputs) == []


def test_hostile_phrases_are_rejects_and_a_model_that_writes_nothing_is_an_error(
    lake: Lake, captions: Dataset, writer: list[str]
) -> None:
    writer[:] = [" is \x1b[2J", " is \ud800", " costs $ and $", "\n\n is fine"]
    found = inverted(lake, captions)
    assert found.phrases is not None
    assert sorted({reason for reason, _ in rows_of(lake, found.phrases)}) == ["control_characters", "wrong_encoding"]
    assert {phrase.text for phrase in phrases_in(found.phrases)["red"]} == {
        "a photo of red that costs $ and $", "a photo of red that is fine",
    }  # fmt: skip
    writer[:] = [""]
    with pytest.raises(DataError, match="holds no phrase"):
        inverted(lake, captions, CONFIG.model_copy(update={"phrases": PhrasesConfig(count=3)}))


def test_captions_may_stand_for_phrases(lake: Lake, captions: Dataset) -> None:
    config = CONFIG.model_copy(update={"phrases": PhrasesConfig(writer="captions", count=3)})
    found = inverted(lake, captions, config)
    assert found.phrases is not None
    known = phrases_in(found.phrases)
    assert {name: len(its) for name, its in known.items()} == dict.fromkeys(known, 3)
    assert all("red" in phrase.text and phrase.word == "red" for phrase in known["red"])


def test_what_cannot_be(lake: Lake, captions: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no images are inverted"):
        distill(run_here, lake, SMALL, captions, CLIP)
    tokens = inverted(lake, captions, CONFIG.model_copy(update={"lambda_gpt": 0.0, "steps": 2})).tokens
    with pytest.raises(ConfigError, match="without phrases"):
        distill(run_here, lake, SMALL, captions, CLIP, tokens)
    for change in ({"distance": "l2"}, {"images": 5}, {}):
        config = SMALL.model_copy(update={"lambda_gpt": 0.0, "steps": 4, "seeds": (0,), **change})
        assert isinstance(inverters_in(distill(run_here, lake, config, captions, CLIP, tokens), tmp_path / "x")[0], Phi)
    tiny_encoders.save("siglip2", tmp_path / "weights" / "siglip2")
    monkeypatch.setenv("SCOT_WEIGHTS", str(tmp_path / "weights"))
    settings.cache_clear()
    with pytest.raises(ConfigError, match="does not give its text tower"):
        invert(run_here, lake, CONFIG.model_copy(update={"lambda_gpt": 0.0}), captions,
               EmbedConfig(encoder="siglip2", device="cpu"))  # fmt: skip


def test_a_distillation_that_is_stopped_goes_on(lake: Lake, captions: Dataset, tmp_path: Path) -> None:
    tokens = inverted(lake, captions, CONFIG.model_copy(update={"lambda_gpt": 0.0, "steps": 5})).tokens
    config = SMALL.model_copy(update={"lambda_gpt": 0.0, "seeds": (3,)})
    ticks: list[int] = []

    def stopping(work: Work) -> Committed:
        def tick(units: int) -> None:
            ticks.append(units)
            if sum(ticks) >= 40:
                raise Stopped("killed")

        with work:
            work.run(0, tick)
        raise AssertionError

    with pytest.raises(Stopped):
        distill(stopping, lake, config, captions, CLIP, tokens)
    heard: list[int] = []

    def going_on(work: Work) -> Committed:
        return run_here(work, heard.append)

    made = distill(going_on, lake, config, captions, CLIP, tokens)
    assert heard[0] == 20 and sum(heard) == 60
    whole = distill(run_here, lake, config.model_copy(update={"checkpoint_every": 50}), captions, CLIP, tokens)
    assert whole.key == made.key  # how often it is checkpointed changes nothing
