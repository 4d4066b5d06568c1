"""One BLIP-2, twice: by LAVIS in its own environment, by transformers in this one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.lavis.conftest import HERE, THERE, Arrays, Both, needs_lavis

TOLERANCE = 1e-5

pytestmark = [needs_lavis, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module", params=["small", "full_size"])
def both(request: pytest.FixtureRequest) -> Both:
    """Two folders of the same random weights, of all shapes small, then of the shapes that are published."""
    found: Both = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def ours(both: Both) -> Arrays:
    return both.embed(HERE, "embed_samples.py", "blip2")


@pytest.fixture(scope="module")
def theirs(both: Both) -> Arrays:
    return both.embed(THERE, "embed_samples.py", "lavis-blip2")


def test_pixels_are_the_same_numbers(ours: Arrays, theirs: Arrays) -> None:
    np.testing.assert_array_equal(ours["pixels"], theirs["pixels"])


@pytest.mark.parametrize("what", ["mean", "first", "texts"])
def test_vectors_are_the_same(what: str, ours: Arrays, theirs: Arrays, both: Both) -> None:
    here, there = ours[what].astype(np.float64), theirs[what].astype(np.float64)
    apart = np.abs(here - there).max()
    print(f"\n{what}: {here.shape[0]} vectors of {here.shape[1]}, at most {apart:.1e} apart")
    assert apart < TOLERANCE
    likeness = here @ here.T
    assert likeness.min() < 0.95, "weights that give one vector for everything would prove nothing"


def test_specs_differ_in_name_and_weight_files_only(ours: Arrays, theirs: Arrays) -> None:
    here, there = (json.loads(str(arrays["spec"])) for arrays in (ours, theirs))
    assert {key for key in here if here[key] != there[key]} == {"name", "revision"}


@pytest.mark.parametrize("both", ["full_size"], indirect=True)
def test_our_lavis_is_lavis(both: Both, theirs: Arrays) -> None:
    """LAVIS itself builds no other size."""
    stock = both.embed(THERE, "embed_stock.py", "lavis-blip2")
    tokens, texts = stock["tokens"].astype(np.float64), stock["texts"].astype(np.float64)
    mean = tokens.mean(1)
    expected = {
        "mean": mean / np.linalg.norm(mean, axis=1, keepdims=True),
        "first": tokens[:, 0],
        "texts": texts,
    }
    apart = {
        what: float(np.abs(vectors - theirs[what][: len(vectors)].astype(np.float64)).max())
        for what, vectors in expected.items()
    }
    print(f"\nload_model_and_preprocess: {', '.join(f'{what} {value:.1e}' for what, value in apart.items())} apart")
    assert max(apart.values()) < TOLERANCE
