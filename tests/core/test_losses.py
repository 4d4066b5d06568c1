"""The training objective: values and gradients worked out by hand, its ablations, and bad input."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scot_core import paper
from scot_core.errors import ConfigError, ShapeError
from scot_core.losses import (
    LOSSES,
    by_name,
    infonce_loss,
    infonce_with_captions_loss,
    scot_loss,
    scot_loss_without_captions,
    scot_loss_without_margin,
)

# Angles on the unit circle make every cosine known: cos of the difference.
COMPOSED, TARGET, CAPTION = (0.0, 100.0), (60.0, 90.0), (84.0, 30.0)


def circle(degrees: tuple[float, ...], length: float = 1.0) -> Tensor:
    radians = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return length * torch.stack([radians.cos(), radians.sin()], dim=1)


def cosine(first: float, second: float) -> float:
    return math.cos(math.radians(first - second))


def batches(n: int, d: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    composed, target, caption = torch.randn(3, n, d, generator=generator, dtype=torch.float64)
    return composed.to(dtype), (composed + target).to(dtype), (composed + 2 * caption).to(dtype)


def gate(value: float) -> float:
    return value if value > 0.2 else 0.0


def test_scot_loss_is_eqs_4_to_9_written_out() -> None:
    positive = -math.log(math.exp(cosine(0, 60)) + math.exp(cosine(100, 90)))
    # cos(0, 90) = 0 is below the margin, cos(100, 60) is not; the diagonal counts as exp(0) twice.
    negative = math.log(1 + 1 + math.exp(gate(cosine(0, 90))) + math.exp(gate(cosine(100, 60))))
    # cos(0, 84) = 0.105 is below the margin; cos(100, 30) = 0.342 is above, as are the other two.
    captions = math.log(
        math.exp(gate(cosine(0, 84)))
        + math.exp(gate(cosine(0, 30)))
        + math.exp(gate(cosine(100, 84)))
        + math.exp(gate(cosine(100, 30)))
    )
    assert gate(cosine(0, 84)) == 0.0
    expected = 10 * positive + 0.1 * (negative + captions)
    loss = scot_loss(circle(COMPOSED), circle(TARGET), circle(CAPTION))
    assert loss.dtype == torch.float64
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-15)


def test_defaults_are_the_papers_and_the_departures_own() -> None:
    scales = {"alpha_pos": paper.ALPHA_POS, "alpha_neg": paper.ALPHA_NEG}
    defaults = {
        "scot": {**scales, "margin": paper.MARGIN},
        "scot-without-margin": scales,
        "scot-without-captions": {**scales, "margin": paper.MARGIN},
        "infonce": {"temperature": 0.05},
        "infonce-with-captions": {"temperature": 0.05},
    }
    for name, loss in LOSSES.items():
        assert loss(*batches(6, 4)).item() == pytest.approx(loss(*batches(6, 4), **defaults[name]).item(), rel=1e-12)


def test_work_is_done_where_the_batches_are() -> None:
    """Whatever torch's default device is; on the meta device nothing could be compared."""
    inputs = batches(6, 4)
    with torch.device("meta"):
        values = {name: loss(*inputs) for name, loss in LOSSES.items()}
    assert all(value.item() == pytest.approx(LOSSES[name](*inputs).item()) for name, value in values.items())


def test_gradient_follows_from_the_chain_rule() -> None:
    """dL/dS by hand: -10 softmax over the diagonal, 0.1 softmax over what passes the gate."""
    composed, target, caption = circle(COMPOSED).requires_grad_(), circle(TARGET), circle(CAPTION)
    scot_loss(composed, target, caption).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        similarity, own = composed @ target.T, composed @ caption.T
        slopes = torch.zeros(2, 2, dtype=torch.float64)
        weights = similarity.diagonal().exp()
        slopes += torch.diag(-10 * weights / weights.sum())
        exponents = torch.where(similarity > 0.2, similarity, 0.0) * (1 - torch.eye(2))
        passes = (similarity > 0.2) & ~torch.eye(2, dtype=torch.bool)
        slopes += 0.1 * exponents.exp() / exponents.exp().sum() * passes
        gated = torch.where(own > 0.2, own, 0.0)
        caption_slopes = 0.1 * gated.exp() / gated.exp().sum() * (own > 0.2)
        along = slopes @ target + caption_slopes @ caption
        # the cosine's gradient has no part along the unit vector itself
        expected = along - (along * composed).sum(1, keepdim=True) * composed
    assert composed.grad is not None
    torch.testing.assert_close(composed.grad, expected, rtol=1e-12, atol=1e-14)
    # section 7 of the design: positives weigh 10 in all, negatives at most 0.2
    assert slopes.diagonal().sum().item() == pytest.approx(-10)
    assert 0 < (slopes - torch.diag(slopes.diagonal())).sum() + caption_slopes.sum() < 0.2


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    inputs = tuple(batch.requires_grad_() for batch in batches(5, 4, seed=3))
    assert torch.autograd.gradcheck(LOSSES[name], inputs)


def test_margin_is_strict_and_the_gate_passes_no_gradient() -> None:
    caption = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    composed = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.6, 0.8, 0.0]], dtype=torch.float64)
    at = scot_loss(composed, target, target, margin=0.6)
    below = scot_loss(composed, target, target, margin=math.nextafter(0.6, 0.0))
    # One pair: -10 * 0.6, then log(exp(0)) for the diagonal; the caption counts only when strictly above.
    assert at.item() == pytest.approx(-6.0, abs=1e-15)
    assert below.item() == pytest.approx(-6.0 + 0.1 * 0.6, abs=1e-15)
    gated = scot_loss(composed, target, caption)
    (gradient,) = torch.autograd.grad(gated, composed)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, -8.0, 0.0]], dtype=torch.float64))


def test_ablations_leave_out_what_their_names_say() -> None:
    composed, target, caption = circle(COMPOSED), circle(TARGET), circle(CAPTION)
    positive = -math.log(math.exp(cosine(0, 60)) + math.exp(cosine(100, 90)))
    off = math.exp(cosine(0, 90)) + math.exp(cosine(100, 60))
    everything = sum(math.exp(cosine(c, t)) for c in COMPOSED for t in CAPTION)
    without_margin = scot_loss_without_margin(composed, target, caption)
    assert without_margin.item() == pytest.approx(10 * positive + 0.1 * (math.log(2 + off) + math.log(everything)))
    without_captions = scot_loss_without_captions(composed, target, caption)
    gated = 1 + math.exp(cosine(100, 60))
    assert without_captions.item() == pytest.approx(10 * positive + 0.1 * math.log(2 + gated))


def test_infonce_is_the_mean_cross_entropy_of_each_row() -> None:
    composed, target, caption = circle(COMPOSED), circle(TARGET), circle(CAPTION)
    plain = with_captions = 0.0
    for i, c in enumerate(COMPOSED):
        logits = [cosine(c, t) / 0.5 for t in TARGET]
        plain += (math.log(sum(map(math.exp, logits))) - logits[i]) / 2
        more = logits + [cosine(c, t) / 0.5 for t in CAPTION]
        with_captions += (math.log(sum(map(math.exp, more))) - more[i]) / 2
    assert infonce_loss(composed, target, caption, temperature=0.5).item() == pytest.approx(plain)
    assert infonce_with_captions_loss(composed, target, caption, temperature=0.5).item() == pytest.approx(with_captions)


def test_a_text_that_stands_in_the_batch_again_is_no_negative_of_its_row() -> None:
    """Row 0 asks for 0°, which is row 2's modified and row 1's original caption, too: 90° and 30° are left."""
    composed, target, caption = circle((10, 80, 5)), circle((0, 90, 0)), circle((30, 0, 90))
    logits = [[cosine(c, t) / 0.5 for t in others] for c, others in [(10, [0, 90, 30, 90]), (80, [90, 0, 0, 30, 0])]]
    logits.append([cosine(5, t) / 0.5 for t in (0, 90, 30, 90)])
    expected = sum(math.log(sum(map(math.exp, row))) - row[0] for row in logits) / 3
    found = infonce_with_captions_loss(composed, target, caption, temperature=0.5)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_lengths_do_not_matter(name: str) -> None:
    short = LOSSES[name](circle(COMPOSED), circle(TARGET), circle(CAPTION))
    long = LOSSES[name](circle(COMPOSED, 7.0), circle(TARGET, 0.01), circle(CAPTION, 30.0))
    assert long.item() == pytest.approx(short.item(), rel=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-6), (torch.float16, 1e-6)])
def test_reduced_precision_is_accumulated_in_float32(dtype: torch.dtype, tolerance: float) -> None:
    reduced = batches(300, 16, dtype)
    loss = scot_loss(*reduced)
    exact = scot_loss(*(batch.double() for batch in reduced))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=tolerance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(scot_loss(*reduced), loss)


def test_batch_of_4096_is_stable() -> None:
    """With equal rows every similarity is 1, and the loss has a closed form."""
    n, ones = 4096, torch.ones(4096, 4)
    positive = -(math.log(n) + 1)
    negative = math.log(n + (n * n - n) * math.e) + math.log(n * n) + 1
    assert scot_loss(ones, ones, ones).item() == pytest.approx(10 * positive + 0.1 * negative, rel=1e-6)


def test_zero_rows_have_similarity_zero_and_finite_gradients() -> None:
    composed, target, caption = batches(4, 3)
    composed[1] = 0
    composed.requires_grad_()
    loss = scot_loss(composed, target, caption)
    (gradient,) = torch.autograd.grad(loss, composed)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, t, o: (c, t[:3], o), "composed has shape (4, 3), but target has shape (3, 3)"),
        (lambda c, t, o: (c, t, o[:, :2]), "composed has shape (4, 3), but caption has shape (4, 2)"),
        (lambda c, t, o: (c, t.float(), o), "composed has dtype torch.float64, but target has dtype torch.float32"),
        (lambda c, t, o: (c, t, o.to("meta")), "composed has device cpu, but caption has device meta"),
        (lambda c, t, o: (c.long(), t, o), "composed must hold floats, but has dtype torch.int64"),
        (lambda c, t, o: (c[:0], t[:0], o[:0]), "composed must be a batch (N, D) with N, D >= 1, but has shape (0, 3)"),
        (lambda c, t, o: (c[0], t[0], o[0]), "composed must be a batch (N, D) with N, D >= 1, but has shape (3,)"),
    ],
)
@pytest.mark.parametrize("name", LOSSES)
def test_bad_batches_are_refused_naming_both_sides(
    name: str, change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], message: str
) -> None:
    with pytest.raises(ShapeError) as caught:
        LOSSES[name](*change(*batches(4, 3)))
    assert str(caught.value).removesuffix("; they must be equal") == message


def test_a_configuration_names_its_loss() -> None:
    inputs = batches(4, 3)
    assert torch.equal(by_name("scot", margin=0.4)(*inputs), scot_loss(*inputs, margin=0.4))
    with pytest.raises(ConfigError, match=r"no loss 'triplet'; choose one of scot, .*, infonce-with-captions$"):
        by_name("triplet")
    with pytest.raises(ConfigError, match=r"'infonce' has no parameter margin; it has temperature$"):
        by_name("infonce", margin=0.4)
    with pytest.raises(ConfigError, match=r"no parameter a, b; it has alpha_pos, alpha_neg$"):
        by_name("scot-without-margin", b=1, a=2)
