"""Laws of moving labels: there and back, once or twice, and nothing unknown gets in."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from labelmend.alignment.affine import (
    compose,
    inverse,
    rotation_matrix,
    scale_matrix,
    shear_matrix,
    shift_matrix,
    warp_affine,
)
from labelmend.alignment.fields import (
    compose_fields,
    field_of,
    jacobian_determinant,
    warp_field,
)
from labelmend.alignment.interpolation import MODES
from labelmend.alignment.margins import FILLS, crop, embed
from labelmend.alignment.shifts import shift, shift_subpixel

from ..unit.alignment import oracle_transforms as oracle

seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
batches = st.integers(1, 4)
modes = st.sampled_from([None, *MODES])
dtypes = st.sampled_from([torch.float32, torch.float64])
either = st.booleans()
kinds = st.sampled_from(["shift", "subpixel", "matrix", "field"])


def random_of(seed):
    return torch.Generator().manual_seed(seed)


def labels(batch, space, seed, channels=False, dtype=torch.float64):
    """What stands where nobody said is of no class, or no number."""
    generator = random_of(seed)
    valid = torch.rand(batch, *space, generator=generator) < 0.8
    if not channels:
        label = torch.randint(0, 4, (batch, *space), generator=generator)
        return torch.where(valid, label, 255), valid
    label = torch.randn(batch, 2, *space, generator=generator, dtype=dtype)
    strange = torch.tensor([torch.nan, torch.inf, -torch.inf], dtype=dtype)
    which = torch.randint(0, 3, label.shape, generator=generator)
    return torch.where(valid.unsqueeze(1), label, strange[which]), valid


def wholes(batch, space, seed, most=3):
    return torch.randint(-most, most + 1, (batch, len(space)), generator=random_of(seed))


def parts(batch, space, seed, dtype=torch.float64):
    """Displacements, some of them halves or whole."""
    generator = random_of(seed)
    d = 4 * torch.rand(batch, len(space), generator=generator, dtype=dtype) - 2
    grain = torch.tensor([1.0, 2.0, 4.0, 2.0**20], dtype=dtype)
    grain = grain[torch.randint(0, 4, d.shape, generator=generator)]
    return (d * grain).round() / grain


def matrices(batch, space, seed, dtype=torch.float64, by=0.4):
    generator = random_of(seed)

    def some(*shape):
        return by * (2 * torch.rand(batch, *shape, generator=generator, dtype=dtype) - 1)

    matrix = scale_matrix(1 + some(len(space)), space)
    matrix = compose(matrix, shift_matrix(some(len(space))))
    if len(space) > 1:
        matrix = compose(matrix, shear_matrix(some(), space, 1, 0))
        turn = some() if len(space) == 2 else some(3)
        matrix = compose(matrix, rotation_matrix(turn, space))
    return matrix


def fields(batch, space, seed, dtype=torch.float64, most=1.5):
    generator = random_of(seed)
    shape = (batch, len(space), *space)
    return most * (2 * torch.rand(shape, generator=generator, dtype=dtype) - 1)


def motions(kind, batch, space, seed):
    """A move ``(label, valid, motion)``, its motion, and the same by a loop."""
    if kind == "shift":
        d = wholes(batch, space, seed)
        return lambda x, v, m, mode: shift(x, v, m), d, oracle.by_displacement(d)
    if kind == "subpixel":
        d = parts(batch, space, seed)
        return _with_mode(shift_subpixel), d, oracle.by_displacement(d)
    if kind == "matrix":
        matrix = matrices(batch, space, seed)
        return _with_mode(warp_affine), matrix, oracle.by_matrix(matrix)
    field = fields(batch, space, seed)
    return _with_mode(warp_field), field, oracle.by_field(field)


def _with_mode(move):
    return lambda x, v, m, mode: move(x, v, m, mode=mode)


def smooth(space, dtype=torch.float64):
    """A wave of long length over the whole space, ``(1, 1, *space)``."""
    total = torch.zeros(space, dtype=dtype)
    for axis, n in enumerate(space):
        shape = [1] * len(space)
        shape[axis] = n
        total = total + torch.sin(torch.arange(n, dtype=dtype) / 8 + axis).reshape(shape)
    return total[None, None]


def zeroed(label, valid):
    return torch.where(valid if label.ndim == valid.ndim else valid.unsqueeze(1), label, 0)


def same(one, other):
    return all(map(torch.equal, one, other))


# ---------------------------------------------------------------- nothing, there and back


@given(batches, spaces, seeds, either, modes, dtypes)
def test_no_move_is_no_change_to_the_bit(batch, space, seed, channels, mode, dtype):
    label, valid = labels(batch, space, seed, channels, dtype)
    as_it_was = zeroed(label, valid), valid
    none = torch.zeros(batch, len(space), dtype=dtype)
    field = torch.zeros(batch, len(space), *space, dtype=dtype)
    assert same(shift(label, valid, none.long()), as_it_was)
    assert same(shift_subpixel(label, valid, none, mode=mode), as_it_was)
    assert same(warp_affine(label, valid, shift_matrix(none), mode=mode), as_it_was)
    assert same(warp_field(label, valid, field, mode=mode), as_it_was)


@given(batches, spaces, seeds, either, modes, dtypes)
def test_whole_moves_are_one_however_they_are_said(batch, space, seed, channels, mode, dtype):
    label, valid = labels(batch, space, seed, channels, dtype)
    d = wholes(batch, space, seed)
    expected, moving = shift(label, valid, d), d.to(dtype)
    field = moving.reshape(*moving.shape, *[1] * len(space)).expand(-1, -1, *space)
    assert same(shift_subpixel(label, valid, moving, mode=mode), expected)
    assert same(warp_affine(label, valid, shift_matrix(moving), mode=mode), expected)
    assert same(warp_field(label, valid, field, mode=mode), expected)


@given(batches, spaces, seeds, either)
def test_a_shift_there_and_back_is_none_where_valid(batch, space, seed, channels):
    label, valid = labels(batch, space, seed, channels)
    d = wholes(batch, space, seed)
    back, known = shift(*shift(label, valid, d), -d)
    assert torch.equal(back, zeroed(label, known)) and not (known & ~valid).any()


@given(batches, spaces, seeds, either)
def test_shifts_add_up_where_valid(batch, space, seed, channels):
    label, valid = labels(batch, space, seed, channels)
    a, b = wholes(batch, space, seed), wholes(batch, space, seed + 1)
    twice, known = shift(*shift(label, valid, a), b)
    once, known_once = shift(label, valid, a + b)
    assert torch.equal(twice, zeroed(once, known)) and not (known & ~known_once).any()


@pytest.mark.parametrize("space", [(64,), (40, 48), (24, 26, 25)])
@given(seed=seeds)
def test_a_turn_there_and_back_is_none_but_for_interpolation(space, seed):
    label, valid = smooth(space), torch.ones(1, *space, dtype=torch.bool)
    matrix = matrices(1, space, seed, by=0.15)
    back, known = warp_affine(*warp_affine(label, valid, matrix), inverse(matrix))
    # Linear interpolation of a wave of length 16 π is off by at most 1/8 · 1/64 per axis and time.
    assert known.any() and (back - label)[known.unsqueeze(1)].abs().max() < 2 * len(space) / 400


@given(batches, spaces, seeds, dtypes)
def test_a_matrix_and_its_inverse_are_nothing(batch, space, seed, dtype):
    matrix = matrices(batch, space, seed, dtype)
    none = shift_matrix(torch.zeros(batch, len(space), dtype=dtype))
    slack = 100 * torch.finfo(dtype).eps
    for both in (compose(matrix, inverse(matrix)), compose(inverse(matrix), matrix)):
        torch.testing.assert_close(both, none, rtol=0, atol=slack)
    torch.testing.assert_close(inverse(inverse(matrix)), matrix, rtol=slack, atol=slack)


@given(batches, spaces, seeds)
def test_it_does_not_matter_where_a_chain_of_matrices_is_cut(batch, space, seed):
    a, b, c = (matrices(batch, space, seed + n) for n in range(3))
    torch.testing.assert_close(compose(compose(a, b), c), compose(a, compose(b, c)))


@given(st.integers(1, 7), st.integers(-4, 4), seeds, either, modes, dtypes)
def test_quarter_turns_of_squares_are_exact(size, turns, seed, channels, mode, dtype):
    label, valid = labels(2, (size, size), seed, channels, dtype)
    angle = torch.full((2,), turns * torch.pi / 2, dtype=dtype)
    expected = [x.rot90(turns, (-2, -1)) for x in (zeroed(label, valid), valid)]
    moved = warp_affine(label, valid, rotation_matrix(angle, (size, size)), mode=mode)
    assert same(moved, expected)


# ---------------------------------------------------------------- what is known


@given(kinds, batches, spaces, seeds, either, modes)
def test_what_is_known_is_what_a_loop_finds(kind, batch, space, seed, channels, mode):
    label, valid = labels(batch, space, seed, channels)
    move, motion, source = motions(kind, batch, space, seed)
    moved, known = move(label, valid, motion, mode)
    default = "linear" if channels else "nearest"
    by_loop = "nearest" if kind == "shift" else mode or default
    expected, expected_known = oracle.moved(label, valid, source, by_loop)
    assert torch.equal(known, expected_known)
    if channels or by_loop == "nearest":
        torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-9)


@given(kinds, batches, spaces, seeds, either, modes)
def test_what_nobody_said_reaches_nothing(kind, batch, space, seed, channels, mode):
    label, valid = labels(batch, space, seed, channels)
    move, motion, _ = motions(kind, batch, space, seed)
    dirty, clean = (move(x, valid, motion, mode) for x in (label, zeroed(label, valid)))
    assert same(dirty, clean)
    assert dirty[0].isfinite().all() and not zeroed(dirty[0], ~dirty[1]).any()


@given(kinds, batches, spaces, seeds, modes)
def test_only_classes_that_were_there_come_out(kind, batch, space, seed, mode):
    label, valid = labels(batch, space, seed)
    label = torch.where(label == 2, 10**12, label)
    move, motion, _ = motions(kind, batch, space, seed)
    moved, known = move(label, valid, motion, mode)
    for k in range(batch):
        there = set(label[k][valid[k]].tolist())
        assert set(moved[k][known[k]].tolist()) <= there
        assert not moved[k][~known[k]].any()


@given(kinds, batches, spaces, seeds, modes)
def test_channels_stay_between_what_was_there(kind, batch, space, seed, mode):
    label, valid = labels(batch, space, seed, channels=True)
    move, motion, _ = motions(kind, batch, space, seed)
    moved, known = move(label, valid, motion, mode)
    for k in range(batch):
        if known[k].any():
            own, found = label[k][:, valid[k]], moved[k][:, known[k]]
            assert (found <= own.amax(1, True) + 1e-12).all()
            assert (found >= own.amin(1, True) - 1e-12).all()


@given(kinds, batches, spaces, seeds, either, modes)
def test_to_know_more_never_loses_anything(kind, batch, space, seed, channels, mode):
    label, valid = labels(batch, space, seed, channels)
    label = zeroed(label, valid)
    move, motion, _ = motions(kind, batch, space, seed)
    moved, known = move(label, valid, motion, mode)
    more, known_more = move(label, torch.ones_like(valid), motion, mode)
    assert not (known & ~known_more).any()
    torch.testing.assert_close(moved, zeroed(more, known), rtol=0, atol=1e-12)


@given(kinds, batches, spaces, seeds, either, modes)
def test_samples_do_not_know_of_each_other(kind, batch, space, seed, channels, mode):
    label, valid = labels(batch, space, seed, channels)
    move, motion, _ = motions(kind, batch, space, seed)
    order = torch.randperm(batch, generator=random_of(seed))
    moved, known = move(label, valid, motion, mode)
    mixed = move(label[order], valid[order], motion[order], mode)
    assert same(mixed, (moved[order], known[order]))


@given(kinds, batches, spaces, seeds, modes)
def test_one_hot_labels_and_classes_agree(kind, batch, space, seed, mode):
    label, valid = labels(batch, space, seed)
    move, motion, _ = motions(kind, batch, space, seed)
    moved, known = move(label, valid, motion, mode)
    one_hot = torch.nn.functional.one_hot(zeroed(label, valid), 4).movedim(-1, 1).double()
    expected, expected_known = move(one_hot, valid, motion, mode or "nearest")
    assert torch.equal(known, expected_known)
    chosen = expected.gather(1, moved.unsqueeze(1)).squeeze(1)
    # Whatever wins has as much as any other has.
    assert (chosen >= expected.amax(1) - 1e-12)[known].all()


# ---------------------------------------------------------------- once or twice


@pytest.mark.parametrize("space", [(64,), (40, 48), (24, 26, 25)])
@given(seed=seeds)
def test_composed_matrices_differ_from_two_warps_by_interpolation_only(space, seed):
    label, valid = smooth(space), torch.ones(1, *space, dtype=torch.bool)
    a, b = (matrices(1, space, seed + n, by=0.1) for n in range(2))
    once, known = warp_affine(label, valid, compose(a, b))
    twice, known_twice = warp_affine(*warp_affine(label, valid, a), b)
    both = (known & known_twice).unsqueeze(1)
    assert both.any() and (once - twice)[both].abs().max() < 2 * len(space) / 400


@pytest.mark.parametrize("space", [(64,), (40, 48)])
@given(seed=seeds)
def test_a_matrix_then_a_field_too(space, seed):
    label, valid = smooth(space), torch.ones(1, *space, dtype=torch.bool)
    matrix = matrices(1, space, seed, by=0.1)
    then = torch.cat([smooth(space) * (axis + 1) / 2 for axis in range(len(space))], 1)
    once, known = warp_field(label, valid, compose_fields(field_of(matrix, space), then))
    twice, known_twice = warp_field(*warp_affine(label, valid, matrix), then)
    both = (known & known_twice).unsqueeze(1)
    assert both.any() and (once - twice)[both].abs().max() < 2 * len(space) / 400


@given(batches, spaces, seeds)
def test_a_field_of_nothing_changes_no_other(batch, space, seed):
    field = fields(batch, space, seed)
    none = torch.zeros_like(field)
    assert torch.equal(compose_fields(none, field), field)
    assert torch.equal(compose_fields(field, none), field)


@given(batches, spaces, seeds, either)
def test_whole_fields_composed_are_two_warps(batch, space, seed, channels):
    label, valid = labels(batch, space, seed, channels)
    first, then = (fields(batch, space, seed + n, most=2).round() for n in range(2))
    once = warp_field(label, valid, compose_fields(first, then))
    assert same(once, warp_field(*warp_field(label, valid, first), then))


@given(batches, spaces, seeds)
def test_the_determinant_of_a_shift_is_one_and_of_a_matrix_its_own(batch, space, seed):
    d = parts(batch, space, seed)
    constant = d.reshape(*d.shape, *[1] * len(space)).expand(-1, -1, *space)
    assert (jacobian_determinant(constant) == 1).all()
    space = tuple(n + 1 for n in space)
    matrix = matrices(batch, space, seed)
    expected = 1 / torch.linalg.det(matrix[..., :-1])
    found = jacobian_determinant(field_of(matrix, space))
    torch.testing.assert_close(found, expected.reshape(-1, *[1] * len(space)).expand_as(found))


# ---------------------------------------------------------------- margins


@given(batches, spaces, seeds, st.sampled_from([*FILLS, 0.0, -3.0]))
def test_to_embed_and_to_crop_is_nothing(batch, space, seed, fill):
    generator = random_of(seed)
    prediction = torch.randn(batch, 2, *space, generator=generator)
    more = torch.randint(0, 4, (len(space),), generator=generator).tolist()
    size = tuple(n + extra for n, extra in zip(space, more, strict=True))
    embedded, known = embed(prediction, size, fill)
    assert embedded.shape[2:] == size and known.sum() == batch * prediction[0, 0].numel()
    back, valid = crop(embedded, known, space)
    assert torch.equal(back, prediction) and valid.all()


@given(batches, spaces, seeds, either)
def test_the_best_place_of_a_label_is_seen_through_a_crop(batch, space, seed, channels):
    """What a shift brings in from the margin is real, and what it has not is not valid."""
    label, valid = labels(batch, space, seed, channels)
    size = tuple((n + 1) // 2 for n in space)
    d = wholes(batch, space, seed, most=2)
    moved, known = crop(*shift(label, valid, d), size)
    expected, expected_known = oracle.moved(label, valid, oracle.by_displacement(d), "nearest")
    window = [slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(space, size, strict=True)]
    assert torch.equal(known, expected_known[(slice(None), *window)])
    assert torch.equal(moved, expected[(..., *window)])
