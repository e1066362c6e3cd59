from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from labelmend.errors import SettingsError, ShapeError
from labelmend.weighting.central import (
    STEPS,
    TOLERANCE,
    Step,
    along,
    central,
    channels_last,
    checked_central,
    find_step,
)
from labelmend.weighting.gradients import exact, inner, mean_gradient

from .similarity_cases import WORKS, Case
from .test_gradients import OnlyReverse, off

STEPS64 = STEPS[torch.float64]


def trusted(case: Case, strong: slice):
    """The mean gradient of some samples and its squared length."""
    direction = mean_gradient(case.part(strong), case.params)
    return direction, inner(direction, direction)


# ---------------------------------------------------------------- the difference itself


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_two_passes_come_near_the_exact_mode(name: str, dims: int) -> None:
    case = Case(name, dims)
    direction = mean_gradient(case.losses_of, case.params)
    losses, found = central(case.losses_of, case.params, direction)
    right_losses, right = exact(case.losses_of, case.params, direction)
    # Not 1e-10: some rectified units bend between the two.
    assert off(found, right) <= 1e-3
    torch.testing.assert_close(losses, right_losses, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_float32_passes_the_check_and_is_right(name: str, dims: int) -> None:
    case = Case(name, dims, batch=5, dtype=torch.float32, size=4 if dims < 3 else 2)
    strong, weak = slice(0, 2), slice(2, 5)
    direction, slope = trusted(case, strong)
    found = checked_central(case.part(weak), case.params, direction, slope, case.part(strong))
    right_losses, right = exact(case.part(weak), case.params, direction)
    # A single sample may be off by more than the mean, on maps of a few positions most of all.
    assert off(found.similarity, right) <= 2e-2
    torch.testing.assert_close(found.losses, right_losses, rtol=1e-4, atol=0)
    assert found.mode == "central", found.note


@pytest.mark.parametrize("name", ["unet", "dynunet"])
def test_at_usual_sizes_every_sample_is_right_to_a_hundredth(name: str) -> None:
    case = Case(name, batch=6, dtype=torch.float32, size=8, width=16)
    strong, weak = slice(0, 3), slice(3, 6)
    direction, _ = trusted(case, strong)
    slopes = exact(case.part(strong), case.params, direction)[1]
    found = checked_central(case.part(weak), case.params, direction, slopes, case.part(strong))
    assert found.mode == "central", found.note
    assert off(found.similarity, exact(case.part(weak), case.params, direction)[1]) <= 1e-2


def test_any_curvature_is_checked_along_its_own_direction() -> None:
    case = Case(batch=4)
    gradient = mean_gradient(case.losses_of, case.params)
    direction = case.some_direction()
    slope = inner(gradient, direction)
    found = checked_central(case.losses_of, case.params, direction, slope, case.losses_of)
    assert (found.mode, found.note) == ("central", "")
    wrong = checked_central(
        case.losses_of, case.params, direction, inner(gradient, gradient), case.losses_of
    )
    assert wrong.mode == "exact"


def test_neither_the_scale_of_the_direction_nor_its_type_matters() -> None:
    case = Case()
    direction = mean_gradient(case.losses_of, case.params)
    small = {n: (1e-6 * v) for n, v in direction.items()}
    one, other = (central(case.losses_of, case.params, d)[1] for d in (direction, small))
    torch.testing.assert_close(1e-6 * one, other, rtol=1e-6, atol=0)


def test_nothing_that_is_passed_in_changes() -> None:
    case = Case()
    direction = mean_gradient(case.losses_of, case.params)
    params = {n: p.clone().requires_grad_() for n, p in case.params.items()}
    along_it = {n: v.clone() for n, v in direction.items()}
    losses, found = central(case.losses_of, params, along_it)
    assert not (losses.requires_grad or found.requires_grad)
    for name, value in params.items():
        assert torch.equal(value, case.params[name]) and value.grad is None
        assert torch.equal(along_it[name], direction[name])


def test_the_difference_is_taken_in_double_precision() -> None:
    # Losses a rounding apart: 2 * epsilon must not be rounded away with them.
    ulp = torch.finfo(torch.float32).eps
    seen = []

    def losses_of(p):
        seen.append(p["w"])
        return torch.tensor([1.0 + ulp if len(seen) == 1 else 1.0])

    one = {"w": torch.ones(1)}
    losses, found = central(losses_of, one, one, step=1e-5)
    assert found.item() == pytest.approx(ulp / 2e-5, rel=1e-6)
    assert losses.dtype == found.dtype == torch.float32
    assert seen[0].item() > 1 > seen[1].item()


def test_a_direction_or_parameters_of_zero() -> None:
    x, zero, one = torch.tensor([1.0, -3.0]), {"w": torch.zeros(())}, {"w": torch.ones(())}
    assert torch.equal(central(lambda p: p["w"] * x, one, zero)[1], torch.zeros(2))
    torch.testing.assert_close(central(lambda p: p["w"] * x, zero, one)[1], x)


def test_half_precision_is_refused_by_the_difference_and_replaced_by_the_check() -> None:
    params = {"w": torch.ones(3, dtype=torch.bfloat16)}
    with pytest.raises(SettingsError, match="'w' is bfloat16"):
        central(lambda p: p["w"], params, params)
    found = checked_central(lambda p: p["w"], params, params, 1.0, lambda p: p["w"])
    assert found.mode == "exact" and "bfloat16" in found.note
    assert torch.equal(found.similarity, params["w"])


def test_a_mean_and_a_strange_direction_are_refused() -> None:
    params = {"w": torch.ones(())}
    with pytest.raises(ShapeError, match="one loss per sample"):
        central(lambda p: p["w"], params, params)
    with pytest.raises(ShapeError, match="only one has: v, w"):
        central(lambda p: p["w"], params, {"v": torch.ones(())})


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_works_in_the_memory_layout_of_the_parameters(dims: int) -> None:
    case = Case("dynunet", dims, dtype=torch.float32, size=4)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}.get(dims)
    params = channels_last(case.params)
    seen, inputs = [], []

    def losses_of(values):
        seen.append(values)
        return case.losses_of(values)

    last = [m for m in case.network.modules() if not list(m.children())][-1]
    last.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    direction = mean_gradient(case.losses_of, case.params)
    inputs.clear()
    found = central(losses_of, params, direction)[1]
    assert len(seen) == len(inputs) == 2
    for values in seen:
        for name, value in values.items():
            assert value.stride() == params[name].stride(), name
    # From the first layer, which has one input channel, to the last.
    assert layout is None or all(x.is_contiguous(memory_format=layout) for x in inputs)
    assert off(found, exact(case.losses_of, case.params, direction)[1]) <= 1e-2


def test_the_layout_changes_no_value_and_no_parameter() -> None:
    case = Case("unet", 3, dtype=torch.float32)
    before = {n: (p.clone(), p.stride()) for n, p in case.params.items()}
    params = channels_last(case.params)
    assert list(params) == list(case.params)
    for name, value in case.params.items():
        assert torch.equal(params[name], value) and value.stride() == before[name][1]
        assert torch.equal(value, before[name][0])
    assert any(params[n].stride() != v.stride() for n, v in case.params.items())


# ---------------------------------------------------------------- the check


def _curved(scale: float):
    """Losses whose third derivative is far beyond what any step tried can bear."""
    x = torch.tensor([1.0, 0.5, -2.0], dtype=torch.float64)
    params = {"w": torch.tensor([1.0], dtype=torch.float64)}

    def losses_of(p):
        return x * (torch.sin(scale * (p["w"] - 1)) + p["w"].square())

    return losses_of, params


def test_curvature_beyond_every_step_is_found_and_the_exact_mode_steps_in() -> None:
    losses_of, params = _curved(1e9)
    direction, slope = _trusted(losses_of, params)
    right = exact(losses_of, params, direction)[1]
    unchecked = [central(losses_of, params, direction, step=s)[1] for s in STEPS64]
    assert all(off(found, right) > 10 * TOLERANCE for found in unchecked)
    found = checked_central(losses_of, params, direction, slope, losses_of)
    assert found.mode == "exact" and torch.equal(found.similarity, right)
    assert found.note.startswith("exact mode in place of the central difference: ")
    assert all(f"at {step:g}" in found.note for step in STEPS64) and "\n" not in found.note


def test_a_smaller_step_is_taken_where_it_suffices() -> None:
    losses_of, params = _curved(3e6)
    direction, slope = _trusted(losses_of, params)
    step = find_step(losses_of, params, direction, slope)
    assert step.size == 1e-8 and step.error <= TOLERANCE
    assert step.note == "relative step 1e-08 in place of 1e-07"
    found = along(step, params, direction)(losses_of)
    assert (found.mode, found.note) == ("central", step.note)
    assert off(found.similarity, exact(losses_of, params, direction)[1]) <= TOLERANCE


def test_a_larger_step_is_taken_where_rounding_hides_the_slope() -> None:
    x = torch.tensor([1.0, -3.0])
    params = {"w": torch.ones(64)}

    def losses_of(p):
        return 500 + p["w"].mean() * x

    direction = {"w": torch.ones(64)}
    step = find_step(losses_of, params, direction, -1.0, tolerance=0.2)
    assert step.size == 1e-4 and "0.0001 in place of 1e-05" in step.note


def test_losses_in_steps_are_found_out() -> None:
    case = Case(batch=4)
    direction, slope = trusted(case, slice(None))

    class Rounded(torch.autograd.Function):
        """Coarse in its value, with the derivative of what it rounds."""

        @staticmethod
        def forward(ctx, x):
            return (x * 1e4).round() / 1e4

        @staticmethod
        def backward(ctx, g):
            return g

        @staticmethod
        def jvp(ctx, tangent):
            return tangent.clone()

    def losses_of(values):
        return Rounded.apply(case.losses_of(values))

    assert (
        off(
            central(losses_of, case.params, direction)[1],
            exact(losses_of, case.params, direction)[1],
        )
        > TOLERANCE
    )
    found = checked_central(losses_of, case.params, direction, slope, losses_of)
    assert found.mode == "exact"
    assert torch.equal(found.similarity, exact(losses_of, case.params, direction)[1])


def test_dropout_in_training_mode_is_found_out() -> None:
    case = Case(batch=4, dropout=0.3)
    direction, slope = trusted(case, slice(None))
    case.network.train()
    torch.manual_seed(0)
    assert find_step(case.losses_of, case.params, direction, slope).size is None


def test_the_slow_way_steps_in_where_the_exact_one_cannot() -> None:
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    params = {"w": torch.tensor([2.0, 1.0], dtype=torch.float64)}
    found = checked_central(
        lambda p: OnlyReverse.apply(p["w"]) * x, params, params, 1e9, lambda p: p["w"]
    )
    torch.testing.assert_close(found.similarity, torch.tensor([8.0, 6.0], dtype=torch.float64))
    assert found.mode == "slow"
    assert "slow mode in place of the central difference" in found.note
    assert "forward" in found.note


def test_the_network_of_the_slow_way_is_judged_by_the_difference_where_that_is_right() -> None:
    layer = nn.LSTM(4, 3, batch_first=True).double()
    x = torch.randn(3, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    params = {n: p.detach() for n, p in layer.named_parameters()}

    def losses_of(values):
        return torch.func.functional_call(layer, dict(values), (x,))[0].square().sum((1, 2))

    direction, slope = _trusted(losses_of, params)
    assert checked_central(losses_of, params, direction, slope, losses_of).mode == "central"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_never_pass(bad: float) -> None:
    one = {"w": torch.ones(())}
    x = torch.tensor([1.0, 2.0])
    assert find_step(lambda p: p["w"] * x * bad, one, one, 1.5).size is None
    assert find_step(lambda p: p["w"] * x, one, one, bad).size is None
    step = find_step(lambda p: p["w"] * x, one, one, 100.0)
    assert step.size is None and step.error == pytest.approx(0.985, abs=1e-3)


def test_slopes_of_single_samples_see_what_a_mean_hides() -> None:
    one = {"w": torch.ones((), dtype=torch.float64)}
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    bend = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)  # cancels in the mean

    def losses_of(p):
        return x * p["w"] + bend * 1e12 * (p["w"] - 1) ** 3

    assert find_step(losses_of, one, one, 2.0, steps=(1e-5,)).size == 1e-5
    found = find_step(losses_of, one, one, x, steps=(1e-5,))
    assert found.size is None and found.error == pytest.approx(100 / 3, rel=1e-3)
    assert find_step(losses_of, one, one, x, steps=(1e-5, 1e-7)).size == 1e-7


def test_a_slope_of_zero_passes_only_when_met() -> None:
    one, x = {"w": torch.ones(())}, torch.tensor([1.0, 2.0])
    assert find_step(lambda p: p["w"] * x, one, one, 0.0).size is None
    assert find_step(lambda p: p["w"] * x, one, {"w": torch.zeros(())}, 0.0).size == 1e-5


def test_the_check_costs_two_passes_and_is_made_once_for_many_batches() -> None:
    case = Case(batch=4, dims=1)
    direction, slope = trusted(case, slice(None))
    calls = []

    def counted(values):
        calls.append(1)
        return case.losses_of(values)

    step = find_step(counted, case.params, direction, slope)
    assert len(calls) == 2 and isinstance(step, Step)
    similarities = along(step, case.params, direction)
    found = [similarities(counted) for _ in range(3)]
    assert len(calls) == 2 + 3 * 2
    _, right = central(case.losses_of, case.params, direction, step=step.size)
    assert all(torch.equal(one.similarity, right) for one in found)


def test_ambient_autocast_changes_nothing() -> None:
    case = Case(dtype=torch.float32)
    direction, slope = trusted(case, slice(None))
    plain = checked_central(case.losses_of, case.params, direction, slope, case.losses_of)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = checked_central(case.losses_of, case.params, direction, slope, case.losses_of)
    assert plain.mode == inside.mode == "central"
    assert torch.equal(plain.similarity, inside.similarity)


def test_autocast_of_the_losses_own_is_found_out() -> None:
    case = Case(dtype=torch.float32)

    def half(values):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return case.losses_of(values)

    direction = mean_gradient(half, case.params)
    found = checked_central(half, case.params, direction, inner(direction, direction), half)
    assert found.mode == "exact"


def _trusted(losses_of, params):
    direction = mean_gradient(losses_of, params)
    return direction, inner(direction, direction)
