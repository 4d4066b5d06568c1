"""Drawings: every attribute shows, and the same arguments give the same pixels."""

from __future__ import annotations

import random

import numpy as np
import pytest

from scot_core.catalogue import world
from scot_core.catalogue.drawing import render
from scot_core.catalogue.drawing.colours import PALETTE
from scot_core.catalogue.world import Product, sample, values
from scot_core.errors import DataError

MUG = Product("mug", "red", "striped", "a round handle", "star", "large", "wood")


def pixels(product: Product, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.asarray(render(product, size, seed), dtype=np.int16)


@pytest.mark.parametrize("size", [16, 33, 64, 128])
def test_shape_and_mode(size: int) -> None:
    image = render(MUG, size, seed=3)
    assert image.mode == "RGB"
    assert image.size == (size, size)


def test_same_arguments_same_pixels() -> None:
    rng = random.Random(0)
    for seed in range(20):
        product = sample(rng)
        first = pixels(product, seed=seed)
        assert np.array_equal(first, pixels(product, seed=seed))
        assert np.abs(first - pixels(product, seed=seed + 1)).mean() > 1


@pytest.mark.parametrize("attribute", ["colour", "pattern", "detail", "badge", "size", "background"])
@pytest.mark.parametrize("product_type", world.TYPES)
def test_every_value_shows(attribute: str, product_type: str) -> None:
    product = Product(product_type, "green", "plain", values("detail", product_type)[0], "none", "large", "white")
    drawn = [pixels(product.replace(**{attribute: value})) for value in values(attribute, product_type)]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            # At least half a percent of the pixels must differ clearly.
            assert (np.abs(one - other).max(axis=2) > 30).mean() > 0.005


def test_types_show() -> None:
    for i, one in enumerate(world.TYPES):
        for other in world.TYPES[:i]:
            a, b = (
                pixels(Product(t, "blue", "plain", values("detail", t)[1], "none", "large", "white"))
                for t in (one, other)
            )
            assert (np.abs(a - b).max(axis=2) > 30).mean() > 0.02


@pytest.mark.parametrize("colour", world.COLOURS)
def test_the_product_has_its_colour(colour: str) -> None:
    product = Product("cushion", colour, "plain", "square corners", "none", "large", "white")
    centre = pixels(product, seed=1)[28:40, 28:40].reshape(-1, 3).mean(axis=0)
    nearest = min(PALETTE, key=lambda name: float(np.abs(centre - PALETTE[name]).sum()))
    assert nearest == colour


def test_large_covers_more_than_small() -> None:
    plain = Product("cushion", "black", "plain", "square corners", "none", "small", "white")
    small, large = ((pixels(p) < 90).all(axis=2).mean() for p in (plain, plain.replace(size="large")))
    assert large > 2 * small


def test_too_small_to_draw() -> None:
    with pytest.raises(DataError, match="at least 16"):
        render(MUG, size=8)
