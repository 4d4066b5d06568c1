"""Which inputs a stage flow takes where none are given, and which it refuses. No server: inputs are the lake's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.inputs import for_distill, for_embed, for_finetune, for_generate, for_invert, for_seed, for_train
from scot_core.config import DistillConfig, EmbedConfig
from scot_core.errors import ConfigError, LakeError, ScotError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint


@dataclass(frozen=True)
class Generation:
    """One regeneration's datasets."""

    captions: Dataset
    galleries: Dataset
    seeds: Dataset
    adapters: Dataset
    triplets: Dataset
    images: Dataset
    texts: Dataset
    gallery: Dataset


@pytest.fixture
def place(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def add(lake: Lake, table: str, stage: str, number: int, *inputs: Dataset, encoder: str = "small") -> Dataset:
    """An empty dataset; another `number` is another configuration."""
    config = {"number": number, "spec": {"name": encoder}}
    seal = fingerprint(stage, 1, config, [d.fingerprint for d in inputs])
    return lake.draft(Identity(table, "shop", stage, seal, config, [d.reference for d in inputs])).commit(0, rows_in=0)


def draw(lake: Lake, number: int) -> tuple[Dataset, Dataset]:
    """Captions, and the images of their benchmark."""
    return add(lake, "galleries", "captions", number), add(lake, "captions", "captions", number)


def write(lake: Lake, captions: Dataset, adapters: Dataset, number: int = 0) -> Dataset:
    """Generated triplets, by way of their replies."""
    return add(lake, "triplets", "generate", number, add(lake, "replies", "generate", number, captions, adapters))


def embed(lake: Lake, made: Dataset, stage: str, encoder: str = "small") -> Dataset:
    return add(lake, "embeddings", stage, 0, made, encoder=encoder)


def regenerate(lake: Lake, number: int) -> Generation:
    galleries, captions = draw(lake, number)
    seeds = add(lake, "triplets", "seed", 0, add(lake, "replies", "seed", 0, captions))
    adapters = add(lake, "adapters", "finetune", 0, captions, seeds)
    triplets = write(lake, captions, adapters)
    images = embed(lake, captions, "embed-images")
    texts = embed(lake, triplets, "embed-texts")
    gallery = embed(lake, galleries, "embed-gallery")
    return Generation(captions, galleries, seeds, adapters, triplets, images, texts, gallery)


def names(*datasets: Dataset | None) -> list[str | None]:
    return [None if dataset is None else dataset.name for dataset in datasets]


def test_new_captions_alone_change_nothing_of_what_later_stages_take(place: Lake) -> None:
    old = regenerate(place, 1)
    _, new = draw(place, 2)
    assert for_seed(place, None).name == new.name
    assert names(*for_finetune(place, None, None)) == names(old.captions, old.seeds)
    assert names(*for_generate(place, None, None)) == names(old.captions, old.adapters)
    pictures, written = for_embed(place, None, None, None)
    assert names(pictures.captions, pictures.galleries, written) == names(old.captions, old.galleries, old.triplets)
    learned_from, vectors = for_train(place, None, None, None, None)
    assert names(learned_from, vectors.images, vectors.texts, vectors.gallery) == names(
        old.triplets, old.images, old.texts, old.gallery
    )


def test_one_input_is_enough_to_find_the_others(place: Lake) -> None:
    old = regenerate(place, 1)
    regenerate(place, 2)
    assert names(*for_finetune(place, old.captions.key, None)) == names(old.captions, old.seeds)
    assert names(*for_finetune(place, None, old.seeds.key)) == names(old.captions, old.seeds)
    assert names(*for_generate(place, old.captions.key, None)) == names(old.captions, old.adapters)
    assert names(*for_generate(place, None, old.adapters.key)) == names(old.captions, old.adapters)
    for given in ((old.captions.key, None, None), (None, old.galleries.key, None), (None, None, old.triplets.key)):
        pictures, written = for_embed(place, *given)
        assert names(pictures.captions, pictures.galleries, written) == names(old.captions, old.galleries, old.triplets)
    keys = (old.triplets.key, old.images.key, old.texts.key, old.gallery.key)
    for index in range(4):
        learned_from, vectors = for_train(place, *(key if index == n else None for n, key in enumerate(keys)))
        assert (learned_from.key, vectors.images.key, vectors.texts.key, vectors.gallery.key) == keys  # type: ignore[union-attr]


def test_invert_and_distill_take_what_was_embedded_last_and_what_was_inverted_of_it(place: Lake) -> None:
    old, new = regenerate(place, 1), regenerate(place, 2)
    words = {each: add(place, "pseudo_tokens", "invert", 0, each.images) for each in (old, new)}
    _, drawn = draw(place, 3)  # captions that nothing was made of yet
    captions, encoder = for_invert(place, None, None)
    assert captions.name == new.captions.name and encoder == EmbedConfig()
    assert for_invert(place, old.captions.key, None)[0].name == old.captions.name
    other = EmbedConfig(encoder="clip-b32")
    taken, chosen = for_invert(place, None, other)
    assert (taken.name, chosen) == (drawn.name, other)
    searle, pic2word = DistillConfig(), DistillConfig(method="pic2word")
    assert names(*for_distill(place, searle, None, None, None)[::2]) == names(new.captions, words[new])
    assert names(*for_distill(place, searle, old.captions.key, None, None)[::2]) == names(old.captions, words[old])
    assert names(*for_distill(place, searle, None, None, words[old].key)[::2]) == names(old.captions, words[old])
    assert names(*for_distill(place, pic2word, None, None, None)[::2]) == names(new.captions, None)
    with pytest.raises(ConfigError):
        for_distill(place, searle, old.captions.key, None, words[new].key)
    with pytest.raises(LakeError):
        for_distill(place, searle, drawn.key, None, None)


@pytest.mark.parametrize("given", ["captions", "images"])
def test_a_generation_that_lost_its_captions_is_in_nobodys_way(place: Lake, tmp_path: Path, given: str) -> None:
    old, new = regenerate(place, 1), regenerate(place, 2)
    shutil.rmtree(tmp_path / "lake" / new.captions.name)
    if given == "captions":
        pictures, written = for_embed(place, old.captions.key, None, None)
        assert names(pictures.captions, written) == names(old.captions, old.triplets)
    else:
        learned_from, vectors = for_train(place, None, old.images.key, None, None)
        assert names(learned_from, vectors.texts) == names(old.triplets, old.texts)
    with pytest.raises(LakeError, match=f"{new.captions.name}, which .* is no longer in"):
        for_embed(place, None, None, new.triplets.key)


def test_vectors_are_of_one_encoder_and_of_the_very_triplets(place: Lake) -> None:
    made = regenerate(place, 1)
    other = embed(place, made.captions, "embed-images", encoder="large")
    again = write(place, made.captions, made.adapters, number=7)
    assert for_train(place, None, None, None, None)[1].images.name == made.images.name
    refused(lambda: for_train(place, None, other.key, made.texts.key, None), other.name, made.texts.name, "encoders")
    refused(lambda: for_train(place, again.key, None, made.texts.key, None), again.name, made.triplets.name)
    with pytest.raises(LakeError, match=f"triplets/{again.key}: run scot/embed"):
        for_train(place, again.key, None, None, None)


def refused(take: Callable[[], object], *words: str) -> None:
    with pytest.raises(ConfigError) as error:
        take()
    for word in words:
        assert word in str(error.value)


def test_inputs_of_two_generations_are_refused_by_name(place: Lake) -> None:
    old, new = regenerate(place, 1), regenerate(place, 2)
    both = (old.captions.name, new.captions.name)
    refused(lambda: for_finetune(place, new.captions.key, old.seeds.key), old.seeds.name, *both)
    refused(lambda: for_embed(place, new.captions.key, None, old.triplets.key), old.triplets.name, *both)
    refused(
        lambda: for_embed(place, None, new.galleries.key, old.triplets.key),
        old.triplets.name, new.galleries.name, *both,
    )  # fmt: skip
    for given in (
        (old.triplets.key, new.images.key, None, None),
        (old.triplets.key, None, new.texts.key, None),
        (None, new.images.key, old.texts.key, None),
        (old.triplets.key, None, None, new.gallery.key),
    ):
        refused(lambda given=given: for_train(place, *given), *both)  # type: ignore[misc]


def test_one_model_may_write_for_other_captions_but_only_where_both_are_named(place: Lake) -> None:
    old = regenerate(place, 1)
    galleries, new = draw(place, 2)
    assert names(*for_generate(place, new.key, old.adapters.key)) == names(new, old.adapters)
    with pytest.raises(LakeError, match=f"from captions/{new.key}: run scot/finetune"):
        for_generate(place, new.key, None)
    written = write(place, new, old.adapters)  # of the new captions, not of those its adapter was tuned on
    pictures, _ = for_embed(place, None, None, written.key)
    assert names(pictures.captions, pictures.galleries) == names(new, galleries)


def test_captions_without_a_benchmark_have_no_gallery_and_what_is_missing_is_said(place: Lake) -> None:
    captions = add(place, "captions", "captions", 1)
    with pytest.raises(LakeError, match="no triplets of stage generate"):
        for_embed(place, None, None, None)
    adapters = add(place, "adapters", "finetune", 0, captions)
    triplets = write(place, captions, adapters)
    assert for_embed(place, None, None, None)[0].galleries is None
    texts = embed(place, triplets, "embed-texts")
    with pytest.raises(LakeError, match=rf"no embeddings of stage embed-images of {captions.name}.*run scot/embed"):
        for_train(place, None, None, None, None)
    embed(place, captions, "embed-images")
    assert for_train(place, None, None, texts.key, None)[1].gallery is None
    with pytest.raises(ScotError, match="triplets/nowhere-1 is not in the lake"):
        for_embed(place, None, None, "nowhere-1")
