from __future__ import annotations

import math

import pytest
import torch

from labelmend.errors import ShapeError
from labelmend.weighting.cosine import gradient_cosine, with_lengths
from labelmend.weighting.gradients import exact, mean_gradient

from . import oracle_gradients as oracle
from .similarity_cases import Case
from .test_gradients import off

CASES = [("unet", 1), ("dynunet", 2), ("basic_unet", 2), ("segresnet", 3)]


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_it_equals_a_loop_over_single_samples(name: str, dims: int) -> None:
    case = Case(name, dims)
    direction = case.some_direction()
    losses, similarity, length = with_lengths(case.losses_of, case.params, direction)
    slopes, lengths, cosines = oracle.angles(case.each(), case.params, direction)
    assert off(similarity, slopes) <= 1e-10
    assert off(length, lengths) <= 1e-10
    assert off(gradient_cosine(case.losses_of, case.params, direction), cosines) <= 1e-10
    torch.testing.assert_close(losses, case.losses_of(case.params), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_float32_is_right_to_1e_5(name: str, dims: int) -> None:
    case, right = Case(name, dims, dtype=torch.float32), Case(name, dims)
    right.image, right.label, right.valid = case.image.double(), case.label, case.valid
    direction = mean_gradient(case.losses_of, case.params)
    losses, similarity, length = with_lengths(case.losses_of, case.params, direction)
    slopes, lengths, cosines = oracle.angles(right.each(), case.params, direction)
    assert off(similarity, slopes) <= 1e-5 and off(length, lengths) <= 1e-5
    assert off(gradient_cosine(case.losses_of, case.params, direction), cosines) <= 1e-5
    assert losses.dtype == similarity.dtype == length.dtype == torch.float32
    assert losses.shape == similarity.shape == length.shape == (case.batch,)


def test_similarities_and_losses_are_those_of_one_forward_mode_pass() -> None:
    case = Case()
    direction = mean_gradient(case.losses_of, case.params)
    losses, similarity, _ = with_lengths(case.losses_of, case.params, direction)
    right_losses, right = exact(case.losses_of, case.params, direction)
    assert off(similarity, right) <= 1e-10
    torch.testing.assert_close(losses, right_losses, rtol=1e-12, atol=0)


def test_a_gradient_is_like_itself_and_unlike_its_opposite() -> None:
    case = Case()
    one = mean_gradient(case.part(slice(1, 2)), case.params)
    opposite = {n: -v for n, v in one.items()}
    assert gradient_cosine(case.losses_of, case.params, one)[1].item() == pytest.approx(1)
    found = gradient_cosine(case.losses_of, case.params, opposite)
    assert found[1].item() == pytest.approx(-1)
    assert (found.abs() <= 1).all()


def test_rounding_leads_no_cosine_beyond_1() -> None:
    row = torch.tensor([0.3, -1.7, 0.9])
    rows = torch.linspace(-3, 3, 300)[:, None] * row
    one = {"w": torch.ones(3)}
    found = gradient_cosine(lambda p: (rows * p["w"]).sum(1), one, {"w": row})
    assert found.abs().max() <= 1
    torch.testing.assert_close(found, rows[:, 0].sign())


@pytest.mark.parametrize("factor", [1e-25, 1e-6, 1e12])
def test_neither_the_size_of_the_direction_nor_that_of_the_losses_matters(factor: float) -> None:
    case = Case(dtype=torch.float32)
    direction = mean_gradient(case.losses_of, case.params)
    right = gradient_cosine(case.losses_of, case.params, direction)
    longer = {n: factor * v for n, v in direction.items()}

    def losses_of(values):
        return max(factor, 1e-15) * case.losses_of(values)

    assert off(gradient_cosine(losses_of, case.params, longer), right) <= 1e-5


def test_gradients_and_directions_of_zero_have_a_cosine_of_zero() -> None:
    x = torch.tensor([1.0, 0.0, -2.0])
    one, zero = {"w": torch.ones(3)}, {"w": torch.zeros(3)}

    def losses_of(p):
        return p["w"].sum() * x

    assert torch.equal(gradient_cosine(losses_of, one, one), torch.tensor([1.0, 0.0, -1.0]))
    assert torch.equal(gradient_cosine(losses_of, one, zero), torch.zeros(3))
    _, similarity, length = with_lengths(losses_of, one, zero)
    assert torch.equal(similarity, torch.zeros(3))
    torch.testing.assert_close(length, x.abs() * math.sqrt(3))


def test_a_sample_without_valid_positions_has_no_gradient() -> None:
    case = Case()
    case.valid[1] = False
    direction = mean_gradient(case.losses_of, case.params)
    _, similarity, length = with_lengths(case.losses_of, case.params, direction)
    assert similarity[1] == length[1] == 0
    found = gradient_cosine(case.losses_of, case.params, direction)
    assert found[1] == 0 and found.isfinite().all() and (found[[0, 2]] != 0).all()


def test_a_gradient_that_is_no_number_stays_visible() -> None:
    one, x = {"w": torch.ones(2)}, torch.tensor([1.0, math.nan])
    assert gradient_cosine(lambda p: p["w"].sum() * x, one, one)[1].isnan()
    assert gradient_cosine(lambda p: p["w"] * x, one, one)[1].isnan()


def test_a_parameter_that_takes_no_part_adds_nothing() -> None:
    params = {"w": torch.ones(()), "idle": torch.ones(3)}
    x = torch.tensor([1.0, -3.0])
    _, similarity, length = with_lengths(lambda p: p["w"] * x, params, params)
    assert torch.equal(similarity, x) and torch.equal(length, x.abs())
    idle = {"idle": params["idle"]}
    inside = torch.ones((), requires_grad=True)  # a parameter held fixed
    for of in (lambda p: x, lambda p: inside * x):
        assert not torch.stack(with_lengths(of, idle, idle)[1:]).any()
        assert torch.equal(gradient_cosine(of, idle, idle), torch.zeros(2))


def test_nothing_that_is_passed_in_changes() -> None:
    case = Case()
    params = {n: p.clone().requires_grad_() for n, p in case.params.items()}
    direction = case.some_direction()
    for found in (
        *with_lengths(case.losses_of, params, direction),
        gradient_cosine(case.losses_of, params, direction),
    ):
        assert not found.requires_grad
    with_lengths(case.losses_of, case.params, direction)
    for name, value in params.items():
        assert torch.equal(value, case.params[name]) and value.grad is None
        assert not case.params[name].requires_grad
        assert torch.equal(direction[name], case.some_direction()[name])


def test_ambient_autocast_and_no_grad_change_nothing() -> None:
    case = Case(dtype=torch.float32)
    direction = mean_gradient(case.losses_of, case.params)
    plain = with_lengths(case.losses_of, case.params, direction)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        inside = with_lengths(case.losses_of, case.params, direction)
        assert torch.is_autocast_enabled("cpu")
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))


def test_what_does_not_fit_is_refused() -> None:
    params = {"w": torch.ones(2)}
    with pytest.raises(ShapeError, match="one loss per sample"):
        with_lengths(lambda p: p["w"].sum(), params, params)
    for refuses in (with_lengths, gradient_cosine):
        with pytest.raises(ShapeError, match="only one has: v, w"):
            refuses(lambda p: p["w"], params, {"v": torch.ones(2)})
        with pytest.raises(ShapeError, match=r"'w' must be shaped \(2,\).*not \(3,\)"):
            refuses(lambda p: p["w"], params, {"w": torch.ones(3)})
