"""Displacement fields: against loops, put together, folds, derivatives, errors."""

from itertools import product

import pytest
import torch
from torch.autograd import gradcheck

from labelmend.alignment.affine import rotation_matrix, scale_matrix, shift_matrix, warp_affine
from labelmend.alignment.fields import (
    compose_fields,
    field_of,
    jacobian_determinant,
    warp_field,
)
from labelmend.alignment.shifts import shift, shift_subpixel
from labelmend.errors import NonFiniteError, SettingsError, ShapeError

from . import oracle_transforms as oracle

SPACES = [(9,), (5, 6), (3, 4, 5), (1, 5)]


def made(space, seed=0, batch=2, channels=None):
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(batch, *space, generator=generator) < 0.9
    if channels is None:
        return torch.randint(0, 5, (batch, *space), generator=generator), valid
    label = torch.randn(batch, channels, *space, generator=generator, dtype=torch.float64)
    return label, valid


def random_field(space, seed=0, batch=2, most=1.5):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, len(space), *space)
    field = most * (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)
    # Along an axis with one position any move would empty the label.
    return field * torch.tensor([float(n > 1) for n in space]).reshape(-1, *[1] * len(space))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_a_loop_does(space, channels, mode, seed):
    label, valid = made(space, seed, channels=channels)
    field = random_field(space, seed)
    moved, known = warp_field(label, valid, field, mode=mode)
    expected, expected_known = oracle.moved(label, valid, oracle.by_field(field), mode)
    assert torch.equal(known, expected_known) and known.any()
    torch.testing.assert_close(moved, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("space", SPACES)
def test_one_displacement_everywhere_is_a_shift(space):
    d = torch.tensor([[1.0, -0.3, 2.0], [0.0, 0.5, -1.0]])[:, : len(space)]
    field = d.reshape(2, -1, *[1] * len(space)).expand(-1, -1, *space)
    for channels in (None, 2):
        label, valid = made(space, channels=channels)
        one, other = warp_field(label, valid, field), shift_subpixel(label, valid, d)
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("space", [(40,), (20, 21), (6, 7, 8)])
def test_the_field_of_a_matrix_moves_as_the_matrix_does(dtype, space):
    matrix = scale_matrix(torch.tensor([1.25, 0.8], dtype=dtype), space)
    if len(space) > 1:
        turn = torch.tensor([0.4, torch.pi / 2], dtype=dtype)
        turn = turn if len(space) == 2 else turn.unsqueeze(1) * torch.tensor([0.0, 0, 1]).to(dtype)
        matrix = rotation_matrix(turn, space)
    label, valid = made(space, channels=1)
    field = field_of(matrix, space)
    assert field.dtype == dtype and field.shape == (2, len(space), *space)
    moved, known = warp_field(label, valid, field)
    expected, expected_known = warp_affine(label, valid, matrix)
    assert torch.equal(known, expected_known)
    torch.testing.assert_close(
        moved, expected, rtol=0, atol=1e-3 if dtype == torch.float32 else 1e-9
    )


def test_the_field_of_a_whole_shift_is_that_displacement():
    field = field_of(shift_matrix(torch.tensor([[2.0, -1.0]])), (3, 4))
    assert (field[:, 0] == 2).all() and (field[:, 1] == -1).all()


@pytest.mark.parametrize("space", [(9,), (5, 6), (3, 4, 5)])
def test_whole_fields_composed_are_one_warp_after_the_other(space):
    label, valid = made(space)
    first = random_field(space, 1, most=2).round()
    then = random_field(space, 2, most=2).round()
    once = warp_field(label, valid, compose_fields(first, then))
    twice = warp_field(*warp_field(label, valid, first), then)
    assert all(map(torch.equal, once, twice))
    assert once[1].any() and not once[1].all()


def test_composing_reads_the_first_field_between_positions():
    first = torch.tensor([[[0.0, 1.0, 4.0]]])
    then = torch.tensor([[[-0.5, 0.25, 1.0]]])
    # 1 half way between 0 and 1; a quarter below 1; at 1
    assert compose_fields(first, then).tolist() == [[[0.0, 1.0, 2.0]]]


def test_a_field_reaches_half_a_position_beyond_its_space_and_no_further():
    first = torch.tensor([[[3.0, 5.0]]])
    for then, expected in ((0.25, [3.25, 0.25 + 4.5]), (0.5, [3.5, 4.5]), (0.75, [0.75, 4.25])):
        found = compose_fields(first, torch.full((1, 1, 2), then))
        assert found.tolist() == [[expected]]
    assert compose_fields(first, torch.tensor([[[0.0, -0.5]]]))[0, 0, 1] == -0.5
    assert compose_fields(first, torch.tensor([[[0.0, -0.25]]]))[0, 0, 1] == 4.75


def test_what_a_composed_field_takes_from_outside_is_not_known():
    # The first field would bring the last position back in, were it to go on for ever.
    label = torch.tensor([[1, 2, 3, 4]])
    first = torch.full((1, 1, 4), -2.0)
    then = torch.full((1, 1, 4), 2.0)
    once = warp_field(label, label > 0, compose_fields(first, then))
    twice = warp_field(*warp_field(label, label > 0, first), then)
    assert all(map(torch.equal, once, twice)) and once[1].tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("space", [(5,), (4, 5), (3, 4, 3), (1, 4), (1,), (2, 1, 3)])
@pytest.mark.parametrize("seed", range(2))
def test_the_determinant_is_the_least_that_numpy_finds(space, seed):
    field = random_field(space, seed)
    found = jacobian_determinant(field)
    assert found.shape == (2, *space)
    for k, *p in product(range(2), *map(range, space)):
        assert float(found[(k, *p)]) == pytest.approx(oracle.determinant(field, k, p), abs=1e-12)


@pytest.mark.parametrize("space", [(6,), (4, 5), (3, 4, 5)])
def test_a_shift_squeezes_nothing_and_a_mirror_folds(space):
    shifts = torch.randn(2, len(space), dtype=torch.float64)
    constant = shifts.reshape(2, -1, *[1] * len(space)).expand(-1, -1, *space)
    assert (jacobian_determinant(constant) == 1).all()
    factors = torch.ones(2, len(space), dtype=torch.float64)
    factors[:, 0] = -1
    assert (jacobian_determinant(field_of(scale_matrix(factors, space), space)) < 0).all()


def test_a_larger_object_has_a_smaller_determinant():
    field = field_of(scale_matrix(torch.tensor([2.0], dtype=torch.float64), (5, 5)), (5, 5))
    torch.testing.assert_close(jacobian_determinant(field), torch.full((1, 5, 5), 0.25).double())


def test_a_fold_of_one_position_that_central_differences_miss_is_seen():
    field = torch.zeros(1, 1, 7)
    field[0, 0, 3] = 1.5
    central = 1 - torch.gradient(field[0, 0])[0]
    assert (central > 0).all()
    assert (jacobian_determinant(field) <= 0).any()


def test_two_places_that_land_on_one_are_a_fold():
    assert (jacobian_determinant(torch.tensor([[[0.0, 1.0]]])) == 0).all()


@pytest.mark.parametrize("space", [(6,), (3, 4), (2, 3, 2)])
def test_derivatives(space):
    label, valid = made(space, channels=2, batch=1)
    field = random_field(space, 4, batch=1, most=1.2).requires_grad_()
    then = random_field(space, 5, batch=1, most=0.4).requires_grad_()
    label.requires_grad_()
    inputs = (field,)
    assert gradcheck(
        lambda f: warp_field(label.detach(), valid, f)[0], inputs, check_forward_ad=True
    )
    assert gradcheck(
        lambda x: warp_field(x, valid, field.detach())[0], (label,), check_forward_ad=True
    )
    assert gradcheck(compose_fields, (field, then), check_forward_ad=True)
    assert gradcheck(jacobian_determinant, inputs, check_forward_ad=True)


def test_a_field_of_nothing_can_be_learned_from():
    ramp = torch.arange(6.0).reshape(1, 1, 6)
    field = torch.zeros(1, 1, 6, requires_grad=True)
    moved, known = warp_field(ramp, torch.ones(1, 6, dtype=torch.bool), field)
    assert torch.equal(moved, ramp) and known.all()
    moved.sum().backward()
    # At the border no higher neighbour is known.
    assert field.grad.tolist() == [[[-1, -1, -1, -1, -1, 0]]]


def test_half_precision_and_autocast():
    space = (3, 700)
    label, valid = made(space, channels=1)
    field = random_field(space)
    half = warp_field(label.half(), valid, field.half())
    wide = warp_field(label.half().float(), valid, field.half().float())
    assert half[0].dtype == torch.float16
    assert torch.equal(half[0], wide[0].half()) and torch.equal(half[1], wide[1])
    long = torch.full((1, 1, 5000), 0.5)
    composed = compose_fields(torch.arange(5000.0).reshape(1, 1, -1) / 4096, long.half())
    assert torch.equal(
        composed, compose_fields(torch.arange(5000.0).reshape(1, 1, -1) / 4096, long)
    )
    assert compose_fields(field.half(), field.half()).dtype == torch.float32
    assert jacobian_determinant(field.half()).dtype == torch.float32
    single = field.float()
    plain = compose_fields(single, single), jacobian_determinant(single)
    with torch.autocast("cpu", torch.bfloat16):
        cast = compose_fields(single, single), jacobian_determinant(single)
        warped = warp_field(label.float(), valid, single)
    assert all(map(torch.equal, plain, cast))
    assert all(map(torch.equal, warped, warp_field(label.float(), valid, single)))


def test_a_whole_field_does_what_shift_does():
    label, valid = made((5, 6))
    field = torch.ones(2, 2, 5, 6)
    expected = shift(label, valid, torch.ones(2, 2, dtype=torch.int64))
    assert all(map(torch.equal, warp_field(label, valid, field), expected))


FIELD = torch.zeros(2, 2, 4, 4)
WRONG = {
    "a displacement": lambda: warp_field(*made((4, 4)), torch.zeros(2, 2)),
    "another space": lambda: warp_field(*made((4, 5)), FIELD),
    "whole numbers": lambda: warp_field(*made((4, 4)), FIELD.long()),
    "axes last": lambda: warp_field(*made((4, 4)), FIELD.movedim(1, -1)),
    "another device": lambda: warp_field(*made((4, 4)), FIELD.to("meta")),
    "two sizes": lambda: compose_fields(FIELD, FIELD[..., :3]),
    "no field first": lambda: compose_fields(FIELD[:, 0], FIELD),
    "too few axes": lambda: jacobian_determinant(FIELD[:, :1]),
    "a matrix of another space": lambda: field_of(shift_matrix(torch.zeros(1, 2)), (3,)),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_does_not_fit_is_refused(case):
    with pytest.raises(ShapeError, match="must be"):
        WRONG[case]()


def test_what_is_no_number_is_refused():
    bad = FIELD.clone()
    bad[1, 0, 0, 0] = torch.nan
    for call in (
        lambda: warp_field(*made((4, 4)), bad),
        lambda: compose_fields(bad, FIELD),
        lambda: compose_fields(FIELD, bad),
        lambda: jacobian_determinant(bad),
    ):
        with pytest.raises(NonFiniteError, match="sample 1 of the batch"):
            call()


def test_an_unknown_mode_is_refused():
    with pytest.raises(SettingsError, match="did you mean"):
        warp_field(*made((4, 4)), FIELD, mode="cubic")
