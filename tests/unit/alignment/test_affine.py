"""Matrices and what they do to labels: against loops, torch.rot90, scipy; exact cases; errors."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from labelmend.alignment.affine import (
    compose,
    inverse,
    map_positions,
    rotation_matrix,
    scale_matrix,
    shear_matrix,
    shift_matrix,
    warp_affine,
)
from labelmend.alignment.shifts import shift
from labelmend.errors import NonFiniteError, ShapeError

from . import oracle_transforms as oracle

QUARTER = torch.pi / 2


def made(space, seed=0, batch=2, channels=None, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(batch, *space, generator=generator) < 0.9
    if channels is None:
        return torch.randint(0, 5, (batch, *space), generator=generator), valid
    return torch.randn(batch, channels, *space, generator=generator, dtype=dtype), valid


def random_matrix(space, seed=0, batch=2, dtype=torch.float64):
    """Somewhat turned, scaled, sheared and shifted."""
    generator = torch.Generator().manual_seed(seed)
    dims = len(space)
    linear = torch.eye(dims) + 0.3 * (torch.rand(batch, dims, dims, generator=generator) - 0.5)
    centre = torch.tensor([(n - 1) / 2 for n in space])
    to = centre + 2 * torch.rand(batch, dims, generator=generator) - 1
    shifts = to.unsqueeze(2) - linear @ centre.reshape(-1, 1)
    return torch.cat([linear, shifts], 2).to(dtype)


@pytest.mark.parametrize("space", [(9,), (6, 5), (4, 5, 3)])
@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_a_loop_does(space, channels, mode, seed):
    label, valid = made(space, seed, channels=channels)
    matrix = random_matrix(space, seed)
    moved, known = warp_affine(label, valid, matrix, mode=mode)
    expected, expected_known = oracle.moved(label, valid, oracle.by_matrix(matrix), mode)
    assert torch.equal(known, expected_known)
    torch.testing.assert_close(moved, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("space", [(16, 17), (9, 10, 11)])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_away_from_the_border_it_is_what_scipy_does(space, order, seed):
    label, valid = made(space, seed, channels=1)
    valid = torch.ones_like(valid)
    matrix = random_matrix(space, seed)
    mode = ("nearest", "linear")[order]
    moved, known = warp_affine(label, valid, matrix, mode=mode)
    back = inverse(matrix).numpy()
    far = 0
    for k in range(len(label)):
        theirs = ndimage.affine_transform(
            label[k, 0].numpy(), back[k, :, :-1], back[k, :, -1], order=order, cval=np.nan
        )
        both = known[k].numpy() & np.isfinite(theirs)
        far += both.sum()
        np.testing.assert_allclose(moved[k, 0].numpy()[both], theirs[both], rtol=1e-9, atol=1e-9)
    assert far > label.numel() / 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("turns", range(-4, 5))
@pytest.mark.parametrize("size", [1, 2, 5, 8, 501])
def test_quarter_turns_of_squares_are_those_of_rot90(dtype, turns, size):
    label = torch.arange(size * size).reshape(1, size, size) + 1
    valid = label % 3 > 0
    matrix = rotation_matrix(torch.tensor([turns * QUARTER], dtype=dtype), (size, size))
    expected = torch.rot90(torch.where(valid, label, 0), turns, (1, 2))
    for mode in ("nearest", "linear"):
        moved, known = warp_affine(label, valid, matrix, mode=mode)
        assert torch.equal(moved, expected) and torch.equal(
            known, torch.rot90(valid, turns, (1, 2))
        )
        as_channel, _ = warp_affine(label.unsqueeze(1).double(), valid, matrix, mode=mode)
        assert torch.equal(as_channel.squeeze(1), expected.double())


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (2, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quarter_turns_of_cubes_too(axes, dtype):
    label = torch.arange(125).reshape(1, 5, 5, 5)
    vector = torch.zeros(1, 3, dtype=dtype)
    vector[0, 3 - sum(axes)] = QUARTER
    moved, known = warp_affine(
        label, torch.ones_like(label) > 0, rotation_matrix(vector, (5, 5, 5)), mode="linear"
    )
    assert known.all() and torch.equal(moved, label.rot90(1, [a + 1 for a in axes]))


def test_four_composed_quarter_turns_are_none():
    space = (200, 200)
    quarter = rotation_matrix(torch.tensor([QUARTER]), space)
    whole = compose(compose(quarter, quarter), compose(quarter, quarter))
    label = torch.randn(1, 1, *space)
    moved, known = warp_affine(label, torch.ones(1, *space, dtype=torch.bool), whole)
    assert known.all() and torch.equal(moved, label)


def test_turning_in_space_is_what_scipy_says():
    vectors = torch.randn(20, 3, dtype=torch.float64) * 2
    vectors[0], vectors[1] = 0, vectors[1] * 1e-9
    ours = rotation_matrix(vectors, (3, 4, 5))[..., :-1].numpy()
    np.testing.assert_allclose(ours, Rotation.from_rotvec(vectors.numpy()).as_matrix(), atol=1e-13)


def test_turning_about_the_last_axis_is_turning_in_the_plane():
    angle = torch.tensor([0.4], dtype=torch.float64)
    flat = rotation_matrix(angle, (4, 5))
    deep = rotation_matrix(torch.tensor([[0.0, 0.0, 0.4]], dtype=torch.float64), (4, 5, 6))
    torch.testing.assert_close(deep[:, :2, [0, 1, 3]], flat, rtol=0, atol=1e-14)
    torch.testing.assert_close(deep[:, 2], torch.tensor([[0, 0, 1.0, 0]]).double())


@pytest.mark.parametrize("space", [(5, 8), (4, 5, 6)])
def test_the_centre_stays_in_place(space):
    angle = torch.rand(3, dtype=torch.float64)
    centre = torch.tensor([(n - 1) / 2 for n in space] + [1.0], dtype=torch.float64)
    turn = angle if len(space) == 2 else angle.unsqueeze(1) * torch.tensor([1.0, 0.3, 2.0])
    for matrix in (
        rotation_matrix(turn, space),
        scale_matrix(1 + angle, space),
        shear_matrix(angle, space, 1, 0),
    ):
        torch.testing.assert_close(matrix @ centre, centre[:-1].expand(3, -1))


def test_twice_the_size_of_an_object():
    label = torch.zeros(1, 9, dtype=torch.int64)
    label[0, 3:6] = 1
    moved, known = warp_affine(label, label >= 0, scale_matrix(torch.tensor([2.0]), (9,)))
    # Six positions have no middle one: the halves at both ends go up, so the object goes down.
    assert moved.tolist() == [[0, 1, 1, 1, 1, 1, 1, 0, 0]] and known.all()
    moved, known = warp_affine(label, label >= 0, scale_matrix(torch.tensor([[0.5]]), (9,)))
    assert known.tolist() == [[False, False, True, True, True, True, True, False, False]]


def test_axes_are_scaled_on_their_own():
    matrix = scale_matrix(torch.tensor([[2.0, 0.5]]), (3, 5))
    assert matrix.tolist() == [[[2.0, 0.0, -1.0], [0.0, 0.5, 1.0]]]


def test_a_shear_moves_rows_apart():
    label = torch.tensor([[[0, 1, 0], [0, 1, 0], [0, 1, 0]]])
    matrix = shear_matrix(torch.tensor([1.0]), (3, 3), 1, 0)
    moved, _ = warp_affine(label, label >= 0, matrix)
    assert moved.tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("space", [(40,), (6, 5), (3, 5, 4)])
def test_a_whole_shift_is_a_shift(dtype, space):
    whole = torch.tensor([[2, -1, 1], [0, 3, -2]])[:, : len(space)]
    for channels in (None, 2):
        label, valid = made(space, channels=channels, dtype=torch.float32)
        for mode in ("nearest", "linear"):
            moved = warp_affine(label, valid, shift_matrix(whole.to(dtype)), mode=mode)
            assert all(map(torch.equal, moved, shift(label, valid, whole)))


def test_composing_is_first_one_then_the_other():
    space = (5, 7)
    turn = rotation_matrix(torch.tensor([0.3]).double(), space)
    step = shift_matrix(torch.tensor([[1.0, 2.0]]).double())
    point = torch.tensor([1.0, 3.0, 1.0]).double()
    turned = torch.cat([turn[0] @ point, torch.ones(1).double()])
    torch.testing.assert_close(compose(turn, step)[0] @ point, step[0] @ turned)
    torch.testing.assert_close(
        compose(step, turn)[0] @ point, turn[0] @ (point + torch.tensor([1.0, 2, 0]))
    )


def test_what_leaves_and_comes_back_is_still_there_when_composed():
    label = torch.tensor([[1, 2, 3]])
    there, back = shift_matrix(torch.tensor([[2.0]])), shift_matrix(torch.tensor([[-2.0]]))
    moved, known = warp_affine(label, label > 0, compose(there, back))
    assert torch.equal(moved, label) and known.all()


def test_autocast_does_not_blur_matrices():
    space = (60, 61)
    angle, vector = torch.tensor([0.3]), torch.tensor([[0.1, 0.7, 0.2]])
    label, valid = made(space, batch=1, channels=1, dtype=torch.float32)

    def all_of_it():
        matrix = compose(rotation_matrix(angle, space), shear_matrix(angle, space))
        matrix = compose(matrix, scale_matrix(1 + angle, space))
        deep = rotation_matrix(vector, (3, 4, 5))
        return matrix, deep, inverse(matrix), *warp_affine(label, valid, matrix)

    expected = all_of_it()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, all_of_it(), expected))


def test_half_precision_is_raised():
    assert rotation_matrix(torch.zeros(1).half(), (2, 2)).dtype == torch.float32
    assert inverse(shift_matrix(torch.zeros(1, 2).bfloat16())).dtype == torch.float32
    label = torch.arange(2000).reshape(1, -1)
    matrix = torch.tensor([[[1.0, 1.0]]]).half()
    moved, _ = warp_affine(label, label >= 0, matrix)
    assert torch.equal(moved, shift(label, label >= 0, torch.tensor([[1]]))[0])


@pytest.mark.parametrize("space", [(7,), (5, 4), (4, 3, 4)])
def test_derivatives_of_warps_by_matrices(space):
    label, valid = made(space, channels=1, batch=1)
    matrix = random_matrix(space, 3, batch=1)
    label.requires_grad_()
    matrix.requires_grad_()
    for kwargs in ({"check_forward_ad": True}, {"fast_mode": False}):
        assert gradcheck(lambda x, m: warp_affine(x, valid, m)[0], (label, matrix), **kwargs)


def test_derivatives_of_matrices():
    forward = {"check_forward_ad": True}
    values = torch.rand(2, dtype=torch.float64, requires_grad=True)
    vectors = torch.rand(2, 3, dtype=torch.float64).requires_grad_()
    for make, given in (
        (lambda a: rotation_matrix(a, (3, 4)), values),
        (lambda a: rotation_matrix(a, (3, 4, 5)), vectors),
        (lambda a: scale_matrix(a, (3, 4)), values),
        (lambda a: scale_matrix(a, (3, 4, 5)), vectors),
        (lambda a: shear_matrix(a, (3, 4)), values),
        (shift_matrix, vectors),
        (lambda a: inverse(scale_matrix(1 + a, (3, 4, 5))), vectors),
        (lambda a: compose(shift_matrix(a), rotation_matrix(a, (3, 4, 5))), vectors),
    ):
        assert gradcheck(make, (given,), **forward)


def test_no_turn_has_a_derivative_too():
    vector = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.functional.jacobian(lambda v: rotation_matrix(v, (3, 3, 3)), vector)
    about_last = found[0, :, :3, 0, 2]
    assert about_last.tolist() == [[0, -1, 0], [1, 0, 0], [0, 0, 0]]


def test_positions_are_mapped_axis_by_axis():
    matrix = random_matrix((2, 3), batch=1)
    rows, columns = map_positions(matrix, (2, 3))
    for i in range(2):
        for j in range(3):
            expected = matrix[0] @ torch.tensor([i, j, 1.0]).double()
            torch.testing.assert_close(torch.stack([rows[0, i, j], columns[0, i, j]]), expected)


ONE = torch.zeros(2)
WRONG = {
    "a turn of a line": (lambda: rotation_matrix(ONE, (4,)), "2-D and 3-D"),
    "one angle in space": (lambda: rotation_matrix(ONE, (4, 4, 4)), r"floating \(batch, 3\)"),
    "three angles in the plane": (lambda: rotation_matrix(ONE[None], (4, 4)), r"\(batch,\)"),
    "whole angles": (lambda: rotation_matrix(ONE.long(), (4, 4)), "floating"),
    "two factors for one axis": (lambda: scale_matrix(ONE[None], (4,)), r"\(batch, 1\)"),
    "a number for a factor": (lambda: scale_matrix(ONE[0], (4,)), "factor"),
    "a shear along itself": (lambda: shear_matrix(ONE, (4, 4), 1, 1), "two of the axes"),
    "a shear of a line": (lambda: shear_matrix(ONE, (4,)), "two of the axes"),
    "a negative axis": (lambda: shear_matrix(ONE, (4, 4), 0, -1), "two of the axes"),
    "whole shifts": (lambda: shift_matrix(ONE[None].long()), "floating"),
    "a flat shift": (lambda: shift_matrix(ONE), "displacement"),
    "a square matrix": (lambda: inverse(torch.zeros(1, 3, 3)), "dims, dims"),
    "two sizes": (
        lambda: compose(shift_matrix(ONE[None]), shift_matrix(torch.zeros(2, 2))),
        "one shape",
    ),
    "a matrix of another space": (
        lambda: warp_affine(*made((4, 4)), shift_matrix(torch.zeros(2, 3))),
        "matrix must be",
    ),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_does_not_fit_is_refused(case):
    make, text = WRONG[case]
    with pytest.raises(ShapeError, match=text):
        make()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_without_an_inverse_is_refused(dtype):
    factors = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=dtype)
    with pytest.raises(NonFiniteError, match="sample 1 of the batch flattens"):
        warp_affine(*made((4, 4)), scale_matrix(factors, (4, 4)))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_matrix_that_is_no_number_is_refused(bad):
    matrix = shift_matrix(torch.tensor([[0.0, bad], [0.0, 0.0]]))
    for call in (lambda: warp_affine(*made((4, 4)), matrix), lambda: inverse(matrix)):
        with pytest.raises(NonFiniteError, match="finite numbers; sample 0 of the batch"):
            call()
