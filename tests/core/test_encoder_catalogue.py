"""The embedded encoder: shipped weights, frozen towers, odd input, and its pretraining script."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from pretraining import encoder as pretrain_encoder
from pretraining import encoder_texts
from scot_core import encoders
from scot_core.catalogue.drawing import render
from scot_core.catalogue.language import caption
from scot_core.catalogue.world import ATTRIBUTES, SEEN_TYPES, SPLITS, Product, sample
from scot_core.encoders.catalogue import CatalogueEncoder
from scot_core.encoders.catalogue_spec import CONFIG, MAX_WORDS, SHIPPED, WEIGHTS
from scot_core.encoders.catalogue_text import Tokeniser, words
from scot_core.encoders.preprocessing import to_rgb
from scot_core.encoders.spec import embed_requests
from scot_core.errors import ConfigError, DataError, ModelError, ShapeError
from scot_core.lake.fingerprint import digest

MUG = Product("mug", "red", "plain", "a round handle", "none", "small", "wood")


@pytest.fixture(scope="module")
def encoder() -> CatalogueEncoder:
    loaded = encoders.load("catalogue")
    assert isinstance(loaded, CatalogueEncoder)
    return loaded


def _state(encoder: CatalogueEncoder) -> str:
    return digest(b"".join(value.numpy().tobytes() for value in encoder.model.state_dict().values()))


# ------------------------------------------------------------------------------------- shipped weights


def test_the_shipped_weights_retrieve_captions(encoder: CatalogueEncoder) -> None:
    rng = random.Random(31)
    products = list(dict.fromkeys(sample(rng, "seen") for _ in range(130)))[:120]
    images = encoder.embed_images([render(p, 64, 900_000 + i) for i, p in enumerate(products)])
    texts = encoder.embed_texts([encoder_texts.full_caption(p, i) for i, p in enumerate(products)])
    hits = (images @ texts.T).argmax(1) == np.arange(len(products))
    assert hits.mean() >= 0.95


@pytest.mark.parametrize(("name", "knows"), [("catalogue", SPLITS[:2]), ("catalogue-whole", SPLITS)])
def test_the_provenance_belongs_to_the_shipped_weights_and_records_the_gate(name: str, knows: Sequence[str]) -> None:
    provenance, spec = json.loads((SHIPPED[name] / "provenance.json").read_text()), encoders.load(name).spec
    assert provenance["revision"] == spec.revision == digest((SHIPPED[name] / WEIGHTS).read_bytes())
    assert spec == encoders.spec_of(name) and spec.name == name
    scores = {split: provenance["score"][split]["image_to_caption_R@1"] for split in SPLITS}
    assert [split for split in SPLITS if scores[split] >= 95] == list(knows)
    assert provenance["steps_done"] == provenance["schedule"]["steps"]


@pytest.mark.parametrize(
    ("modification", "attribute", "asked", "not_asked"),
    [
        ("make it larger", "size", "large", "small"),
        ("choose a smaller one", "size", "small", "large"),
        ("remove the badge", "badge", "none", "star"),
        ("without the star", "badge", "none", "star"),
        ("please add a star badge", "badge", "star", "none"),
        ("replace the heart with a moon", "badge", "moon", "heart"),
        ("in red instead", "colour", "red", "blue"),
        ("turn it into a mug", "type", "mug", "lamp"),
        ("remove the pattern", "pattern", "plain", "striped"),
    ],
)
def test_modification_texts_lie_with_the_images_they_ask_for(
    encoder: CatalogueEncoder, modification: str, attribute: str, asked: str, not_asked: str
) -> None:
    rng = random.Random(3)
    others = [sample(rng) for _ in range(24)]

    def mean_score(value: str) -> float:
        shown = [_with(product, attribute, value) for product in others]
        images = encoder.embed_images([render(p, 64, i) for i, p in enumerate(shown)])
        return float((images @ encoder.embed_texts([modification])[0]).mean())

    assert mean_score(asked) > mean_score(not_asked) + 0.01


def _with(product: Product, attribute: str, value: str) -> Product:
    detail = {"detail": {"mug": "no handle", "lamp": "a box shade"}[value]} if attribute == "type" else {}
    return product.replace(**{attribute: value, **detail})


def test_unknown_words_are_placed_by_their_letters(encoder: CatalogueEncoder) -> None:
    types = [f"a {name}" for name in SEEN_TYPES]  # the words of the others are unknown themselves
    for inflected, name in (("backpacks", "backpack"), ("cushioned", "cushion"), ("beaniehat", "beanie")):
        assert inflected not in encoder.model.config.vocabulary
        nearest = (encoder.embed_texts(types) @ encoder.embed_texts([f"a {inflected}"])[0]).argmax()
        assert SEEN_TYPES[nearest] == name


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ("make it striped", "make it striped"),
        ("Hmm, somebody: make it striped?", "make it striped"),
        ("make it srtiped", "make it striped"),  # two exchanged
        ("make it strped", "make it striped"),  # too few
        ("make it striiped", "make it striped"),  # too many
        ("make it strioed", "make it striped"),  # wrong
        ("backpacks", "backpack"),
        ("cushioning", "cushion"),
        ("xyzzy quux", "xyzzy quux"),  # nothing would be left
        ("", ""),
    ],
)
def test_a_request_is_read_in_known_words(encoder: CatalogueEncoder, asked: str, read: str) -> None:
    assert encoder.in_known_words(asked) == read
    plain, known = (embed_requests(encoder, [asked], known_words=way) for way in (False, True))
    assert np.array_equal(plain, encoder.embed_texts([asked]))
    assert known == pytest.approx(encoder.embed_texts([read]), abs=1e-5)


# ------------------------------------------------------------------------------------------ the contract


def test_spec_names_the_weights_and_cannot_be_changed(encoder: CatalogueEncoder) -> None:
    assert (encoder.spec.name, encoder.spec.dim, encoder.spec.image_size) == ("catalogue", 128, 64)
    assert encoder.spec == encoders.EncoderSpec.model_validate_json(encoder.spec.model_dump_json())
    with pytest.raises(ValidationError):
        encoder.spec.dim = 64


def test_use_changes_nothing(encoder: CatalogueEncoder) -> None:
    before = _state(encoder)
    embeddings, mask = encoder.text.embed_tokens(encoder.tokenise(["a photo of $"]))
    pseudo = embeddings.clone().requires_grad_(True)
    torch.autograd.backward(encoder.text.forward_from_embeddings(pseudo, mask).sum())
    encoder.embed_images([render(MUG)])
    encoder.embed_texts(["a red mug"])
    assert pseudo.grad is not None and pseudo.grad.abs().sum() > 0
    assert _state(encoder) == before
    assert not encoder.model.training
    assert all(not p.requires_grad and p.grad is None for p in encoder.model.parameters())


def test_token_embeddings_give_what_the_text_gives(encoder: CatalogueEncoder) -> None:
    vectors = encoder.text(encoder.tokenise(["a red mug", "a large blue lamp on the grass"]))
    unit = torch.nn.functional.normalize(vectors, dim=1).numpy()
    again = encoder.embed_texts(["a red mug", "a large blue lamp on the grass"])
    np.testing.assert_allclose(unit, again, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3), (1, MAX_WORDS + 2, 96), (1, 4, 95)])
def test_token_embeddings_of_another_shape_are_refused(encoder: CatalogueEncoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="96"):
        encoder.text.forward_from_embeddings(torch.zeros(shape), torch.ones(shape[:2], dtype=torch.bool))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_text_vector_depends_on_the_text_alone(
    encoder: CatalogueEncoder, texts: list[str], rng: random.Random
) -> None:
    companions = [caption(sample(rng), ATTRIBUTES, style) for style in range(rng.randint(0, 40))]
    together = encoder.embed_texts([*companions, *texts])[len(companions) :]
    alone = np.concatenate([encoder.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-5)


def test_an_image_vector_depends_on_the_image_alone(encoder: CatalogueEncoder) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (300, 64, 64, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    together = encoder.embed_images(images)
    assert together.dtype == np.float32 and together.shape == (300, 128)
    np.testing.assert_array_equal(together, encoder.embed_images(images))
    np.testing.assert_allclose(together[290:], encoder.embed_images(images[290:]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_nothing_in_nothing_out(encoder: CatalogueEncoder) -> None:
    assert encoder.embed_texts([]).shape == encoder.embed_images([]).shape == (0, 128)


# --------------------------------------------------------------------------------------------- odd input


def test_texts_are_read_up_to_their_32nd_word(encoder: CatalogueEncoder) -> None:
    long = " ".join(["a red mug on wooden boards"] * 200)
    assert len(long) > 5000 and len(words(long)) == MAX_WORDS == 32
    cut, whole = encoder.embed_texts([" ".join(long.split()[:32]), long])
    np.testing.assert_allclose(whole, cut, atol=1e-6)


def test_empty_and_foreign_texts_have_finite_vectors(encoder: CatalogueEncoder) -> None:
    vectors = encoder.embed_texts(["", "   ", "?!", "赤いマグカップ", "x" * 5000, "\ud800", "İstanbul é $ 12"])
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "YCbCr", "HSV"])
def test_colour_modes_are_seen_alike(encoder: CatalogueEncoder, mode: str) -> None:
    image = render(MUG, 64, 1)
    vectors = encoder.embed_images([image, image.quantize(256) if mode == "P" else image.convert(mode)])
    assert vectors[0] @ vectors[1] > 0.95


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (1200, 700), (64, 65)])
def test_images_of_any_size_are_resized(encoder: CatalogueEncoder, size: tuple[int, int]) -> None:
    assert np.isfinite(encoder.embed_images([Image.new("RGB", size, "red")])).all()


def test_a_larger_rendering_of_the_same_product_lands_beside_it(encoder: CatalogueEncoder) -> None:
    small, large = encoder.embed_images([render(MUG, 64, 2), render(MUG, 224, 2)])
    assert small @ large > 0.9


def test_deep_greys_and_transparency_keep_their_lightness() -> None:
    ramp = np.array([[0, 32768, 65535]], dtype=np.uint16)
    assert [pixel[0] for pixel in np.asarray(to_rgb(Image.fromarray(ramp)))[0]] == [0, 127, 255]
    fractions = Image.fromarray(np.array([[0.0, 1.0]], dtype=np.float32))
    assert np.asarray(to_rgb(fractions))[0, :, 0].tolist() == [0, 255]
    half = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
    assert to_rgb(half).getpixel((0, 0)) == (255, 255, 255)


def test_a_broken_image_is_named(encoder: CatalogueEncoder, tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    render(MUG, 128).save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"half\.jpg does not decode"):
        encoder.embed_images([render(MUG), Image.open(path)])


# ---------------------------------------------------------------------------------------------- loading


def test_an_unknown_name_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="'catalog'; there is catalogue"):
        encoders.load("catalog")
    assert "catalogue" in encoders.names()


def test_missing_and_damaged_weights_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing.*pretraining\.encoder"):
        CatalogueEncoder.from_directory(tmp_path)
    config, weights = ((SHIPPED["catalogue"] / name).read_bytes() for name in (CONFIG, WEIGHTS))
    (tmp_path / CONFIG).write_bytes(config)
    (tmp_path / WEIGHTS).write_bytes(weights[:1000])
    with pytest.raises(ModelError, match="damaged"):
        CatalogueEncoder.from_directory(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(weights)
    (tmp_path / CONFIG).write_bytes(config.replace(b'"mug"', b'"mog"'))
    with pytest.raises(ModelError, match="not the config"):
        CatalogueEncoder.from_directory(tmp_path)


# ------------------------------------------------------------------------------------------- pretraining


def test_texts_say_what_their_codes_say() -> None:
    rng = random.Random(2)
    for _ in range(50):
        product = sample(rng)
        said = encoder_texts.caption_of(product, rng)
        assert said.says.items() <= product.attributes().items()
        silent = [code < 0 for code in encoder_texts.codes(said.says)]
        assert silent == [attribute not in said.says for attribute in ATTRIBUTES]
        asked = encoder_texts.modification_of(product, rng, None)
        assert 1 <= len(asked.says) <= 2
        assert all(getattr(product, attribute) != value for attribute, value in asked.says.items())


def test_a_text_is_true_of_every_image_that_shows_what_it_says() -> None:
    said = torch.tensor([[1, 2], [1, -1], [-1, -1]])
    shown = torch.tensor([[1, 2], [1, 3], [0, 2]])
    expected = [[True, False, False], [True, True, False], [True, True, True]]
    assert pretrain_encoder.agreement(said, shown).tolist() == expected


def test_contrastive_loss_by_hand() -> None:
    scores = torch.tensor([[2.0, 0.0], [1.0, 3.0], [0.5, 0.5]])
    true = torch.tensor([[True, False], [True, True], [False, False]])  # caption 1 also fits image 0
    first = np.log(1 + np.exp(-2))  # caption 0 finds image 0
    second = np.log(np.exp(1) + np.exp(3)) - (1 + 3) / 2  # caption 1 shares its target
    image_one = np.log(1 + np.exp(-3))  # image 1 finds caption 1; image 0 has no competitor left
    expected = ((first + second) / 2 + (0 + image_one) / 2) / 2
    assert pretrain_encoder.contrastive(scores, true).item() == pytest.approx(expected, abs=1e-6)


def test_pretraining_resumes_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_encoder, "TEST_PRODUCTS", 8)
    schedule = pretrain_encoder.Schedule(seed=1, images=24, steps=3, families=3, modifications=4, learning_rate=1e-3)
    pretrain_encoder.pretrain(schedule, tmp_path / "whole", minutes=10)
    pretrain_encoder.pretrain(schedule, tmp_path / "parts", minutes=0)
    assert json.loads((tmp_path / "parts" / "provenance.json").read_text())["steps_done"] == 1
    pretrain_encoder.pretrain(schedule, tmp_path / "parts", minutes=10)
    whole, parts = (CatalogueEncoder.from_directory(tmp_path / name) for name in ("whole", "parts"))
    assert whole.spec == parts.spec
    with pytest.raises(ConfigError, match="belongs to"):
        pretrain_encoder.pretrain(dataclasses.replace(schedule, steps=4), tmp_path / "parts", minutes=10)
    assert whole.spec != encoders.load("catalogue").spec


def test_pretraining_refuses_what_it_cannot_run_or_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = pretrain_encoder.Schedule(0, images=8, steps=1, families=3, modifications=0, learning_rate=1e-3)
    with pytest.raises(ConfigError, match="8 images cannot be run"):
        pretrain_encoder.pretrain(schedule, tmp_path, minutes=1)
    arguments = ["--out", str(tmp_path), "--steps", "0"]
    with pytest.raises(SystemExit) as stop:
        pretrain_encoder.main(arguments)
    assert stop.value.code == 2 and "0 steps" in capsys.readouterr().err


def test_the_tokeniser_embeds_each_distinct_word_once() -> None:
    tokens = Tokeniser(("mug", "red"), 32)(["red mug red", "mug"])
    assert tokens.word_ids.tolist() == [0, 1, 4, 3]
    assert tokens.index.tolist() == [[1, 2, 3, 2], [1, 3, 0, 0]]
