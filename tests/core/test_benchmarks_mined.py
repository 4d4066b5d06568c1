"""Queries that held-out captions give by themselves."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.benchmarks.mined import MIXED, SEEN, STRICT, UNSEEN, HeldOut, MinedQueries, build, hold_out
from scot_core.benchmarks.reported import beside
from scot_core.errors import ConfigError, DataError
from scot_core.triplets.mining import MinedEdit, mine
from scot_core.triplets.spans import key

TONES = ("dark", "light", "medium", "medium-light")
JOBS = ("judge", "farmer", "pilot", "cook", "singer", "student")
CAPTIONS = [
    (f"{style}/{who}-{job}-{tone}.png", f"{who} {job} with {tone} skin tone")
    for who in ("man", "woman")
    for job in JOBS
    for tone in TONES
    for style in ("flat", "round")
]
CAPTION = dict(CAPTIONS)


def held_by(images: set[str]) -> HeldOut:
    """As `hold_out` gives it, of chosen images."""
    whole = hold_out([row for row in CAPTIONS if row[0] in images], 1 - 1e-12, 0)
    assert whole.images == images
    return whole


def built(held: HeldOut, tmp_path: Path, limit: int = 50) -> MinedQueries:
    return build(CAPTIONS, held, limit=limit, seed=0, work=tmp_path)


# ---------------------------------------------------------------------------------------------- held out


@settings(deadline=None)
@given(st.randoms(), st.floats(0.05, 0.95), st.integers(0, 9))
def test_holding_out_goes_by_the_words_and_not_by_the_order(rng: random.Random, share: float, seed: int) -> None:
    rows = [*CAPTIONS, *((f"copy/{image}", caption.upper() + ".") for image, caption in CAPTIONS)]
    held = hold_out(rows, share, seed)
    assert held == hold_out(rng.sample(rows, len(rows)), share, seed)
    for image, caption in CAPTIONS:
        assert (image in held.images) == (f"copy/{image}" in held.images) == held.holds(caption)
        assert held.trains(image, caption) != held.holds(caption)


def test_about_the_share_is_held_out() -> None:
    rows = [(str(i), f"caption number {i}") for i in range(4000)]
    assert 0.17 < len(hold_out(rows, 0.2, 0).images) / 4000 < 0.23
    several = [(str(i // 5), f"caption number {i}") for i in range(20000)]
    assert 0.17 < len(hold_out(several, 0.2, 0).images) / 4000 < 0.23


def test_an_image_is_held_out_with_all_its_captions() -> None:
    rows = [(f"image{i // 3}", f"{word} thing {i}") for i, word in enumerate(["red", "blue", "green"] * 60)]
    rows += [("elsewhere", rows[0][1])]
    held = hold_out(rows, 0.5, 0)
    for image, caption in rows:
        assert image not in held.images or held.holds(caption)
        assert not (held.trains(image, caption) and held.holds(caption))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_of_none_or_all_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        hold_out(CAPTIONS, share, 0)


def test_nothing_held_out_is_in_a_training_edit(tmp_path: Path) -> None:
    held = hold_out(CAPTIONS, 0.3, 0)
    rows = [row for row in CAPTIONS if held.trains(*row)]
    found = [
        row
        for row in mine(rows, per_caption=8, seed=0, work=tmp_path, allowed=lambda text: not held.holds(text))
        if isinstance(row, MinedEdit)
    ]
    assert len(found) > len(rows)
    assert not any(held.holds(row.caption) or held.holds(row.modified_caption) for row in found)


# ----------------------------------------------------------------------------------------------- queries


def test_reference_and_targets_are_images_one_edit_apart(tmp_path: Path) -> None:
    held = hold_out(CAPTIONS, 0.4, 0)
    benchmark = built(held, tmp_path).benchmark
    assert benchmark.gallery == tuple(sorted(CAPTION))
    for query in benchmark.queries:
        before, after = CAPTION[query.reference].split(), CAPTION[query.targets[0]].split()
        assert len(before) == len(after) and sum(a != b for a, b in zip(before, after, strict=True)) <= 2
        assert {CAPTION[target] for target in query.targets} == {CAPTION[query.targets[0]]}
        assert len(query.targets) == 2 and query.reference not in query.targets
        assert held.images >= {query.reference, *query.targets}
    assert benchmark.queries == built(held, tmp_path).benchmark.queries
    reordered = build(CAPTIONS[::-1], held, limit=50, seed=0, work=tmp_path)
    assert reordered.benchmark.queries == benchmark.queries


def test_folders_of_the_references_are_splits(tmp_path: Path) -> None:
    benchmark = built(hold_out(CAPTIONS, 0.4, 0), tmp_path).benchmark
    splits = benchmark.splits
    assert {name for name in splits if name.startswith("folder: ")} == {"folder: flat", "folder: round"}
    for place in splits["folder: flat"]:
        assert benchmark.queries[place].reference.startswith("flat/")
    assert len(splits["folder: flat"]) + len(splits["folder: round"]) == len(splits["all"])
    bare = [(image.partition("/")[2], caption) for image, caption in CAPTIONS if image.startswith("flat/")]
    alone = build(bare, hold_out(bare, 0.4, 0), limit=50, seed=0, work=tmp_path).benchmark
    assert not [name for name in alone.splits if name.startswith("folder: ")]


def test_references_one_may_learn_from_are_used_where_the_others_are_too_few(tmp_path: Path) -> None:
    held = held_by({image for image in CAPTION if "woman-pilot-dark" in image or "man-judge-light" in image[:20]})
    benchmark = built(held, tmp_path).benchmark
    assert set(benchmark.splits) >= {MIXED, "replace", "all"}
    for query in benchmark.queries:
        assert (query.reference in held.images) == (STRICT in query.groups)
        assert held.images >= set(query.targets)


def test_an_edit_is_seen_where_captions_for_training_show_it(tmp_path: Path) -> None:
    held = held_by({image for image in CAPTION if "pilot" in image or "cook" in image})
    queries = built(held, tmp_path, limit=200).benchmark.queries
    seen = {
        frozenset(CAPTION[q.reference].split()) ^ frozenset(CAPTION[q.targets[0]].split())
        for q in queries
        if SEEN in q.groups
    }
    unseen = {
        frozenset(CAPTION[q.reference].split()) ^ frozenset(CAPTION[q.targets[0]].split())
        for q in queries
        if UNSEEN in q.groups
    }
    assert {"man", "woman"} in seen and {"dark", "light"} in seen
    assert {"pilot", "cook"} in unseen and not seen & unseen


def test_a_text_that_leads_to_two_captions_is_no_query(tmp_path: Path) -> None:
    rows = [(f"{a}-{b}", f"couple with {a} tone and {b} tone") for a in TONES for b in TONES if a != b]
    held = HeldOut(frozenset(dict(rows)), hold_out(rows, 1 - 1e-12, 0).captions)
    found = build(rows, held, limit=500, seed=0, work=tmp_path)
    assert found.dropped["ambiguous"] > 0
    assert all(q.modification not in TONES for q in found.benchmark.queries if _is_twofold(q.reference, q.modification))


def _is_twofold(reference: str, text: str) -> bool:
    """Whether a tone alone may replace either tone of a couple."""
    return text in set(TONES) - set(reference.split("-", 1))


def test_an_image_that_has_the_wanted_caption_itself_is_no_reference(tmp_path: Path) -> None:
    rows = [("both", "a red dog"), ("both", "a blue dog"), ("other", "a green dog"), ("last", "a green cat")]
    held = HeldOut(frozenset(dict(rows)), hold_out(rows, 1 - 1e-12, 0).captions)
    found = build(rows, held, limit=50, seed=0, work=tmp_path)
    assert found.dropped["answered"] > 0
    assert all(query.reference not in query.targets for query in found.benchmark.queries)


def test_captions_without_neighbours_give_no_benchmark(tmp_path: Path) -> None:
    rows = [("1", "a red dog"), ("2", "two ships far away"), ("3", "one old harbour at noon")]
    with pytest.raises(DataError, match="larger share"):
        build(rows, hold_out(rows, 0.5, 1), limit=5, seed=0, work=tmp_path)


def test_scores_leave_the_reference_out(tmp_path: Path) -> None:
    held = hold_out(CAPTIONS, 0.4, 0)
    benchmark = built(held, tmp_path).benchmark
    words = sorted({word for caption in CAPTION.values() for word in key(caption).split()})
    gallery = np.array([[word in key(CAPTION[image]).split() for word in words] for image in benchmark.gallery], float)
    perfect = np.array([gallery[benchmark.index[query.targets[0]]] for query in benchmark.queries])
    assert benchmark.score(perfect, gallery) == {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0}
    image_only = np.array([gallery[benchmark.index[query.reference]] for query in benchmark.queries])
    noise = np.random.default_rng(0).normal(size=(len(gallery), 8)) * 1e-3  # the reference is the best of all
    assert (
        benchmark.score(np.hstack([image_only, noise[benchmark.reference_indices()]]), np.hstack([gallery, noise]))[
            "R@1"
        ]
        == 0
    )
    rows = benchmark.evaluate(perfect, gallery)
    assert {row.split for row in rows} == set(benchmark.splits)
    assert list(benchmark.splits)[-1] == "all"


def test_no_published_row_is_beside_it() -> None:
    for name in ("mined", "own"):
        row = {"benchmark": name, "encoder": "blip2", "split": "all", "metric": "R@10", "method": "scot", "value": 1.0}
        assert beside([row]) == []
