"""Tiny random encoders of the published architectures: one protocol, the publishers' own numbers, frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import normalize

from scot_core import encoders
from scot_core.config.settings import settings
from scot_core.encoders.pretrained import PretrainedEncoder
from scot_core.errors import ConfigError, DataError, ModelError
from scot_core.lake.fingerprint import digest
from tests.tiny_encoders import IMAGE_SIZE, NAMES, save

TEXTS = ["a red mug", "Make it (larger)!", "", "zebra 42, with a very-long tail " * 30, "blue lamp"]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`SCOT_WEIGHTS` with one tiny encoder of each name."""
    place = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOT_WEIGHTS", str(place))
        settings.cache_clear()
        for name in NAMES:
            save(name, place / name)
        yield place
    settings.cache_clear()


@pytest.fixture(scope="module")
def load() -> Callable[..., PretrainedEncoder]:
    kept: dict[Any, PretrainedEncoder] = {}

    def make(name: str, **options: Any) -> PretrainedEncoder:
        key = (name, *options.items())
        if key not in kept:
            loaded = encoders.load(name, **options)
            assert isinstance(loaded, PretrainedEncoder)
            kept[key] = loaded
        return kept[key]

    return make


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    shapes = rng.integers(20, 90, (count, 2))
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in shapes]


def state(encoder: PretrainedEncoder) -> str:
    return digest(b"".join(value.numpy().tobytes() for value in encoder.model.state_dict().values()))


# ------------------------------------------------------------------------------------------ one protocol


@pytest.mark.parametrize("name", NAMES)
def test_images_and_texts_become_unit_vectors_of_one_space(load: Callable[..., PretrainedEncoder], name: str) -> None:
    encoder = load(name)
    for vectors in (encoder.embed_images(pictures(5)), encoder.embed_texts(TEXTS)):
        assert vectors.dtype == np.float32 and vectors.shape == (5, encoder.spec.dim)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert np.linalg.matrix_rank(vectors, tol=1e-4) == 5  # different inputs, different vectors
    assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, encoder.spec.dim)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_does_not_depend_on_its_companions(load: Callable[..., PretrainedEncoder], name: str) -> None:
    encoder, images = load(name), pictures(7)
    alone = np.concatenate([encoder.embed_images([image]) for image in images])
    np.testing.assert_allclose(encoder.embed_images(images), alone, atol=1e-5)
    alone = np.concatenate([encoder.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), alone, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_spec_is_known_without_the_weights_and_says_which_they_are(
    load: Callable[..., PretrainedEncoder], name: str, folder: Path
) -> None:
    spec = encoders.spec_of(name)
    assert spec == load(name).spec == encoders.EncoderSpec.model_validate_json(spec.model_dump_json())
    assert (spec.name, spec.image_size, spec.precision) == (name, IMAGE_SIZE, "float32")
    assert encoders.load(name, revision=spec.revision).spec == spec
    with pytest.raises(ModelError, match="holds the weights"):
        encoders.load(name, revision="0" * 32)


@pytest.mark.parametrize("name", NAMES)
def test_frozen(load: Callable[..., PretrainedEncoder], name: str) -> None:
    encoder = load(name)
    before = state(encoder)
    encoder.embed_images(pictures(3))
    encoder.embed_texts(TEXTS)
    assert state(encoder) == before
    assert not any(module.training for module in encoder.model.modules())
    assert all(not p.requires_grad and p.grad is None for p in encoder.model.parameters())


# ------------------------------------------------------------------------- the publishers' own numbers


def reference(name: str, folder: Path, cls: Any) -> tuple[Any, Any]:
    place = str(folder / name)
    return cls.from_pretrained(place).eval(), transformers.AutoTokenizer.from_pretrained(place)


def processed(processor: Any, images: list[Image.Image]) -> torch.Tensor:
    return torch.cat([processor(images=image, return_tensors="pt")["pixel_values"] for image in images])


SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


@torch.no_grad()
def test_blip2_is_transformers_pair_of_projected_models(load: Callable[..., PretrainedEncoder], folder: Path) -> None:
    images, texts = pictures(4), ["a red mug", "make it larger please"]
    vision, tokenizer = reference("blip2", folder, transformers.Blip2VisionModelWithProjection)
    queries = vision(pixel_values=processed(transformers.BlipImageProcessorPil(size=SQUARE), images)).image_embeds
    assert queries.shape == (4, 5, 16)
    encoder = load("blip2")
    np.testing.assert_allclose(encoder.embed_images(images), normalize(queries.mean(1), dim=1), atol=1e-5)
    first = load("blip2", pooling="first")
    np.testing.assert_allclose(first.embed_images(images), queries[:, 0], atol=1e-5)
    assert (encoder.spec.pooling, first.spec.pooling) == ("mean", "first")
    text_model, _ = reference("blip2", folder, transformers.Blip2TextModelWithProjection)
    for text, ours in zip(texts, encoder.embed_texts(texts), strict=True):
        tokens = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        assert tokens["input_ids"][0, 0] == tokenizer.cls_token_id  # no query or image tokens before it
        np.testing.assert_allclose(ours, text_model(**tokens).text_embeds[0, 0], atol=1e-5)


@torch.no_grad()
def test_blip_scores_as_transformers_scores(load: Callable[..., PretrainedEncoder], folder: Path) -> None:
    images, texts = pictures(3), ["a red mug", "make it larger please"]
    model, tokenizer = reference("blip", folder, transformers.BlipForImageTextRetrieval)
    tokens = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    pixels = processed(transformers.BlipImageProcessorPil(size=SQUARE), images)
    expected = model(pixel_values=pixels, **tokens, use_itm_head=False).itm_score
    encoder = load("blip")
    np.testing.assert_allclose(encoder.embed_images(images) @ encoder.embed_texts(texts).T, expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "model_class", "processor"),
    [
        (
            "clip-b32",
            transformers.CLIPModel,
            transformers.CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=SQUARE),
        ),
        ("siglip2", transformers.SiglipModel, transformers.SiglipImageProcessorPil(size=SQUARE, resample=2)),
    ],
)
def test_clip_and_siglip_embed_as_transformers_embeds(
    load: Callable[..., PretrainedEncoder], folder: Path, name: str, model_class: Any, processor: Any
) -> None:
    images, texts = pictures(3), ["a red mug", "make it larger please"]
    model, tokenizer = reference(name, folder, model_class)
    length = {"padding": "max_length", "max_length": 64} if name == "siglip2" else {"padding": True}
    tokens = tokenizer(texts, return_tensors="pt", **length)
    ids = {"input_ids": tokens["input_ids"]} if name == "siglip2" else dict(tokens)
    outputs = model(pixel_values=processed(processor, images), **ids)
    encoder = load(name)
    np.testing.assert_allclose(encoder.embed_images(images), outputs.image_embeds, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_texts(texts), outputs.text_embeds, atol=1e-5)


def test_captions_reach_blip_cleaned_and_cut(load: Callable[..., PretrainedEncoder]) -> None:
    for name in ("blip", "blip2"):
        odd, plain = load(name).embed_texts(['  "A RED (mug)!!!  ', "a red mug"])
        np.testing.assert_allclose(odd, plain, atol=1e-6)
    shorter, cut, whole = load("blip2").embed_texts(["red " * 45, "red " * 50, "red " * 70])  # at 50 words, as LAVIS
    np.testing.assert_allclose(cut, whole, atol=1e-6)
    assert np.abs(shorter - cut).max() > 1e-6


def test_siglip_reads_lower_case(load: Callable[..., PretrainedEncoder]) -> None:
    upper, lower = load("siglip2").embed_texts(["A RED MUG", "a red mug"])
    np.testing.assert_allclose(upper, lower, atol=1e-6)


# -------------------------------------------------------------------------------- precision and memory


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_only_the_vision_tower_is_in_reduced_precision(
    load: Callable[..., PretrainedEncoder], name: str, precision: str
) -> None:
    exact, reduced = load(name), load(name, precision=precision)
    assert reduced.spec.precision == precision and reduced.spec != exact.spec
    images = pictures(4)
    exactly, nearly = exact.embed_images(images), reduced.embed_images(images)
    assert np.abs(exactly - nearly).max() > 0
    assert (exactly * nearly).sum(1).min() > 0.98
    np.testing.assert_allclose(exact.embed_texts(TEXTS), reduced.embed_texts(TEXTS), atol=1e-6)
    assert {p.dtype for p in reduced.model.parameters()} == {torch.float32}


@hypothesis_settings(max_examples=20, deadline=None)
@given(rows=st.integers(0, 23), fit=st.integers(1, 30))
def test_what_does_not_fit_is_halved_and_nothing_is_lost(rows: int, fit: int) -> None:
    encoder = encoders.load("clip-b32")
    assert isinstance(encoder, PretrainedEncoder)
    images = pictures(rows)
    expected = encoder.embed_images(images)
    real, sizes = encoder.model.vision_model.forward, []

    def small_device(pixel_values: torch.Tensor, **rest: Any) -> Any:
        sizes.append(len(pixel_values))
        if len(pixel_values) > fit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(pixel_values=pixel_values, **rest)

    encoder.model.vision_model.forward = small_device
    np.testing.assert_allclose(encoder.embed_images(images), expected, atol=1e-5)
    tries = len(sizes)
    encoder.embed_images(images)
    assert all(size <= fit for size in sizes[tries:])  # the size that fits is remembered


def test_one_image_that_does_not_fit_is_an_error_that_says_so() -> None:
    encoder = encoders.load("blip2")
    assert isinstance(encoder, PretrainedEncoder)

    def no_memory(**_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    encoder.model.vision_model.forward = no_memory
    with pytest.raises(ModelError, match="does not hold one image: free it"):
        encoder.embed_images(pictures(3))


# ---------------------------------------------------------------------------------------------- refusals


def test_unknown_options_are_answered_with_those_that_exist(load: Callable[..., PretrainedEncoder]) -> None:
    with pytest.raises(ConfigError, match=r"'maxsim'; there is mean, first"):
        encoders.load("blip2", pooling="maxsim")
    with pytest.raises(ConfigError, match=r"'bfloat16'; there is 'float32'"):
        encoders.load("catalogue", precision="bfloat16")
    with pytest.raises(ModelError, match="the shipped encoder catalogue has the weights"):
        encoders.load("catalogue", revision="0" * 32)
    assert encoders.spec_of("catalogue") == encoders.load("catalogue").spec


def test_a_broken_image_is_named(load: Callable[..., PretrainedEncoder], tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    pictures(1)[0].resize((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"half\.jpg does not decode"):
        load("clip-b32").embed_images([Image.open(path)])
