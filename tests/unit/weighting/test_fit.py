from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelmend.losses import make_loss
from labelmend.weighting.fit import disagreement, disagreement_by_class, says_something
from labelmend.weighting.gradients import exact, slow

from . import oracle_fit as oracle

seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
kinds = st.booleans()  # continuous or not
forms = st.sampled_from([disagreement, disagreement_by_class])
known_shares = st.sampled_from([0.0, 0.5, 1.1])
scales = st.sampled_from([0.1, 3.0, 100.0, 1e4, 1e30])


def drawn(continuous, space, seed, share=1.1, scale=3.0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(4, classes, *space, generator=generator, dtype=torch.float64)
    label = torch.randint(0, classes, (4, *space), generator=generator)
    if continuous:
        label = torch.randn(4, classes, *space, generator=generator, dtype=torch.float64)
    return logits, label, torch.rand(4, *space, generator=generator) < share


# ---------------------------------------------------------------------- by the definition


@given(space=spaces, seed=seeds, share=known_shares, scale=st.sampled_from([0.1, 3.0, 100.0]))
def test_classes_are_compared_as_loops_do_it(space, seed, share, scale) -> None:
    logits, label, valid = drawn(False, space, seed, share, scale)
    found = disagreement(logits, label, valid)
    by_class = disagreement_by_class(logits, label, valid)
    for k in range(4):
        z = logits[k].flatten(1).T.tolist()
        rest = label[k].flatten().tolist(), valid[k].flatten().tolist()
        assert found[k].item() == pytest.approx(oracle.of_classes(z, *rest, (1, 2)), abs=1e-12)
        for c in range(3):
            right = oracle.of_classes(z, *rest, (c,))
            assert by_class[k, c].item() == pytest.approx(right, abs=1e-12)


@given(space=spaces, seed=seeds, share=known_shares, scale=st.sampled_from([0.1, 3.0, 100.0]))
def test_channels_are_compared_as_loops_do_it(space, seed, share, scale) -> None:
    logits, label, valid = drawn(True, space, seed, share, scale)
    found = disagreement(logits, label, valid)
    by_channel = disagreement_by_class(logits, label, valid)
    for k in range(4):
        z, y = logits[k].flatten(1).tolist(), label[k].flatten(1).tolist()
        known = valid[k].flatten().tolist()
        assert found[k].item() == pytest.approx(oracle.of_channels(z, y, known), abs=1e-12)
        for c in range(3):
            right = oracle.of_channels(z[c : c + 1], y[c : c + 1], known)
            assert by_channel[k, c].item() == pytest.approx(right, abs=1e-12)


@given(continuous=kinds, form=forms, space=spaces, seed=seeds, share=known_shares, scale=scales)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_from_0_to_1_whatever_is_predicted(
    dtype, continuous, form, space, seed, share, scale
) -> None:
    logits, label, valid = drawn(continuous, space, seed, share, scale)
    found = form(logits.to(dtype), label.to(dtype) if continuous else label, valid)
    assert found.dtype == dtype
    assert found.shape == ((4,) if form is disagreement else (4, 3))
    assert (found >= 0).all() and (found <= 1).all()


@pytest.mark.parametrize("form", [disagreement, disagreement_by_class])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("continuous", [False, True])
def test_half_precision_is_summed_in_whole(form, dtype, continuous) -> None:
    logits, label, valid = drawn(continuous, (300, 300), 0, scale=300.0)
    logits = logits.to(dtype)
    found = form(logits, label, valid)
    assert found.dtype == torch.float32 and (found >= 0).all() and (found <= 1).all()
    torch.testing.assert_close(
        found, form(logits.double(), label, valid).float(), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("form", [disagreement, disagreement_by_class])
def test_a_prediction_that_is_nearly_right_is_nearly_0_in_a_large_image(form) -> None:
    label = torch.zeros(1, 700, 700, dtype=torch.int64)
    label[:, :300] = 1
    logits = 12 * torch.nn.functional.one_hot(label, 2).movedim(-1, 1).float()
    valid = torch.ones(1, 700, 700, dtype=torch.bool)
    found = form(logits, label, valid)
    assert (found >= 0).all() and (found < 1e-9).all()
    # The difference of two large sums would be rounding, and could be below 0.
    torch.testing.assert_close(
        found, form(logits.double(), label, valid).float(), rtol=0.02, atol=0
    )


# ---------------------------------------------------------------------- laws


@given(continuous=kinds, form=forms, space=spaces, seed=seeds, share=known_shares)
def test_permuting_the_batch_permutes_the_values(continuous, form, space, seed, share) -> None:
    inputs = drawn(continuous, space, seed, share)
    order = torch.tensor([2, 0, 3, 1])
    value = form(*inputs)
    torch.testing.assert_close(form(*(t[order] for t in inputs)), value[order])
    torch.testing.assert_close(form(*(t[1:2] for t in inputs)), value[1:2])


@given(
    continuous=kinds,
    form=forms,
    space=spaces,
    seed=seeds,
    junk=st.sampled_from([math.nan, math.inf, -math.inf, 1e38]),
    number=st.sampled_from([-100, -1, 3, 255, 2**40]),
)
def test_what_stands_at_ignored_positions_does_not_matter(
    continuous, form, space, seed, junk, number
) -> None:
    logits, label, valid = drawn(continuous, space, seed, 0.5)
    known = valid.unsqueeze(1)
    other = torch.where(known if continuous else valid, label, junk if continuous else number)
    soiled = torch.where(known, logits, junk).requires_grad_()
    found = form(soiled, other, valid)
    assert torch.equal(found, form(logits, label, valid))
    (gradient,) = torch.autograd.grad(found.sum(), soiled)
    assert torch.isfinite(gradient).all() and not gradient[~known.expand_as(gradient)].any()


@given(continuous=kinds, form=forms, space=spaces, seed=seeds)
def test_a_sample_beside_itself_fits_the_same(continuous, form, space, seed) -> None:
    inputs = drawn(continuous, space, seed, 0.5)
    twice = form(*(torch.cat([t, t], -1) for t in inputs))
    torch.testing.assert_close(twice, form(*inputs), rtol=1e-12, atol=1e-12)


@given(space=spaces, seed=seeds, share=known_shares)
def test_renaming_classes_permutes_the_columns(space, seed, share) -> None:
    logits, label, valid = drawn(False, space, seed, share)
    order = torch.tensor([2, 0, 1])
    renamed = disagreement_by_class(logits[:, order], order.argsort()[label], valid)
    value = disagreement_by_class(logits, label, valid)
    torch.testing.assert_close(renamed, value[:, order], rtol=1e-12, atol=1e-12)


@given(space=spaces, seed=seeds, factor=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_continuous_values_have_neither_unit_nor_zero(space, seed, factor, shift) -> None:
    logits, label, valid = drawn(True, (*space, 2), seed)
    one = disagreement(logits, label, valid)
    other = disagreement(logits * factor + shift, label * factor + shift, valid)
    torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("form", [disagreement, disagreement_by_class])
def test_a_step_along_its_slope_is_a_worse_fit(continuous, form) -> None:
    logits, label, valid = drawn(continuous, (5, 5), 3, 0.8)
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(form(logits, label, valid).sum(), logits)
    assert (form(logits + 0.01 * slope, label, valid) > form(logits, label, valid)).all()


# ---------------------------------------------------------------------- its slopes


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("by_class", [False, True])
def test_it_is_pushed_through_one_pass_with_the_losses(continuous, by_class) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv1d(1, 3, 3, padding=1).double()
    params = dict(network.named_parameters())
    image = torch.randn(4, 1, 9, dtype=torch.float64)
    _, label, valid = drawn(continuous, (9,), 5, 0.7)
    valid[2] = False
    loss = make_loss("l2" if continuous else "dice_ce", by_class=by_class)
    fit = disagreement_by_class if by_class else disagreement

    def judged(p):
        logits = torch.func.functional_call(network, dict(p), (image,))
        return torch.cat([f(logits, label, valid).flatten() for f in (loss, fit)])

    direction = {n: torch.randn_like(p) for n, p in params.items()}
    values, slopes = exact(judged, params, direction)
    right_values, right = slow(judged, params, direction)
    torch.testing.assert_close(values, right_values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slopes, right, rtol=1e-9, atol=1e-12)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (
            judged({n: p + s * direction[n] for n, p in params.items()}) for s in (step, -step)
        )
    torch.testing.assert_close(slopes, (ahead - behind) / 2 / step, rtol=1e-5, atol=1e-7)
    many = len(values) // 2
    assert slopes[many:].abs().max() > 1e-3


# ---------------------------------------------------------------------- what it means

SHAPE = (1, 20, 20)
ALL = torch.ones(SHAPE, dtype=torch.bool)


def box(size: int, of: int = 1) -> torch.Tensor:
    label = torch.zeros(SHAPE, dtype=torch.int64)
    label[:, :size, :size] = of
    return label


def sure(label: torch.Tensor, classes: int = 2) -> torch.Tensor:
    """The logits of a network that is certain of a label."""
    return 40 * torch.nn.functional.one_hot(label, classes).movedim(-1, 1).double()


@pytest.mark.parametrize(
    ("predicted", "claimed", "low", "high"),
    [
        (0, 0, 0.0, 1e-6),
        (9, 9, 0.0, 1e-6),
        (9, 0, 0.97, 1.0),
        (0, 9, 0.99, 1.0),
        (5, 0, 0.92, 1.0),
        (10, 9, 0.10, 0.11),
    ],
)
def test_an_empty_label_is_right_only_where_nothing_is(predicted, claimed, low, high) -> None:
    found = disagreement(sure(box(predicted)), box(claimed), ALL)
    assert low <= found.item() <= high


def test_a_speck_smaller_than_an_object_worth_speaking_of_is_no_error() -> None:
    large = torch.zeros(1, 100, 100, dtype=torch.int64)
    speck = large.clone()
    speck[0, 0, 0] = 1
    found = disagreement(sure(speck), large, torch.ones(1, 100, 100, dtype=torch.bool))
    assert found.item() == pytest.approx(1 / 51)


@pytest.mark.parametrize("form", [disagreement, disagreement_by_class])
def test_doubt_everywhere_is_no_object(form) -> None:
    unsure = torch.tensor([math.log(19), 0.0]).view(1, 2, 1, 1).expand(1, 2, 20, 20)  # 95 % sure
    empty = form(unsure, box(0), ALL)
    assert empty.reshape(1, -1)[0, -1] == 0
    # and an object that nothing is seen of stays wrong
    assert form(unsure, box(5), ALL).reshape(1, -1)[0, -1] > 0.85


def test_what_says_nothing_is_told_apart() -> None:
    label = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 3.0], [5.0, 5.0]], [[1.0, 2.0]] * 2])
    valid = torch.tensor([[True, True], [True, True], [True, False]])
    assert says_something(label, valid).tolist() == [True, False, False]
    assert says_something(label[:, 0].long(), valid).all()
    assert not says_something(label[:, 0].long(), torch.zeros_like(valid)).any()


def test_background_alone_never_makes_a_fit() -> None:
    apart = torch.roll(box(3), 10, 1)
    assert disagreement(sure(apart), box(3), ALL).item() > 0.97
    found = disagreement_by_class(sure(apart), box(3), ALL)
    assert found[0, 0] < 0.1 and found[0, 1] > 0.97


def test_another_class_in_the_same_place_is_wrong() -> None:
    found = disagreement(sure(box(9, of=2), 3), box(9, of=1), ALL)
    assert found.item() > 0.99
    by_class = disagreement_by_class(sure(box(9, of=2), 3), box(9, of=1), ALL)
    torch.testing.assert_close(by_class > 0.97, torch.tensor([[False, True, True]]))


@pytest.mark.parametrize("form", [disagreement, disagreement_by_class])
@pytest.mark.parametrize("continuous", [False, True])
def test_nothing_valid_is_nothing_wrong(form, continuous) -> None:
    logits, label, _ = drawn(continuous, (4, 4), 0)
    assert not form(logits, label, torch.zeros(4, 4, 4, dtype=torch.bool)).any()


def test_a_constant_continuous_label_has_no_scale_but_its_own_value() -> None:
    label = torch.full((2, 1, 8), 0.1)
    valid = torch.ones(2, 8, dtype=torch.bool)
    prediction = label.clone()
    prediction[1, 0, :4] += 0.3
    assert disagreement(prediction, label, valid).tolist() == pytest.approx([0, 1], abs=1e-6)


def test_the_mean_of_a_continuous_label_is_no_fit_and_its_mirror_image_neither() -> None:
    _, label, valid = drawn(True, (50,), 1)
    mean = label.mean(2, keepdim=True).expand_as(label)
    for prediction, right in ((label, 0.0), (mean, 1.0), (2 * mean - label, 1.0)):
        found = disagreement(prediction, label, valid)
        torch.testing.assert_close(found, torch.full((4,), right, dtype=torch.float64))
