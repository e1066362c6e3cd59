"""Fields of velocities, of coarser grids, after a matrix: against loops, borders, derivatives."""

import pytest
import torch
from torch.autograd import gradcheck

from labelmend.alignment.affine import (
    compose,
    rotation_matrix,
    scale_matrix,
    shift_matrix,
    warp_affine,
)
from labelmend.alignment.fields import compose_fields, field_of, jacobian_determinant, warp_field
from labelmend.alignment.velocity import after_matrix, check_field, enlarge, integrate
from labelmend.errors import NonFiniteError, SettingsError, ShapeError

from . import oracle_velocity as oracle

SPACES = [(11,), (7, 8), (5, 4, 5), (1, 6), (1,)]
LARGER = [(41,), (24, 29), (12, 13, 11)]


def rough(space, seed=0, batch=2, most=1.5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, len(space), *space)
    return most * (2 * torch.rand(shape, generator=generator, dtype=dtype) - 1)


def wave(space, most=1.0, length=16.0, dtype=torch.float64):
    """A smooth velocity: every component a wave over all axes."""
    sizes = [torch.arange(n, dtype=dtype) for n in space]
    grids = torch.meshgrid(*sizes, indexing="ij")
    parts = []
    for row in range(len(space)):
        phase = sum((row + axis + 1) * p for axis, p in enumerate(grids)) / (len(space) + row)
        parts.append(most * torch.sin(2 * torch.pi * phase / length + row))
    return torch.stack(parts).unsqueeze(0)


def centred(space, slopes, dtype=torch.float64):
    """A velocity ``slopes · (p − centre)``, straight lines throughout."""
    sizes = [torch.arange(n, dtype=dtype) - (n - 1) / 2 for n in space]
    from_centre = torch.stack(torch.meshgrid(*sizes, indexing="ij"))
    return torch.einsum("rc,c...->r...", torch.tensor(slopes, dtype=dtype), from_centre)[None]


def inner(values, margin):
    return values[(..., *[slice(margin, n - margin) for n in values.shape[2:]])]


# ---------------------------------------------------------------- velocities


@pytest.mark.parametrize("space", SPACES)
def test_a_flow_is_many_short_steps(space):
    velocity = torch.cat([wave(space), -wave(space, 0.7)])
    found, expected = integrate(velocity), oracle.flowed(velocity, 200)
    # Steps of 1/64 are off by slope · speed / 128, linear reading by an eighth of the curvature.
    assert (found - expected).abs().max() < 0.05
    assert (velocity - expected).abs().max() > 0.1 or max(space) == 1


@pytest.mark.parametrize("steps", [0, 1, 4, 6])
def test_where_lines_are_straight_doubling_is_exactly_stepping(steps):
    # What flows outwards comes from inside, so no border takes part.
    solid = [[0.4, 0, 0], [0, 0.6, 0], [0, 0, 0.2]]
    cases = [((9,), [[0.8]]), ((6, 7), [[0.7, 0.3], [-0.2, 0.5]]), ((3, 4, 5), solid)]
    for space, slopes in cases:
        velocity = centred(space, slopes)
        expected = oracle.flowed(velocity, 2**steps)
        torch.testing.assert_close(integrate(velocity, steps=steps), expected, rtol=0, atol=1e-9)


def test_positive_velocity_moves_content_up():
    label = torch.zeros(1, 1, 12)
    label[0, 0, 3] = 1
    moved, _ = warp_field(label, label[:, 0] >= 0, integrate(torch.full((1, 1, 12), 2.0)))
    assert moved.argmax() == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("space", [*SPACES, (70_000,)])
def test_one_velocity_everywhere_is_that_field_to_the_bit(space, dtype):
    shift = torch.tensor([[0.3, -1.7, 90.1], [-1e-4, 0.0, 5.0]], dtype=dtype)[:, : len(space)]
    constant = shift.reshape(2, -1, *[1] * len(space)).expand(-1, -1, *space)
    for steps in (0, 1, 6, 9):
        assert torch.equal(integrate(constant, steps=steps), constant)


def test_beyond_the_border_the_outermost_values_go_on():
    velocity = torch.tensor([[[4.0, 4.0, 0.0, 0.0, -4.0, -4.0]]])
    field = integrate(velocity)
    # Everything arrives from outside, where the velocity stays that of the border.
    assert field[0, 0, [0, 1, 4, 5]].tolist() == [4, 4, -4, -4]


@pytest.mark.parametrize("space", LARGER)
def test_a_smooth_flow_never_folds_even_where_its_velocity_does_as_a_field(space):
    velocity = wave(space, most=(3.2, 3.2, 2.0)[len(space) - 1])
    assert jacobian_determinant(velocity).min() < 0
    assert jacobian_determinant(integrate(velocity)).min() > 0.02


@pytest.mark.parametrize("space", LARGER)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_way_there_and_back_is_none_inside(space, dtype):
    velocity = wave(space, most=1.5, length=24, dtype=dtype)
    there, back = integrate(velocity), integrate(-velocity)
    for both in (compose_fields(there, back), compose_fields(back, there)):
        assert inner(both, 3).abs().max() < 0.08
    # What no flow does: take the same field with the other sign.
    assert inner(compose_fields(there, -there), 3).abs().max() > 0.3


def test_far_along_an_axis_no_digits_are_lost():
    velocity = torch.sin(torch.arange(400_000, dtype=torch.float64) / 30).reshape(1, 1, -1)
    found, exact = integrate(velocity.float()), integrate(velocity)
    # Displacements under 1/1024 are read where they stand; positions as such hold 1/32 there.
    assert (found - exact).abs().max() < 1e-3


def test_the_first_step_of_a_network_that_says_nothing():
    velocity = torch.zeros(1, 2, 4, 5, requires_grad=True)
    field = integrate(velocity)
    weight = torch.arange(40.0).reshape(1, 2, 4, 5)
    (field * weight).sum().backward()
    assert not field.any() and torch.equal(velocity.grad, weight)


# ---------------------------------------------------------------- coarser grids


def test_a_scale_in_cells_is_that_scale_in_positions():
    matrix = scale_matrix(torch.tensor([[1.25, 0.8]], dtype=torch.float64), (6, 5))
    cells = field_of(matrix, (6, 5))
    fine = enlarge(cells, (24, 15))
    assert torch.equal(enlarge(cells, (6, 5)), cells)
    whole = scale_matrix(torch.tensor([[1.25, 0.8]], dtype=torch.float64), (24, 15))
    # Beyond the outermost centres, 1.5 and 1 position inside, the line does not go on.
    expected = field_of(whole, (24, 15))[:, :, 2:-2, 1:-1]
    torch.testing.assert_close(fine[:, :, 2:-2, 1:-1], expected)


# ---------------------------------------------------------------- after a matrix


def turned(space, dtype=torch.float64):
    """A turn, scale and shift of one sample."""
    matrix = scale_matrix(torch.tensor([1.1], dtype=dtype), space)
    if len(space) > 1:
        angle = torch.tensor([0.15], dtype=dtype)
        angle = angle if len(space) == 2 else angle.unsqueeze(1).expand(1, 3)
        matrix = compose(matrix, rotation_matrix(angle, space))
    shift = torch.tensor([[0.7, -1.3, 0.4]], dtype=dtype)[:, : len(space)]
    return compose(matrix, shift_matrix(shift))


@pytest.mark.parametrize("space", [(64,), (40, 48), (24, 26, 25)])
def test_it_is_the_matrix_and_then_the_field(space):
    label = wave(space, length=60)[:, :1]
    valid = torch.ones(1, *space, dtype=torch.bool)
    matrix, then = turned(space), wave(space, most=2.0, length=50)
    once, known = warp_field(label, valid, after_matrix(matrix, then))
    twice, known_twice = warp_field(*warp_affine(label, valid, matrix), then)
    both = (known & known_twice).unsqueeze(1)
    assert both.double().mean() > 0.4
    assert (once - twice)[both].abs().max() < 0.01
    # In the other order, and with the two fields only added, it is something else.
    for wrong in (compose_fields(then, field_of(matrix, space)), field_of(matrix, space) + then):
        other, known_other = warp_field(label, valid, wrong)
        assert (other - twice)[both & known_other.unsqueeze(1)].abs().max() > 0.015


# ---------------------------------------------------------------- of all three


@pytest.mark.parametrize("space", [(6,), (3, 4), (2, 3, 2)])
def test_derivatives(space):
    field = rough(space, 4, batch=1, most=1.2).requires_grad_()
    matrix = turned(space).requires_grad_()
    larger = [2 * n + 1 for n in space]
    assert gradcheck(lambda v: integrate(v, steps=3), (field,), check_forward_ad=True)
    assert gradcheck(lambda v: enlarge(v, larger), (field,), check_forward_ad=True)
    assert gradcheck(after_matrix, (matrix, field), check_forward_ad=True)


CALLS = {
    "integrate": integrate,
    "enlarge": lambda field: enlarge(field, (9, 12)),
    "after_matrix": lambda field: after_matrix(turned((4, 5), torch.float32), field),
}


@pytest.mark.parametrize("call", sorted(CALLS))
def test_half_precision_is_computed_in_single_and_autocast_changes_nothing(call):
    field = rough((4, 5), batch=1, dtype=torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        found = CALLS[call](field.to(dtype))
        assert found.dtype == torch.float32
        assert torch.equal(found, CALLS[call](field.to(dtype).float()))
    with torch.autocast("cpu", torch.bfloat16):
        cast = CALLS[call](field)
    assert torch.equal(cast, CALLS[call](field))
    assert CALLS[call](field.double()).dtype == torch.float64


@pytest.mark.parametrize("call", sorted(CALLS))
def test_nothing_given_is_changed(call):
    field = rough((4, 5), batch=1, dtype=torch.float32)
    before = field.clone()
    CALLS[call](field).add_(1)
    assert torch.equal(field, before)


@pytest.mark.parametrize("call", sorted(CALLS))
def test_what_is_no_number_is_refused(call):
    for bad in (torch.nan, torch.inf):
        field = torch.zeros(1, 2, 4, 5)
        field[0, 1, 2, 3] = bad
        with pytest.raises(NonFiniteError, match="sample 0 of the batch"):
            CALLS[call](field)


FIELD = torch.zeros(2, 2, 4, 4)
WRONG = {
    "whole velocities": lambda: integrate(FIELD.long()),
    "axes last": lambda: integrate(FIELD[:, :1]),
    "four axes": lambda: check_field("field", torch.zeros(1, 4, 2, 2, 2, 2)),
    "a space of other axes": lambda: enlarge(FIELD, (8,)),
    "a smaller space": lambda: enlarge(FIELD, (8, 3)),
    "no field of cells": lambda: enlarge(FIELD[:, 0], (8, 8)),
    "a matrix of another space": lambda: after_matrix(shift_matrix(torch.zeros(2, 3)), FIELD),
    "a matrix for one": lambda: after_matrix(shift_matrix(torch.zeros(1, 2)), FIELD),
    "another device": lambda: after_matrix(shift_matrix(torch.zeros(2, 2)).to("meta"), FIELD),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_does_not_fit_is_refused(case):
    with pytest.raises(ShapeError, match="must be"):
        WRONG[case]()


def test_a_matrix_that_flattens_and_steps_below_none_are_refused():
    with pytest.raises(NonFiniteError, match="inverse"):
        after_matrix(torch.zeros(2, 2, 3), FIELD)
    with pytest.raises(SettingsError, match="0 or more"):
        integrate(FIELD, steps=-1)
