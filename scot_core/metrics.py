"""Retrieval metrics from ranks, and their bootstrap intervals.

Ranks are 0-based, as `retrieval.ranks` gives them; -1 means that a target is not in the gallery (a miss) or is
padding. Every metric is an array with one value per query, a fraction in 0..1; its mean is the metric.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scot_core.errors import ConfigError, DataError, ShapeError

Floats = NDArray[np.float64]


def recall_at(ranks: ArrayLike, k: int) -> Floats:
    """1.0 for each query with a target among its first k results, else 0.0.

    ranks (Q,) or (Q, T). With one target per query the mean is Recall@k (FashionIQ, CIRR, CIRCO's target); with
    ranks among the members of a subset it is CIRR's Recall_subset@k; with several targets it is the share of
    queries answered by at least one. A query without targets is a miss.
    """
    _positive(k)
    table = _table(ranks)
    return np.asarray(((table >= 0) & (table < k)).any(axis=1), dtype=np.float64)


def average_precision_at(ranks: ArrayLike, k: int, positives: ArrayLike) -> Floats:
    """AP@k of each query as CIRCO's evaluation computes it (mAP@k is its mean).

    The sum of the precisions at the positions, among the first k, that hold a ground truth, divided by
    min(k, number of ground truths). ranks (Q, T), padded with -1; positives (Q,): how many ground truths each
    query has in its annotation, those outside the gallery included.
    Raises DataError for a query without ground truths.
    """
    _positive(k)
    table = _table(ranks)
    counts = np.asarray(positives)
    if counts.shape != (len(table),):
        raise ShapeError(f"positives must be ({len(table)},), one per row of ranks, but has shape {counts.shape}")
    if len(empty := np.flatnonzero(counts < 1)):
        raise DataError(f"query {empty[0]} has no ground truth: its average precision is not defined")
    places = np.sort(np.where(table < 0, np.iinfo(np.int64).max, table), axis=1)
    found = np.arange(1, places.shape[1] + 1)
    precision = np.where(places < k, found / (np.minimum(places, k) + 1.0), 0.0)
    return np.asarray(precision.sum(axis=1) / np.minimum(counts, k), dtype=np.float64)


def bootstrap_interval(
    values: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """(low, high): percentile bootstrap interval of the mean, resampling queries; the same seed gives the same answer.

    values (Q,), one metric value per query; NaN marks queries that the metric is not defined for. With groups
    (Q,), queries are resampled within their group and the statistic is the plain mean of the groups' means (the
    average row of FashionIQ). Without any value the interval is (nan, nan).
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence must be between 0 and 1, not {confidence}")
    _positive(resamples)
    data = np.asarray(values, dtype=np.float64)
    labels = np.zeros(len(data), dtype=np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    if data.ndim != 1 or labels.shape != data.shape:
        raise ShapeError(f"values must be (Q,) and groups alike, but they are {data.shape} and {labels.shape}")
    data, labels = data[~np.isnan(data)], labels[~np.isnan(data)]
    if not len(data):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    present = np.unique(labels)
    means = np.mean([_resampled_means(data[labels == label], resamples, rng) for label in present], axis=0)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def mean_over(values: ArrayLike, groups: ArrayLike) -> float:
    """The plain mean of the groups' means of values (Q,), NaN left out; nan where there is nothing."""
    data, labels = np.asarray(values, dtype=np.float64), np.unique(groups, return_inverse=True)[1]
    defined = ~np.isnan(data)
    if not defined.any():
        return float("nan")
    present = np.unique(labels[defined])
    return float(np.mean([data[defined & (labels == label)].mean() for label in present]))


def paired_interval(
    ours: ArrayLike,
    theirs: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(difference, low, high): mean of ours minus mean of theirs, with its percentile bootstrap interval.

    ours (S, Q) and theirs (T, Q): a metric of the same queries by the runs (seeds) of two methods, which are averaged
    query by query. A resample draws queries, the same for both, and of each method as many runs as it has, all with
    replacement: with one run each it is the paired bootstrap over queries. NaN marks queries that the metric is not
    defined for. With groups (Q,), queries are drawn within their group and the value is the plain mean of the groups'
    means. The same seed gives the same answer; without any query it is (nan, nan, nan).
    """
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence must be between 0 and 1, not {confidence}")
    _positive(resamples)
    tables = [np.asarray(table, dtype=np.float64) for table in (ours, theirs)]
    shapes = [table.shape for table in tables]
    if any(len(shape) != 2 or 0 in shape[:1] for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ShapeError(f"ours and theirs must be (S, Q) and (T, Q), but are {shapes[0]} and {shapes[1]}")
    count = shapes[0][1]
    labels = np.zeros(count, dtype=np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    if labels.shape != (count,):
        raise ShapeError(f"groups must be ({count},), one for each query, but are {labels.shape}")
    defined = ~np.isnan(np.concatenate(tables)).any(axis=0)
    if not defined.any():
        return float("nan"), float("nan"), float("nan")
    first, second = (table[:, defined] for table in tables)
    weights = _resampled_weights(labels[defined].tobytes(), resamples, seed)
    rng = np.random.default_rng([seed, 1])
    means = [(weights @ table.T * _shares(len(table), resamples, rng)).sum(axis=1) for table in (first, second)]
    low, high = np.quantile(means[0] - means[1], [(1 - confidence) / 2, (1 + confidence) / 2])
    return mean_over(first.mean(axis=0) - second.mean(axis=0), labels[defined]), float(low), float(high)


@lru_cache(maxsize=1)  # methods are compared on the same queries, one after the other
def _resampled_weights(labels: bytes, resamples: int, seed: int) -> Floats:
    """How much each query counts in each resample, (resamples, Q), of queries with these labels (int64)."""
    groups, rng = np.frombuffer(labels, dtype=np.int64), np.random.default_rng(seed)
    weights = np.zeros((resamples, len(groups)))
    present = np.unique(groups)
    for group in present:
        members = np.flatnonzero(groups == group)
        size = len(members)
        drawn = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
        weights[:, members] = drawn / (size * len(present))
    return weights


def _shares(runs: int, resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples, runs): how much each run counts where as many are drawn as there are."""
    return np.asarray(rng.multinomial(runs, np.full(runs, 1 / runs), size=resamples) / runs, dtype=np.float64)


def _resampled_means(values: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Means (resamples,) of draws with replacement. How often each distinct value is drawn is multinomial, so
    drawing the counts replaces drawing the queries: metrics take few distinct values."""
    levels, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), size=resamples)
    return np.asarray(drawn @ levels / len(values), dtype=np.float64)


def _table(ranks: ArrayLike) -> NDArray[np.int64]:
    table: NDArray[Any] = np.asarray(ranks)
    if table.ndim not in (1, 2):
        raise ShapeError(f"ranks must be (Q,) or (Q, T), but have shape {table.shape}")
    table = table[:, None] if table.ndim == 1 else table
    return table.astype(np.int64)


def _positive(number: int) -> None:
    if number < 1:
        raise ConfigError(f"k and resamples must be at least 1, not {number}")
