"""Ranks, top-k and order within candidates against the naive full matrix, at ties and with bad input."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Set
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scot_core import nearest, retrieval
from scot_core import scores as scores_room
from scot_core.errors import ConfigError, DataError, ShapeError

F32 = np.float32
Drawn = tuple[NDArray[F32], NDArray[F32], np.random.Generator]


def naive_order(query: NDArray[Any], gallery: NDArray[Any], removed: Set[int] = frozenset()) -> list[int]:
    """Indices by (score descending, index ascending), the definition itself."""
    scores = [float(np.dot(query.astype(np.float64), row.astype(np.float64))) for row in gallery]
    return sorted((i for i in range(len(gallery)) if i not in removed), key=lambda i: (-scores[i], i))


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    """Small integers as coordinates: products are exact and ties abound; some rows are zero or repeated."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q, g, d = draw(st.integers(1, 6)), draw(st.integers(1, 80)), draw(st.integers(1, 5))
    return rng.integers(-2, 3, (q, d)).astype(F32), rng.integers(-2, 3, (g, d)).astype(F32), rng


@settings(max_examples=40, deadline=None)
@given(tables())
def test_ranks_are_those_of_the_naive_full_matrix(drawn: Drawn) -> None:
    queries, gallery, rng = drawn
    targets = rng.integers(-1, len(gallery), (len(queries), 3))
    exclude = rng.integers(-1, len(gallery), (len(queries), 2))
    for removed in (None, exclude):
        found = retrieval.ranks(queries, gallery, targets, exclude=removed)
        for i, row in enumerate(targets):
            order = naive_order(queries[i], gallery, set() if removed is None else set(removed[i].tolist()))
            assert found[i].tolist() == [order.index(t) if t in order else -1 for t in row]


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(1, 90))
def test_top_k_is_that_of_the_naive_full_matrix(drawn: Drawn, k: int) -> None:
    queries, gallery, _ = drawn
    scores, indices = retrieval.top_k(queries, gallery, k)
    assert scores.shape == indices.shape == (len(queries), min(k, len(gallery)))
    for query, score, index in zip(queries, scores, indices, strict=True):
        assert index.tolist() == naive_order(query, gallery)[:k]
        assert score.tolist() == [float(query @ gallery[i]) for i in index]


@settings(max_examples=20, deadline=None)
@given(tables())
def test_order_within_candidates_is_the_order_of_the_whole(drawn: Drawn) -> None:
    queries, gallery, rng = drawn
    candidates = np.array([rng.permutation(len(gallery))[: min(4, len(gallery))] for _ in queries])
    candidates[:, -1] = -1
    found = retrieval.order_within(queries, gallery, candidates)
    for i, row in enumerate(candidates):
        wanted = [j for j in naive_order(queries[i], gallery) if j in row]
        assert found[i].tolist() == wanted + [-1] * (candidates.shape[1] - len(wanted))


def unit(rng: np.random.Generator, rows: int, d: int) -> NDArray[F32]:
    table = rng.standard_normal((rows, d)).astype(F32)
    return np.asarray(table / np.linalg.norm(table, axis=1, keepdims=True), dtype=F32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_small_pieces_and_scores_that_float32_cannot_tell_apart(dtype: torch.dtype, seed: int) -> None:
    """The last coordinate moves scores by 2^-40, and what is done at once is small enough to be cut everywhere."""
    rng = np.random.default_rng(seed)
    n, size, d = rng.integers(1, 6), rng.integers(1, 700), rng.integers(1, 6)
    queries, gallery = rng.integers(-2, 3, (n, d)).astype(float), rng.integers(-2, 3, (size, d)).astype(float)
    gallery[:, -1] *= 2.0**-40
    exact = queries @ gallery.T
    order = np.argsort(-exact, axis=1, kind="stable")
    k, targets, exclude = rng.integers(1, 20), rng.integers(-1, size, (n, 3)), rng.integers(-1, size, (n, 2))
    q, g = torch.from_numpy(queries).to(dtype), torch.from_numpy(gallery).to(dtype)
    asked, removed = torch.from_numpy(targets), torch.from_numpy(exclude)
    with pytest.MonkeyPatch.context() as patch:
        for room, name, value in (
            (retrieval, "_COUNTED", 1),
            (nearest, "_SEARCHED", 1),
            (scores_room, "_QUERY_ROWS", 2),
        ):
            patch.setattr(room, name, {False: value})
        patch.setattr(scores_room, "_TERMS", {False: 100})
        patch.setattr(nearest, "_ROUNDED_FROM", int(rng.integers(1, 6)))
        patch.setattr(nearest, "_SLACK", 2)
        scores, indices = retrieval.top_k(q, g, int(k))
        found = retrieval.ranks(q, g, asked, exclude=removed)
        within = retrieval.order_within(q, g, asked)
    assert isinstance(within, torch.Tensor)
    assert indices.tolist() == order[:, :k].tolist()
    assert scores.tolist() == torch.from_numpy(np.take_along_axis(exact, order[:, :k], 1)).to(dtype).tolist()
    for row, ranked, wanted, out in zip(
        order.tolist(), found.tolist(), targets.tolist(), exclude.tolist(), strict=True
    ):
        left = [i for i in row if i not in out]
        assert ranked == [left.index(t) if t in left else -1 for t in wanted]
    for row, ordered, wanted in zip(order.tolist(), within.tolist(), targets.tolist(), strict=True):
        places = {i: row.index(i) if i >= 0 else size for i in wanted}
        assert ordered == sorted(wanted, key=places.__getitem__)


def test_work_is_done_where_the_tables_are() -> None:
    """Whatever torch's default device is; on the meta device nothing could be compared."""
    rng = np.random.default_rng(7)
    q, g = (torch.from_numpy(rng.integers(-1, 2, shape)).float() for shape in ((3, 4), (600, 4)))
    targets, exclude = torch.from_numpy(rng.integers(-1, 600, (3, 2))), torch.from_numpy(rng.integers(-1, 600, (3, 2)))

    def everything() -> list[list[Any]]:
        some, none = retrieval.top_k(q, g, 5), retrieval.top_k(q, g[:0], 5)
        ranks = retrieval.ranks(q, g, targets, exclude=exclude), retrieval.ranks(q, g, targets)
        empty = retrieval.order_within(q, g[:0], targets[:, :0])
        return [found.tolist() for found in (*some, *none, *ranks, empty, retrieval.order_within(q, g, targets))]

    expected = everything()
    with torch.device("meta"):
        assert everything() == expected


def test_real_vectors_in_several_chunks_of_both_kinds() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = unit(rng, 700, 24), unit(rng, 9000, 24)
    targets = rng.integers(0, 9000, 700)
    exact = queries.astype(np.float64) @ gallery.astype(np.float64).T
    own = exact[np.arange(700), targets][:, None]
    found = retrieval.ranks(queries, gallery, targets)
    assert found.tolist() == (exact > own).sum(axis=1).tolist()
    scores, indices = retrieval.top_k(queries, gallery, 20)
    best = np.argsort(-exact, axis=1, kind="stable")[:, :20]
    assert np.array_equal(indices, best)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, best, axis=1), rtol=1e-6)


def test_the_same_vector_ties_wherever_it_stands() -> None:
    """Copies of one vector, spread over chunks of different width, must have the very same score."""
    rng = np.random.default_rng(1)
    queries, gallery = unit(rng, 600, 37), unit(rng, 8201, 37)
    copies = np.array([0, 1, 255, 4000, 7013, 8190, 8199, 8200])
    gallery[copies] = queries[11]
    order = retrieval.ranks(queries, gallery, np.tile(copies, (600, 1)))
    assert (np.diff(order, axis=1) == 1).all()
    assert order[11].tolist() == list(range(8))
    _, indices = retrieval.top_k(queries[11:12], gallery, 5)
    assert indices[0].tolist() == copies[:5].tolist()


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_products_that_are_allowed_to_round_their_inputs_change_nothing(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch may on a GPU, or on a CPU that has instructions for it: told so, it rounds; here whatever it does."""
    rng = np.random.default_rng(8)
    queries, gallery = (torch.from_numpy(unit(rng, rows, 24)) for rows in (20, 3000))
    targets = torch.from_numpy(rng.integers(0, 3000, (20, 2)))

    def everything() -> list[list[Any]]:
        found = (*retrieval.top_k(queries, gallery, 40), retrieval.ranks(queries, gallery, targets))
        return [one.tolist() for one in found]

    expected = everything()
    blocks = scores_room.blocks
    digits = {"bf16": torch.bfloat16, "tf32": torch.float16}[precision]  # of TF32: as many as half precision has
    for room in (retrieval, nearest):
        monkeypatch.setattr(
            room, "blocks", lambda q, g, *rest: blocks(q.to(digits).float(), g.to(digits).float(), *rest)
        )
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, setting.fp32_precision = setting.fp32_precision, precision
    try:
        assert everything() == expected
    finally:
        setting.fp32_precision = before


def test_results_do_not_depend_on_how_the_work_is_cut() -> None:
    rng = np.random.default_rng(2)
    queries, gallery = unit(rng, 40, 33), unit(rng, 5000, 33)
    gallery[2500:] = gallery[:2500]  # every score occurs twice
    targets = rng.integers(0, 5000, 40)
    together = retrieval.ranks(queries, gallery, targets)
    one_by_one = [int(retrieval.ranks(queries[i : i + 1], gallery, targets[i : i + 1])[0]) for i in range(40)]
    assert together.tolist() == retrieval.ranks(queries, gallery, targets.tolist()).tolist() == one_by_one
    permuted = rng.permutation(5000)
    shuffled = retrieval.ranks(queries, gallery[permuted], np.argsort(permuted)[targets])
    assert (np.abs(shuffled - together) <= 1).all()


def test_more_ties_at_rank_k_than_are_kept() -> None:
    gallery = np.zeros((500, 4), dtype=F32)
    gallery[:, 0] = 1
    gallery[400] = [2, 0, 0, 0]
    queries = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [-1, 0, 0, 0]], dtype=F32)
    scores, indices = retrieval.top_k(queries, gallery, 4)
    assert indices.tolist() == [[400, 0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert scores.tolist() == [[2, 1, 1, 1], [0, 0, 0, 0], [-1, -1, -1, -1]]
    assert retrieval.ranks(queries, gallery, np.array([399, 399, 400])).tolist() == [400, 399, 499]


def test_torch_in_torch_out_and_precisions() -> None:
    rng = np.random.default_rng(3)
    queries, gallery = unit(rng, 5, 8), unit(rng, 60, 8)
    targets = np.arange(5)
    expected = retrieval.ranks(queries, gallery, targets)
    found = retrieval.ranks(torch.from_numpy(queries).requires_grad_(), torch.from_numpy(gallery), torch.arange(5))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.int64
    assert found.tolist() == expected.tolist()
    for dtype, out in ((torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        q, g = torch.from_numpy(queries).to(dtype), torch.from_numpy(gallery).to(dtype)
        scores, indices = retrieval.top_k(q, g, 7)
        assert scores.dtype == out
        exact = q.double() @ g.double().T
        assert indices.tolist() == exact.sort(dim=1, descending=True, stable=True).indices[:, :7].tolist()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert retrieval.ranks(queries, gallery, targets).tolist() == expected.tolist()


def test_read_only_and_strided_arrays_are_fine(recwarn: pytest.WarningsRecorder) -> None:
    rng = np.random.default_rng(4)
    wide = unit(rng, 30, 8)
    gallery, queries = wide[::-1, ::2], wide[:3, ::2].copy()
    queries.flags.writeable = False
    assert retrieval.ranks(queries, gallery, np.array([29, 28, 27])).tolist() == [
        naive_order(queries[i], gallery).index(29 - i) for i in range(3)
    ]
    assert not recwarn.list


def test_empty_tables() -> None:
    some, none = np.ones((2, 3), dtype=F32), np.ones((0, 3), dtype=F32)
    assert retrieval.top_k(some, none, 5)[1].shape == (2, 0)
    assert retrieval.top_k(none, some, 5)[1].shape == (0, 2)
    assert retrieval.ranks(some, none, np.array([-1, -1])).tolist() == [-1, -1]
    assert retrieval.ranks(none, some, np.zeros((0, 4), dtype=int)).shape == (0, 4)
    assert retrieval.ranks(some, some, np.zeros((2, 0), dtype=int)).shape == (2, 0)


def test_an_excluded_target_has_no_rank() -> None:
    gallery = np.eye(3, dtype=F32)
    found = retrieval.ranks(gallery, gallery, np.arange(3), exclude=np.array([0, 0, -1]))
    assert found.tolist() == [-1, 0, 0]


BAD = [
    (lambda q, g: (q[:, :2], g), ShapeError, ["width 2", "width 3"]),
    (lambda q, g: (q.astype(np.float64), g), ShapeError, ["float64", "float32"]),
    (lambda q, g: (torch.from_numpy(q), g), ShapeError, ["Tensor", "ndarray"]),
    (lambda q, g: (torch.from_numpy(q), torch.from_numpy(g).to("meta")), ShapeError, ["cpu", "meta"]),
    (lambda q, g: (q.astype(int), g), ShapeError, ["queries", "int64"]),
    (lambda q, g: (q[0], g), ShapeError, ["queries", "(3,)"]),
    (lambda q, g: (q.tolist(), g), ShapeError, ["queries", "list"]),
    (lambda q, g: (q, np.where(np.arange(5)[:, None] == 3, np.nan, g).astype(F32)), DataError, ["gallery: row 3"]),
    (lambda q, g: (np.where(np.arange(2)[:, None] == 1, np.inf, q).astype(F32), g), DataError, ["queries: row 1"]),
    (lambda q, g: (q * F32(1e25), g * F32(1e25)), DataError, ["normalise"]),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD)
def test_bad_vectors_are_refused(
    change: Callable[[NDArray[F32], NDArray[F32]], tuple[Any, Any]], error: type, words: list[str]
) -> None:
    rng = np.random.default_rng(5)
    queries, gallery = change(unit(rng, 2, 3), unit(rng, 5, 3))
    for call in (
        lambda: retrieval.top_k(queries, gallery, 2),
        lambda: retrieval.ranks(queries, gallery, np.array([0, 1])),
    ):
        with pytest.raises(error) as caught:
            call()
        assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("targets", "error", "words"),
    [
        (np.array([0, 5]), DataError, ["targets row 1", "5"]),
        (np.array([-2, 0]), DataError, ["targets row 0", "-2"]),
        (np.array([0, 1, 2]), ShapeError, ["(2,)", "(3,)"]),
        (np.array([0.0, 1.0]), ShapeError, ["float64"]),
        (np.zeros((2, 1, 1), dtype=int), ShapeError, ["(2, 1, 1)"]),
    ],
)
def test_bad_targets_are_refused(targets: NDArray[Any], error: type, words: list[str]) -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(error) as caught:
        retrieval.ranks(unit(rng, 2, 3), unit(rng, 5, 3), targets)
    assert all(word in str(caught.value) for word in words)
    with pytest.raises(error) as caught:
        retrieval.ranks(unit(rng, 2, 3), unit(rng, 5, 3), np.array([0, 1]), exclude=targets)
    assert all(word.replace("targets", "exclude") in str(caught.value) for word in words)


def test_k_must_be_positive() -> None:
    some = np.ones((1, 2), dtype=F32)
    with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
        retrieval.top_k(some, some, 0)
    assert retrieval.top_k(some, some, 1)[1].tolist() == [[0]]


MEMORY = """
import resource, sys, numpy as np
from scot_core import retrieval
rng = np.random.default_rng(0)
queries, gallery = (rng.random((n, 16), dtype=np.float32) - 0.5 for n in (1000, 50_000))
targets = rng.integers(0, 50_000, 1000)
retrieval.ranks(queries[:2], gallery[:100], targets[:2] % 100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
retrieval.ranks(queries, gallery, targets)
retrieval.top_k(queries, gallery, 50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_below_the_full_matrix() -> None:
    """The full float32 matrix of this case would take 200 MB."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 150_000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gpu_orders_as_the_cpu_does(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    gallery = torch.nn.functional.normalize(torch.randn(5000, 64), dim=1).to(dtype)
    gallery[100:200] = gallery[:100]  # ties
    queries, targets = gallery[::50] + torch.randn(100, 64).to(dtype) / 20, torch.randint(0, 5000, (100, 2))
    expected = retrieval.ranks(queries, gallery, targets)
    for where in ("cuda", "cpu"):
        assert retrieval.ranks(queries.cuda(), gallery.cuda(), targets.to(where)).cpu().equal(expected)
    assert retrieval.top_k(queries.cuda(), gallery.cuda(), 50)[1].cpu().equal(retrieval.top_k(queries, gallery, 50)[1])


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_products_of_bfloat16_change_nothing(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all of a gallery lies within their rounding, and where nothing does; on CPUs without them, either way."""
    rng = np.random.default_rng(11)
    queries = unit(rng, 70, 33)
    gallery = queries[0] + F32(spread) * unit(rng, 4100, 33)
    exact = np.argsort(-(queries.astype(np.float64) @ gallery.astype(np.float64).T), axis=1, kind="stable")
    for usable in (True, False):
        monkeypatch.setattr(nearest, "multiplies_bfloat16", lambda usable=usable: usable)
        assert np.array_equal(retrieval.top_k(queries, gallery, 7)[1], exact[:, :7])
