"""Matrices that rotate, scale, shear and shift labels about their centre, put together to be one.

A matrix ``(batch, dims, dims + 1)`` takes positions of the label to where they move: its first
columns are the linear map, the last is the shift, in positions 0..n−1 with the axes ordered as in
the label. The centre of a space is ``(n − 1) / 2`` along every axis. All functions here are
differentiable in reverse and forward mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labelmend.alignment.agreement import (
    check_finite,
    check_label,
    check_motion,
)
from labelmend.alignment.interpolation import Mode, at, positions_along, read
from labelmend.errors import NonFiniteError, ShapeError
from labelmend.losses.valid_positions import at_least_single, type_and_shape


def rotation_matrix(angle: Tensor, space: Sequence[int]) -> Tensor:
    """The matrices that rotate about the centre.

    Args:
        angle: radians. In 2-D ``(batch,)``: positive turns axis 0 towards axis 1, as
            ``torch.rot90`` does. In 3-D ``(batch, 3)``: the rotation vector, whose direction is
            the axis of rotation and whose length the angle; right-handed in the order of the
            axes, so ``(0, 0, a)`` is the 2-D turn by ``a`` of axes 0 and 1.
        space: the size of the label.

    Returns:
        ``(batch, dims, dims + 1)``, float32 or float64.

    Raises:
        ShapeError: for any other shape, or a space that cannot be rotated.

    Source: seed B3; Rodrigues 1840. The trap: angles are between *positions*; with a spacing
    that differs between axes it is no rotation of the body.

    >>> rotation_matrix(torch.tensor([torch.pi / 2]), (3, 3)).round().abs()
    tensor([[[0., 1., 2.],
             [1., 0., 0.]]])
    """
    wanted = {2: (), 3: (3,)}
    if len(space) not in wanted:
        raise ShapeError(f"only 2-D and 3-D labels can be rotated, not a space {tuple(space)}")
    _check("angle", angle, wanted[len(space)])
    angle = at_least_single(angle)
    linear = _turn(angle) if len(space) == 2 else _turn_about(angle)
    return _about_centre(linear, space)


def scale_matrix(factor: Tensor, space: Sequence[int]) -> Tensor:
    """The matrices that scale about the centre; above 1 is larger.

    Args:
        factor: ``(batch,)`` for all axes alike, or ``(batch, dims)`` one per axis; no unit.
        space: the size of the label.

    Returns:
        ``(batch, dims, dims + 1)``, float32 or float64.

    Raises:
        ShapeError: for any other shape.

    Source: seed B3. The trap: a factor of 0 is refused only when the matrix is inverted, a
    negative one mirrors.

    >>> scale_matrix(torch.tensor([2.0]), (5,))
    tensor([[[ 2., -2.]]])
    """
    _check("factor", factor, () if factor.ndim == 1 else (len(space),))
    factor = at_least_single(factor)
    each = factor if factor.ndim == 2 else factor.unsqueeze(1).expand(-1, len(space))
    return _about_centre(torch.diag_embed(each), space)


def shear_matrix(slope: Tensor, space: Sequence[int], along: int = 0, across: int = 1) -> Tensor:
    """The matrices that shear: content moves along one axis by how far it is out on another.

    Args:
        slope: ``(batch,)``; positions along one axis per position on the other, from the centre.
        space: the size of the label.
        along: the axis along which content moves.
        across: the axis whose position says how far.

    Returns:
        ``(batch, dims, dims + 1)``, float32 or float64.

    Raises:
        ShapeError: for any other shape, or unless the axes are two axes of the space.

    Source: seed B3. The trap: several shears depend on their order; say it by :func:`compose`.

    >>> shear_matrix(torch.tensor([0.5]), (3, 3))
    tensor([[[ 1.0000,  0.5000, -0.5000],
             [ 0.0000,  1.0000,  0.0000]]])
    """
    _check("slope", slope, ())
    if along == across or not {along, across} <= set(range(len(space))):
        raise ShapeError(
            f"along and across must be two of the axes 0 to {len(space) - 1} of space "
            f"{tuple(space)}, not {along} and {across}"
        )
    slope = at_least_single(slope)
    only = slope.new_zeros(len(space), len(space))
    only[along, across] = 1
    return _about_centre(_one(slope, len(space)) + slope[:, None, None] * only, space)


def shift_matrix(displacement: Tensor) -> Tensor:
    """The matrices that shift: content moves by ``(batch, dims)`` floating, in positions.

    Returns:
        ``(batch, dims, dims + 1)``, float32 or float64; of zeros, the identity.

    Raises:
        ShapeError: for any other shape.

    Source: seed B3. The trap: whole displacements must be made floating first.

    >>> shift_matrix(torch.tensor([[3.0]]))
    tensor([[[1., 3.]]])
    """
    if not displacement.is_floating_point() or displacement.ndim != 2:
        raise ShapeError(
            f"displacement must be floating (batch, dims), not {type_and_shape(displacement)}"
        )
    displacement = at_least_single(displacement)
    dims = displacement.shape[1]
    return torch.cat([_one(displacement, dims), displacement.unsqueeze(2)], 2)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """One matrix for two moves, so that a label is interpolated once.

    Args:
        first: ``(batch, dims, dims + 1)``, the move that is done first.
        then: the same shape, the move that follows.

    Returns:
        ``(batch, dims, dims + 1)``.

    Raises:
        ShapeError: where the shapes do not fit.

    Source: seed B3, "combinations". The trap: content that leaves by the first move and comes
    back by the second is still there, unlike after moving twice.

    >>> compose(shift_matrix(torch.tensor([[1.0]])), scale_matrix(torch.tensor([2.0]), (3,)))
    tensor([[[2., 1.]]])
    """
    _check_matrix(first)
    _check_matrix(then)
    if first.shape != then.shape or first.device != then.device:
        raise ShapeError(
            f"two matrices of one shape are wanted, not {type_and_shape(first)} on "
            f"{first.device} and {type_and_shape(then)} on {then.device}"
        )
    first, then = at_least_single(first), at_least_single(then)
    both = _product(then[..., :-1], first)
    return torch.cat([both[..., :-1], both[..., -1:] + then[..., -1:]], 2)


def inverse(matrix: Tensor) -> Tensor:
    """The matrices ``(batch, dims, dims + 1)`` of the moves back.

    Raises:
        ShapeError: for any other shape.
        NonFiniteError: where a number is not finite, or a matrix flattens space, so that there
            is no way back.

    Source: own. The trap: what is almost flat has an inverse that throws everything far out.

    >>> inverse(shift_matrix(torch.tensor([[3.0]])))
    tensor([[[ 1., -3.]]])
    """
    _check_matrix(matrix)
    check_finite("matrix", matrix)
    matrix = at_least_single(matrix)
    linear, failed = torch.linalg.inv_ex(matrix[..., :-1])
    flat = (failed > 0) | ~linear.detach().isfinite().flatten(1).all(1)
    if bool(flat.any()):
        raise NonFiniteError(
            f"matrix must have an inverse; that of sample {int(flat.long().argmax())} of the batch "
            "flattens space, look for a scale factor of 0"
        )
    # Subtracted from 0, for the negative of 0 would be written -0.
    return torch.cat([linear, 0 - _product(linear, matrix[..., -1:])], 2)


def map_positions(matrix: Tensor, space: Sequence[int]) -> list[Tensor]:
    """Where a matrix takes every position of a space: per axis ``(batch, *space)``.

    Source: own; written out, for autocast would compute a matrix product in half precision.
    Trap: it does not check the matrix.

    >>> map_positions(shift_matrix(torch.tensor([[3.0]])), (2,))
    [tensor([[3., 4.]])]
    """
    dims = len(space)
    spread = matrix.reshape(*matrix.shape, *[1] * dims)
    own = [positions_along(axis, space, matrix.device).to(matrix.dtype) for axis in range(dims)]
    return [
        sum((spread[:, row, axis] * own[axis] for axis in range(dims)), spread[:, row, dims])
        for row in range(dims)
    ]


def warp_affine(
    label: Tensor, valid: Tensor, matrix: Tensor, *, mode: Mode | None = None
) -> tuple[Tensor, Tensor]:
    """Labels moved by a matrix: what stands at ``p`` comes to stand at ``matrix · p``.

    Args:
        label: ``(batch, *space)`` int64 class indices or ``(batch, channels, *space)`` floating.
        valid: ``(batch, *space)`` bool.
        matrix: ``(batch, dims, dims + 1)`` floating, from positions of the label to positions
            of the moved label; it is inverted here.
        mode: ``"nearest"`` or ``"linear"``; by default classes by nearest position, channels
            linearly. Linear classes are the argmax of interpolated one-hot labels.

    Returns:
        As :func:`labelmend.alignment.shifts.shift`; valid where all positions that count with a
        weight above 0 are. A whole shift gives what ``shift`` gives, a quarter turn of a square
        what ``torch.rot90`` gives, the identity the label as it was.

    Raises:
        ShapeError: where shapes, types or devices do not fit.
        NonFiniteError: where a number is not finite or a matrix has no inverse.
        SettingsError: for a mode that does not exist.

    Source: seed B3. The trap: shrinking skips positions, it does not average them; and the order
    of axes and the unit differ from ``torch.nn.functional.affine_grid``.

    >>> label = torch.tensor([[[1, 2], [3, 4]]])
    >>> turn = rotation_matrix(torch.tensor([torch.pi / 2]), (2, 2))
    >>> warp_affine(label, torch.ones_like(label) > 0, turn)[0]
    tensor([[[2, 4],
             [1, 3]]])
    """
    check_label(label, valid)
    space = valid.shape[1:]
    check_motion("matrix", matrix, (len(valid), len(space), len(space) + 1), label)
    return read(label, valid, at(map_positions(inverse(matrix), space), space), mode)


def _check(name: str, values: Tensor, wanted: Sequence[int]) -> None:
    if not values.is_floating_point() or values.ndim < 1 or values.shape[1:] != torch.Size(wanted):
        shape = ", ".join(["(batch", *map(str, wanted)]) + ("" if wanted else ",") + ")"
        raise ShapeError(f"{name} must be floating {shape}, not {type_and_shape(values)}")


def _check_matrix(matrix: Tensor) -> None:
    dims = matrix.shape[1] if matrix.ndim == 3 else 0
    if not matrix.is_floating_point() or matrix.ndim != 3 or matrix.shape[2] != dims + 1:
        raise ShapeError(
            f"matrix must be floating (batch, dims, dims + 1), not {type_and_shape(matrix)}"
        )


def _one(like: Tensor, dims: int) -> Tensor:
    one = torch.eye(dims, dtype=like.dtype, device=like.device)
    return one.expand(len(like), -1, -1)


def _product(one: Tensor, other: Tensor) -> Tensor:
    # Written out, for autocast would compute a matrix product in half precision.
    return (one.unsqueeze(3) * other.unsqueeze(1)).sum(2)


def _about_centre(linear: Tensor, space: Sequence[int]) -> Tensor:
    centre = linear.new_tensor([[(size - 1) / 2] for size in space])
    return torch.cat([linear, centre - _product(linear, centre.unsqueeze(0))], 2)


def _turn(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def _turn_about(vector: Tensor) -> Tensor:
    """Rodrigues' formula with sinc, which is smooth where nothing turns."""
    length: Tensor = torch.linalg.vector_norm(vector, dim=1)[:, None, None]
    x, y, z = vector.unbind(1)
    none = torch.zeros_like(x)
    rows = [[none, -z, y], [z, none, -x], [-y, x, none]]
    across = torch.stack([torch.stack(row, 1) for row in rows], 1)
    outer = vector.unsqueeze(2) * vector.unsqueeze(1)
    lift = torch.sinc(length / (2 * torch.pi)).square() / 2
    return length.cos() * _one(vector, 3) + torch.sinc(length / torch.pi) * across + lift * outer
