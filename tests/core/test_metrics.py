"""Metrics worked out by hand, and properties of the bootstrap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.metrics import average_precision_at, bootstrap_interval, mean_over, paired_interval, recall_at


def test_recall_counts_a_rank_below_k() -> None:
    assert recall_at([0, 4, 5, -1], 5).tolist() == [1, 1, 0, 0]
    assert recall_at([[7, 2], [9, -1], [-1, -1]], 3).tolist() == [1, 0, 0]
    assert recall_at(np.zeros((2, 0), dtype=int), 1).tolist() == [0, 0]
    assert recall_at([2], 1000).tolist() == [1]


def test_average_precision_by_hand() -> None:
    # Ground truths at positions 1, 3 and 6 (1-based): precisions 1/1, 2/3, 3/6.
    ranks = [[5, 0, 2]]
    assert average_precision_at(ranks, 5, [3])[0] == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision_at(ranks, 10, [3])[0] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    # min(K, ground truths): 12 in all, of which only three are found, and K = 5.
    assert average_precision_at(ranks, 5, [12])[0] == pytest.approx((1 + 2 / 3) / 5)
    # A ground truth outside the gallery still counts below the line.
    assert average_precision_at([[0, -1]], 5, [2])[0] == pytest.approx(1 / 2)
    assert average_precision_at([[-1, -1]], 5, [2])[0] == 0
    assert average_precision_at([[0]], 1, [1])[0] == 1


def published_average_precision(labels: list[bool], k: int, positives: int) -> float:
    """Straight from the definition: precision at each hit among the first k."""
    hits, total = 0, 0.0
    for position, label in enumerate(labels[:k], start=1):
        if label:
            hits += 1
            total += hits / position
    return total / min(k, positives)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any), st.integers(1, 40), st.integers(0, 3))
def test_average_precision_is_its_definition(labels: list[bool], k: int, unseen: int) -> None:
    ranks = [i for i, label in enumerate(labels) if label]
    positives = len(ranks) + unseen
    padded = [*reversed(ranks), *[-1] * unseen]
    value = average_precision_at([padded], k, [positives])[0]
    assert value == pytest.approx(published_average_precision(labels, k, positives))
    assert 0 <= value <= 1


def test_each_query_has_a_value_of_its_own() -> None:
    table, positives = [[4, 0], [-1, 2], [-1, -1]], [2, 5, 1]
    together = average_precision_at(table, 4, positives)
    assert together.tolist() == [
        average_precision_at([row], 4, [n])[0] for row, n in zip(table, positives, strict=True)
    ]
    assert together.tolist() == pytest.approx([1 / 2, 1 / 3 / 4, 0])
    assert together.dtype == recall_at(table, 4).dtype == np.float64


def test_average_precision_needs_ground_truth() -> None:
    with pytest.raises(DataError, match="query 1"):
        average_precision_at([[0], [-1]], 5, [1, 0])
    with pytest.raises(ShapeError, match=r"\(2,\).*\(3,\)"):
        average_precision_at([[0], [1]], 5, [1, 1, 1])


@pytest.mark.parametrize("k", [0, -3])
def test_k_must_be_positive(k: int) -> None:
    with pytest.raises(ConfigError, match=f"at least 1, not {k}"):
        recall_at([0], k)
    with pytest.raises(ConfigError, match=f"at least 1, not {k}"):
        average_precision_at([0], k, [1])


def test_ranks_are_a_column_or_a_table() -> None:
    with pytest.raises(ShapeError, match=r"but have shape \(1, 1, 1\)"):
        recall_at([[[0]]], 1)


def test_bootstrap_agrees_with_the_normal_approximation() -> None:
    values = np.array([100.0] * 300 + [0.0] * 700)
    low, high = bootstrap_interval(values, resamples=20_000)
    error = 100 * math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(30 - 1.96 * error, abs=0.2)
    assert high == pytest.approx(30 + 1.96 * error, abs=0.2)
    narrow = bootstrap_interval(values, confidence=0.5)
    assert low < narrow[0] < 30 < narrow[1] < high


def test_bootstrap_agrees_with_resampling_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(60).round(1)
    means = [rng.choice(values, 60).mean() for _ in range(6000)]
    expected = np.quantile(means, [0.025, 0.975])
    assert bootstrap_interval(values, resamples=6000) == pytest.approx(tuple(expected), abs=0.006)


def test_bootstrap_is_deterministic_and_depends_on_its_seed() -> None:
    values = np.random.default_rng(1).random(50)
    assert bootstrap_interval(values) == bootstrap_interval(values, confidence=0.95, resamples=2000, seed=0)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


def test_bootstrap_of_a_constant_and_of_one_query() -> None:
    assert bootstrap_interval(np.full(9, 25.0)) == (25.0, 25.0)
    assert bootstrap_interval([100.0]) == (100.0, 100.0)


def test_bootstrap_leaves_out_queries_without_a_value() -> None:
    values = np.array([1.0, np.nan, 3.0, 2.0, np.nan])
    assert bootstrap_interval(values) == bootstrap_interval([1.0, 3.0, 2.0])
    assert all(math.isnan(end) for end in bootstrap_interval([np.nan]))
    assert all(math.isnan(end) for end in bootstrap_interval([]))


def test_bootstrap_in_groups_averages_the_groups() -> None:
    """One large group of zeros, one small of hundreds: the average row is 50, whatever their sizes."""
    values, groups = np.array([0.0] * 90 + [100.0] * 10), np.array(["a"] * 90 + ["b"] * 10)
    assert bootstrap_interval(values, groups=groups) == (50.0, 50.0)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"confidence": 1.0}, ConfigError, "between 0 and 1, not 1.0"),
        ({"confidence": 0.0}, ConfigError, "between 0 and 1, not 0.0"),
        ({"resamples": 0}, ConfigError, "not 0"),
        ({"groups": ["a"]}, ShapeError, r"\(2,\) and \(1,\)"),
    ],
)
def test_bootstrap_refuses_nonsense(arguments: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        bootstrap_interval([1.0, 2.0], **arguments)


def test_paired_intervals_by_hand() -> None:
    # Of three queries with differences 0, 3 and 6 the mean is the sum s of three draws of 0, 1, 2: 27 equally likely
    # draws, of which 1 has s = 0 and 3 have s = 1. So the 10th percentile is 1 and, by symmetry, the 90th is 5.
    theirs = np.array([[7.0, 1.0, 4.0]])
    assert paired_interval(theirs + np.array([[0, 3, 6]]), theirs, confidence=0.8) == pytest.approx((3, 1, 5))
    # Two runs, 0 and 10 for every query: whichever queries are drawn, the runs are (0,0), (0,10), (10,0) or (10,10).
    runs = np.array([[0.0] * 50, [10.0] * 50])
    assert paired_interval(runs, np.zeros((1, 50))) == pytest.approx((5, 0, 10))
    assert paired_interval(np.zeros((1, 50)), runs, confidence=0.4) == pytest.approx((-5, -5, -5))
    # What moves both methods alike moves no difference.
    hard = np.random.default_rng(1).random((1, 200)) * 100
    assert paired_interval(hard + 2, hard) == pytest.approx((2, 2, 2))
    # The mean of two groups' means, 10 and 2, however many queries they have.
    ours, groups = np.array([[10.0, 2.0, 2.0, 2.0]]), ["a", "b", "b", "b"]
    assert paired_interval(ours, np.zeros((1, 4)), groups=groups) == pytest.approx((6, 6, 6))
    assert mean_over(ours[0], groups) == 6 and mean_over([math.nan, 3.0], ["a", "b"]) == 3
    assert math.isnan(mean_over([math.nan], ["a"]))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 5), st.data())
def test_paired_intervals_are_those_of_a_plain_loop(ours: int, theirs: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    count = data.draw(st.integers(2, 30))
    one, other = rng.random((ours, count)) * 100, rng.random((theirs, count)) * 100
    loop = []
    for _ in range(2000):
        drawn = rng.integers(count, size=count)
        means = [table[rng.integers(len(table), size=len(table))][:, drawn].mean() for table in (one, other)]
        loop.append(means[0] - means[1])
    difference, low, high = paired_interval(one, other)
    assert difference == pytest.approx(one.mean() - other.mean())
    for end, share in ((low, 0.025), (high, 0.975)):  # few runs make steps: an end may lie on either side of one
        assert np.mean(np.array(loop) < end - 1e-9) < share + 0.03
        assert np.mean(np.array(loop) <= end + 1e-9) > share - 0.03
    undefined = [np.column_stack([table, np.full(len(table), math.nan)]) for table in (one, other)]
    assert paired_interval(*undefined) == pytest.approx((difference, low, high), abs=1e-9)
    assert paired_interval(one, other) == (difference, low, high)


def test_a_pair_that_is_none_is_refused() -> None:
    for ours, theirs in (([1.0], [[1.0]]), ([[1.0, 2.0]], [[1.0]]), (np.zeros((0, 2)), np.zeros((1, 2)))):
        with pytest.raises(ShapeError, match=r"\(S, Q\) and \(T, Q\)"):
            paired_interval(ours, theirs)
    with pytest.raises(ShapeError, match="one for each query"):
        paired_interval([[1.0]], [[1.0]], groups=["a", "b"])
    with pytest.raises(ConfigError, match="between 0 and 1"):
        paired_interval([[1.0]], [[1.0]], confidence=1)
    assert all(math.isnan(value) for value in paired_interval([[math.nan]], [[0.0]]))
