"""Fields from velocities, from coarser grids, and after a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from labelmend.alignment.affine import inverse, map_positions, shift_matrix
from labelmend.alignment.agreement import check_field, check_motion
from labelmend.alignment.interpolation import back_by, positions_along, read
from labelmend.errors import SettingsError, ShapeError
from labelmend.losses.valid_positions import at_least_single

_LINEAR = ("linear", "bilinear", "trilinear")


def integrate(velocity: Tensor, *, steps: int = 6) -> Tensor:
    """The field of what flows with a velocity that does not change, for one unit of time.

    A 2⁻ˢᵗᵉᵖˢ-th of the velocity is a field that moves little; done twice it moves for twice as
    long, and so on: ``steps`` doublings, each ``field(p) + field(p − field(p))`` read linearly.
    Beyond the border the outermost values go on.

    Args:
        velocity: ``(batch, dims, *space)`` floating, in positions of its own grid per unit of
            time; along an axis positive moves content to higher positions.
        steps: how many times to double, 0 or more; 0 gives the velocity itself.

    Returns:
        The backward field of that shape, float32 or float64, in positions. One velocity
        everywhere gives exactly that; no displacement is larger than the largest velocity along
        its axis. ``integrate(-velocity)`` is the way back, but for interpolation and the border.

    Raises:
        ShapeError: for any other shape.
        NonFiniteError: where a velocity is NaN or infinite.
        SettingsError: where ``steps`` is below 0.

    Differentiable in reverse and forward mode. Source: Arsigny et al. 2006, "scaling and
    squaring". The trap: that nothing folds holds for smooth velocities only. Where neighbours
    differ by far more than 1 position, the grid is too coarse to say so: penalise the slopes.

    >>> integrate(torch.tensor([[[0.0, 0.5, 1.0, 1.5]]]), steps=1)
    tensor([[[0.0000, 0.4375, 0.8750, 1.3125]]])
    """
    check_field("velocity", velocity)
    if steps < 0:
        raise SettingsError(f"steps must be 0 or more, not {steps}; 6 will do for most")
    space = velocity.shape[2:]
    own = [positions_along(axis, space, velocity.device) for axis in range(len(space))]
    everywhere = torch.ones_like(velocity[:, 0], dtype=torch.bool)
    field = at_least_single(velocity) * 0.5**steps
    for _ in range(steps):
        # Held inside as displacements, for positions far along an axis hold few digits.
        inside = [
            along.clamp((p + 1 - size).to(along.dtype), p.to(along.dtype))
            for along, p, size in zip(field.unbind(1), own, space, strict=True)
        ]
        field = field + read(field, everywhere, back_by(inside, space), "linear")[0]
    return field


def enlarge(field: Tensor, space: Sequence[int]) -> Tensor:
    """A field on a grid of cells, brought to the positions that these are made of.

    Along every axis a cell is ``g = size of space / size of field`` positions wide and its value
    stands for its centre, ``g · i + (g − 1) / 2``. Between centres the field is read linearly,
    beyond the outermost ones their values go on; displacements are multiplied by ``g``.

    Args:
        field: ``(batch, dims, *cells)`` floating, in cells.
        space: the size that is wanted, along no axis smaller.

    Returns:
        ``(batch, dims, *space)``, float32 or float64, in positions.

    Raises:
        ShapeError: for any other shape, or a space with fewer positions than cells.
        NonFiniteError: where a displacement is NaN or infinite.

    Differentiable. Source: own. The trap: the cells share the space evenly, so ``g`` may be a
    fraction; if the last cells reach over the border, enlarge to whole cells and cut off the rest.

    >>> enlarge(torch.tensor([[[1.0, 2.0]]]), (4,))
    tensor([[[2.0000, 2.5000, 3.5000, 4.0000]]])
    """
    check_field("field", field)
    cells = field.shape[2:]
    if len(space) != len(cells) or any(n < m for n, m in zip(space, cells, strict=True)):
        raise ShapeError(
            f"space must be {len(cells)} sizes of at least {tuple(cells)}, those of the field, "
            f"not {tuple(space)}"
        )
    field = at_least_single(field)
    ratio = field.new_tensor([n / m for n, m in zip(space, cells, strict=True)])
    scaled = field * ratio.view(-1, *[1] * len(cells))
    return interpolate(scaled, tuple(space), mode=_LINEAR[len(cells) - 1], align_corners=False)


def after_matrix(matrix: Tensor, field: Tensor) -> Tensor:
    """One field for two moves, first by a matrix, then by a field, to interpolate a label once.

    With ``A`` the linear part of the inverse matrix: ``field_of(matrix)(p) + A · field(p)``.
    A matrix has no border, so this is exact everywhere.

    Args:
        matrix: ``(batch, dims, dims + 1)`` floating, the move that is done first, from positions
            of the label to positions of the moved label.
        field: ``(batch, dims, *space)`` floating, in positions, backward: the move that follows.

    Returns:
        ``(batch, dims, *space)`` in the larger of both number types, float32 at least. After a
        shift it is the field with the shift added, to the last bit.

    Raises:
        ShapeError: where shapes, types or devices do not fit.
        NonFiniteError: where a number is not finite or a matrix has no inverse.

    Differentiable with respect to both. Source: own. The trap: what leaves by the matrix and
    comes back by the field is still there, unlike after warping twice.

    >>> double = torch.tensor([[[2.0, -2.0]]])
    >>> after_matrix(double, torch.tensor([[[0.0, 0.0, 0.0, 0.0, 2.0]]]))
    tensor([[[-1.0000, -0.5000,  0.0000,  0.5000,  2.0000]]])
    """
    check_field("field", field)
    batch, dims, *space = field.shape
    check_motion("matrix", matrix, (batch, dims, dims + 1), field)
    back = inverse(matrix)
    none = shift_matrix(back.new_zeros(batch, dims))
    # The matrix's own part as a difference of matrices: no digits are lost far along an axis.
    parts = map_positions(none - back, space)
    linear = back.reshape(*back.shape, *[1] * dims)
    for row in range(dims):
        for axis, along in enumerate(at_least_single(field).unbind(1)):
            parts[row] = parts[row] + linear[:, row, axis] * along
    return torch.stack(parts, 1)
