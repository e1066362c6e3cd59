"""Laws of flows, of coarser grids, of fields after matrices, and of what is smooth."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from labelmend.alignment.affine import compose, inverse, scale_matrix, shear_matrix, shift_matrix
from labelmend.alignment.fields import compose_fields, field_of, jacobian_determinant
from labelmend.alignment.smoothness import (
    bending_energy,
    folding,
    gradient_energy,
    mean_displacement,
    size_energy,
)
from labelmend.alignment.velocity import after_matrix, enlarge, integrate

from ..unit.alignment import oracle_velocity as oracle

seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
larger = st.sampled_from([(30,), (17, 20), (9, 10, 11)])
batches = st.integers(1, 3)
dtypes = st.sampled_from([torch.float32, torch.float64])
steps = st.integers(0, 8)

PENALTIES = [gradient_energy, bending_energy, folding]


def random_of(seed):
    return torch.Generator().manual_seed(seed)


def fields(batch, space, seed, dtype=torch.float64, most=2.0):
    shape = (batch, len(space), *space)
    return most * (2 * torch.rand(shape, generator=random_of(seed), dtype=dtype) - 1)


def shifts(batch, space, seed, dtype=torch.float64, most=4.0):
    return fields(batch, (1,) * len(space), seed, dtype, most)


def smooth(space, seed, slope=0.6):
    """Waves of at least 9 positions whose neighbours differ by at most ``slope`` per axis."""
    generator = random_of(seed)
    rows = [torch.arange(n, dtype=torch.float64) for n in space]
    total = torch.zeros(1, len(space), *space, dtype=torch.float64)
    for row in range(len(space)):
        for _ in range(3):
            turns = torch.rand(len(space), generator=generator).double() * 1.4 - 0.7
            phase = 9 * torch.rand(1, generator=generator).double()
            grids = torch.meshgrid(*rows, indexing="ij")
            angle = sum(turn * grid for turn, grid in zip(turns, grids, strict=True))
            total[0, row] += torch.sin(angle + phase)
    steepest = max(float(total.diff(dim=axis + 2).abs().max()) for axis in range(len(space)))
    return total * slope / steepest


def matrices(batch, space, seed, by=0.3):
    generator = random_of(seed)

    def some(*shape):
        return by * (2 * torch.rand(batch, *shape, generator=generator, dtype=torch.float64) - 1)

    matrix = compose(scale_matrix(1 + some(len(space)), space), shift_matrix(9 * some(len(space))))
    return compose(matrix, shear_matrix(some(), space, 1, 0)) if len(space) > 1 else matrix


# ---------------------------------------------------------------- flows


@given(batches, spaces, seeds, steps, dtypes)
def test_a_constant_flow_is_that_constant_to_the_bit(batch, space, seed, steps, dtype):
    velocity = shifts(batch, space, seed, dtype).expand(-1, -1, *space)
    assert torch.equal(integrate(velocity, steps=steps), velocity)


@given(batches, spaces, seeds, steps, dtypes)
def test_nothing_moves_further_than_the_fastest(batch, space, seed, steps, dtype):
    velocity = fields(batch, space, seed, dtype, most=5)
    most = velocity.abs().flatten(2).amax(2)
    found = integrate(velocity, steps=steps).abs().flatten(2).amax(2)
    assert (found <= most * (1 + 64 * torch.finfo(dtype).eps)).all()


@given(larger, seeds, st.floats(0.05, 0.6))
def test_a_smooth_flow_does_not_fold(space, seed, slope):
    assert jacobian_determinant(integrate(smooth(space, seed, slope))).min() > 0


@given(larger, seeds)
def test_there_and_back_is_none_inside(space, seed):
    velocity = smooth(space, seed, 0.2)
    velocity = velocity * (1.5 / velocity.abs().max()).clamp(max=1)
    both = compose_fields(integrate(velocity), integrate(-velocity))
    inside = both[(..., *[slice(2, n - 2) for n in space])]
    assert inside.abs().max() < 0.05


@given(st.sampled_from([(6,), (4, 5), (3, 3, 4)]), seeds)
def test_a_flow_is_many_short_steps(space, seed):
    velocity = smooth(space, seed, 0.25)
    found, expected = integrate(velocity), oracle.flowed(velocity, 64)
    assert (found - expected).abs().max() < 0.05


@given(batches, spaces, seeds)
def test_a_mirrored_flow_is_the_mirror_of_the_flow(batch, space, seed):
    velocity = fields(batch, space, seed)
    axes = tuple(range(2, len(space) + 2))
    mirrored = -integrate(-velocity.flip(axes)).flip(axes)
    torch.testing.assert_close(mirrored, integrate(velocity), rtol=0, atol=1e-9)


@given(batches, spaces, seeds)
def test_samples_do_not_know_of_each_other(batch, space, seed):
    field, matrix = fields(batch, space, seed), matrices(batch, space, seed)
    order = torch.randperm(batch, generator=random_of(seed))
    twice = [2 * n for n in space]
    for of in (integrate, lambda x: enlarge(x, twice), *PENALTIES, mean_displacement):
        torch.testing.assert_close(of(field[order]), of(field)[order], rtol=1e-9, atol=1e-12)
    moved = after_matrix(matrix[order], field[order])
    torch.testing.assert_close(moved, after_matrix(matrix, field)[order])


# ---------------------------------------------------------------- coarser grids


@given(batches, spaces, st.lists(st.integers(0, 7), min_size=3, max_size=3), seeds)
def test_enlarging_is_reading_between_cell_centres(batch, cells, more, seed):
    field, space = fields(batch, cells, seed), tuple(map(sum, zip(cells, more, strict=False)))
    torch.testing.assert_close(enlarge(field, space), oracle.enlarged(field, space))


@given(spaces, st.lists(st.integers(1, 4), min_size=3, max_size=3), seeds)
def test_a_ramp_stays_a_ramp_inside(cells, factors, seed):
    factors = factors[: len(cells)]
    space = [n * g for n, g in zip(cells, factors, strict=True)]
    slopes = shifts(1, cells, seed)
    for axis, (n, g) in enumerate(zip(cells, factors, strict=True)):
        shape = [1] * len(cells)
        shape[axis] = -1
        ramp = slopes * torch.arange(n).reshape(shape)
        found = enlarge(ramp.expand(1, -1, *cells), space)
        inside = found.narrow(axis + 2, g // 2, n * g - 2 * (g // 2))
        steps = inside.diff(dim=axis + 2)
        ratio = torch.tensor(factors).reshape(-1, *[1] * len(cells))
        torch.testing.assert_close(steps, (slopes * ratio / g).expand_as(steps))


@given(batches, spaces, seeds)
def test_at_the_centres_of_cells_stands_what_stood_there(batch, cells, seed):
    field = fields(batch, cells, seed)
    fine = enlarge(field, [3 * n for n in cells])
    centres = fine[(..., *[slice(1, None, 3)] * len(cells))]
    torch.testing.assert_close(centres, 3 * field)


# ---------------------------------------------------------------- after a matrix


@given(batches, spaces, seeds, dtypes)
def test_after_a_shift_it_is_added_to_the_bit(batch, space, seed, dtype):
    field, shift = fields(batch, space, seed, dtype), shifts(batch, space, seed + 1, dtype)
    assert torch.equal(after_matrix(shift_matrix(shift.flatten(1)), field), field + shift)


@given(batches, spaces, seeds)
def test_before_no_field_it_is_the_matrix(batch, space, seed):
    matrix = matrices(batch, space, seed)
    none = torch.zeros(batch, len(space), *space, dtype=torch.float64)
    torch.testing.assert_close(after_matrix(matrix, none), field_of(matrix, space))


@given(batches, spaces, seeds)
def test_matrices_one_after_the_other_are_one(batch, space, seed):
    field = fields(batch, space, seed)
    first, then = (matrices(batch, space, seed + n) for n in range(2))
    once = after_matrix(compose(first, then), field)
    torch.testing.assert_close(once, after_matrix(first, after_matrix(then, field)))
    back = after_matrix(inverse(first), after_matrix(first, field))
    torch.testing.assert_close(back, field, rtol=0, atol=1e-9)


@given(batches, spaces, seeds)
def test_determinants_multiply(batch, space, seed):
    space = tuple(n + 1 for n in space)
    field, matrix = fields(batch, space, seed), matrices(batch, space, seed)
    own = 1 / torch.linalg.det(matrix[..., :-1]).reshape(-1, *[1] * len(space))
    found = jacobian_determinant(after_matrix(matrix, field))
    torch.testing.assert_close(found, own * jacobian_determinant(field))


# ---------------------------------------------------------------- what is smooth


@given(batches, spaces, seeds)
def test_penalties_are_never_negative_and_do_not_see_shifts(batch, space, seed):
    field, shift = fields(batch, space, seed), shifts(batch, space, seed + 1)
    for penalty in PENALTIES:
        found = penalty(field)
        assert found.shape == (batch,) and (found >= 0).all()
        torch.testing.assert_close(penalty(field + shift), found)
    moved = mean_displacement(field + shift)
    torch.testing.assert_close(moved, mean_displacement(field) + shift.flatten(1))


@given(batches, spaces, seeds)
def test_bending_does_not_see_what_a_matrix_adds(batch, space, seed):
    field, matrix = fields(batch, space, seed), matrices(batch, space, seed)
    more = field + field_of(matrix, space)
    torch.testing.assert_close(bending_energy(more), bending_energy(field))


@given(batches, spaces, seeds, st.floats(0, 4))
def test_energies_grow_with_the_square(batch, space, seed, times):
    field = fields(batch, space, seed)
    for energy in (gradient_energy, bending_energy, lambda x: size_energy(x, 0)):
        torch.testing.assert_close(energy(times * field), times**2 * energy(field))
    limited = size_energy(times * field, times * 0.7)
    torch.testing.assert_close(limited, times**2 * size_energy(field, 0.7))


@given(batches, spaces, seeds)
def test_folding_costs_where_the_determinant_is_below_0_and_nowhere_else(batch, space, seed):
    field = fields(batch, space, seed)
    folds = (jacobian_determinant(field) < 0).flatten(1).any(1)
    assert torch.equal(folding(field) > 0, folds)


@given(batches, spaces, seeds)
def test_within_the_limit_size_is_free_and_beyond_it_is_not(batch, space, seed):
    field = fields(batch, space, seed)
    most = field.abs().flatten(1).amax(1)
    assert not size_energy(field, float(most.max())).any()
    assert (size_energy(field, 0.99 * float(most.min())) > 0).all()


@pytest.mark.parametrize("penalty", PENALTIES)
@given(batches, spaces, seeds)
def test_the_order_of_the_axes_does_not_matter(penalty, batch, space, seed):
    field = fields(batch, space, seed)
    turned = field.flip(1).permute(0, 1, *range(len(space) + 1, 1, -1))
    torch.testing.assert_close(penalty(turned), penalty(field))
