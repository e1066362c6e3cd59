"""Penalties of fields: against loops, what they leave free, derivatives, errors."""

import pytest
import torch
from torch.autograd import gradcheck

from labelmend.alignment.affine import rotation_matrix, scale_matrix, shift_matrix
from labelmend.alignment.fields import field_of, jacobian_determinant
from labelmend.alignment.smoothness import (
    bending_energy,
    folding,
    gradient_energy,
    mean_displacement,
    size_energy,
)
from labelmend.errors import NonFiniteError, SettingsError, ShapeError

from . import oracle_velocity as oracle

SPACES = [(7,), (4, 5), (3, 4, 3), (1, 6), (5, 1, 2), (2,), (1,)]
PENALTIES = {
    "gradient": gradient_energy,
    "bending": bending_energy,
    "size": lambda field: size_energy(field, 0.5),
    "folding": folding,
}
ALL = {**PENALTIES, "mean": mean_displacement}


def rough(space, seed=0, batch=3, most=1.5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, len(space), *space)
    return most * (2 * torch.rand(shape, generator=generator, dtype=dtype) - 1)


@pytest.mark.parametrize("space", SPACES)
def test_they_are_what_a_loop_finds(space):
    field = rough(space)
    limits = [0.2, 0.9, 0.0][: len(space)]
    for found, by_loop in (
        (gradient_energy(field), oracle.gradient_energy),
        (bending_energy(field), oracle.bending_energy),
        (size_energy(field, limits), lambda sample: oracle.size_energy(sample, limits)),
    ):
        assert found.shape == (3,)
        assert found.tolist() == pytest.approx([by_loop(sample) for sample in field.numpy()])
    assert mean_displacement(field).shape == (3, len(space))
    assert mean_displacement(field)[1].tolist() == pytest.approx(
        [float(component.mean()) for component in field[1]]
    )


@pytest.mark.parametrize("space", SPACES)
def test_a_shift_is_smooth_and_does_not_fold(space):
    shift = torch.tensor([[0.3, -1.7, 2.1]])[:, : len(space)]
    field = shift.reshape(1, -1, *[1] * len(space)).expand(-1, -1, *space)
    for penalty in (gradient_energy, bending_energy, folding):
        assert penalty(field).tolist() == [0]
    torch.testing.assert_close(mean_displacement(field), shift)
    assert size_energy(field, 3).tolist() == [0] < size_energy(field, 0.2).tolist()


@pytest.mark.parametrize("space", [(40,), (20, 21), (6, 7, 8)])
def test_a_matrix_does_not_bend_but_has_slopes(space):
    matrix = scale_matrix(torch.tensor([1.3], dtype=torch.float64), space)
    if len(space) > 1:
        angle = torch.tensor([0.4], dtype=torch.float64)
        angle = angle if len(space) == 2 else angle.unsqueeze(1).expand(1, 3)
        matrix = rotation_matrix(angle, space)
    field = field_of(matrix, space)
    assert bending_energy(field) < 1e-20 and gradient_energy(field) > 1e-3
    assert bending_energy(field.float()) < 1e-8


def test_a_twist_bends_though_no_axis_does():
    rows, columns = torch.arange(4.0)[:, None], torch.arange(5.0)
    field = torch.stack([rows * columns, torch.zeros(4, 5)])[None]
    # Only the two mixed pairs of four, and one component of two.
    assert bending_energy(field).tolist() == [0.25]


def test_units_of_a_ramp_and_a_parabola():
    ramp = 0.5 * torch.arange(9.0).reshape(1, 1, -1)
    assert gradient_energy(ramp).tolist() == [0.25]
    assert bending_energy(ramp.square()).tolist() == [0.25]
    assert size_energy(ramp, 0).tolist() == [float(ramp.square().mean())]


def test_a_scale_that_mirrors_folds_by_its_determinant():
    matrix = scale_matrix(torch.tensor([[-1.0, 0.5]], dtype=torch.float64), (5, 6))
    torch.testing.assert_close(folding(field_of(matrix, (5, 6))), torch.tensor([2.0]).double())


@pytest.mark.parametrize("space", [(12,), (5, 6), (3, 4, 3)])
def test_only_a_fold_costs_and_stepping_down_opens_it(space):
    fine = rough(space, most=0.05)
    assert folding(fine).tolist() == [0, 0, 0]
    field = fine.clone()
    field[(1, 0, *[1] * len(space))] = 1.6
    field.requires_grad_()
    cost = folding(field)
    assert cost[1] > 0 and cost[[0, 2]].tolist() == [0, 0]
    cost.sum().backward()
    assert field.grad[1].any() and not field.grad[[0, 2]].any()
    for _ in range(200):
        step = torch.autograd.grad(folding(field).sum(), field)[0]
        field = (field - 0.5 * step).detach().requires_grad_()
    assert folding(field)[1] < 0.05 * cost[1] and jacobian_determinant(field)[1].min() > -0.1


def test_what_is_squeezed_to_a_point_is_pulled_open():
    field = torch.tensor([[[0.0, 1.0, 1.0]]], requires_grad=True)
    folding(field).sum().backward()
    assert folding(field).tolist() == [0] and field.grad[0, 0, 0] < 0 < field.grad[0, 0, 1]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", sorted(ALL))
def test_axes_of_one_position_have_derivatives_that_are_numbers(space, name):
    field = rough(space).requires_grad_()
    # What cannot fold at all is a plain 0, with no derivative of its own.
    (ALL[name](field).sum() + 0 * field.sum()).backward()
    assert field.grad.isfinite().all()


def test_along_an_axis_of_one_position_nothing_is_rough():
    flat = rough((5, 6))
    field = torch.cat([torch.full((3, 1, 5, 6), 7.0).double(), flat], 1).unsqueeze(2)
    # A third axis and component without slopes; the means have as many more values.
    torch.testing.assert_close(gradient_energy(field), gradient_energy(flat) * (2 / 3) ** 2)
    torch.testing.assert_close(bending_energy(field), bending_energy(flat) * (2 / 3) ** 3)
    torch.testing.assert_close(folding(field), folding(flat))


@pytest.mark.parametrize("space", [(6,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("name", sorted(ALL))
def test_derivatives(space, name):
    field = rough(space, 3, batch=1).requires_grad_()
    assert gradcheck(ALL[name], (field,), check_forward_ad=True)


@pytest.mark.parametrize("name", sorted(ALL))
def test_half_precision_is_computed_in_single_and_autocast_changes_nothing(name):
    field = rough((70, 80), dtype=torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        found = ALL[name](field.to(dtype))
        assert found.dtype == torch.float32
        assert torch.equal(found, ALL[name](field.to(dtype).float()))
    with torch.autocast("cpu", torch.bfloat16):
        cast = ALL[name](field)
    assert torch.equal(cast, ALL[name](field))


FIELD = torch.zeros(2, 2, 4, 4)


@pytest.mark.parametrize("name", sorted(ALL))
def test_what_is_no_field_is_refused(name):
    for wrong in (FIELD.long(), FIELD[:, :1], FIELD[:, :, 0, 0], FIELD[:, 0]):
        with pytest.raises(ShapeError, match="must be floating"):
            ALL[name](wrong)
    bad = FIELD.clone()
    bad[1, 0, 2, 2] = torch.nan
    with pytest.raises(NonFiniteError, match="sample 1 of the batch"):
        ALL[name](bad)


@pytest.mark.parametrize("limit", [-1.0, torch.nan, (1.0,), (1.0, 2.0, 3.0), (1.0, -2.0)])
def test_a_limit_that_does_not_fit_is_refused(limit):
    with pytest.raises(SettingsError, match="0 or more"):
        size_energy(FIELD, limit)


def test_a_limit_of_all_axes_is_that_of_each():
    field = rough((4, 5))
    assert torch.equal(size_energy(field, 0.4), size_energy(field, (0.4, 0.4)))
    assert not torch.equal(size_energy(field, 0.4), size_energy(field, (0.4, 0.8)))


def test_the_field_of_a_shift_matrix_means_its_shift():
    shift = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    found = mean_displacement(field_of(shift_matrix(shift), (5, 6)))
    assert torch.equal(found, shift)
