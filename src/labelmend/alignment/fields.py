"""Warp labels by displacement fields, which say at every position where its content came from.

A field is ``(batch, dims, *space)`` floating, in positions, axes ordered as in the label, and is
looked up where content arrives (backward convention): ``moved(p) = label(p − field(p))``. A field
of one value everywhere moves content by that value, as a shift does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product

import torch
from torch import Tensor

from labelmend.alignment.affine import inverse, map_positions
from labelmend.alignment.agreement import (
    check_field,
    check_label,
    check_motion,
)
from labelmend.alignment.interpolation import Mode, at, back_by, positions_along, read
from labelmend.errors import ShapeError
from labelmend.losses.valid_positions import at_least_single


def warp_field(
    label: Tensor, valid: Tensor, field: Tensor, *, mode: Mode | None = None
) -> tuple[Tensor, Tensor]:
    """Labels moved by a field: ``moved(p) = label(p − field(p))``.

    Args:
        label: ``(batch, *space)`` int64 class indices or ``(batch, channels, *space)`` floating.
        valid: ``(batch, *space)`` bool.
        field: ``(batch, dims, *space)`` floating, in positions, backward: the displacement of
            what *arrives* at ``p``.
        mode: ``"nearest"`` or ``"linear"``; by default classes by nearest position, channels
            linearly. Linear classes are the argmax of interpolated one-hot labels.

    Returns:
        As :func:`labelmend.alignment.shifts.shift`; valid where all positions that count with a
        weight above 0 are. A field of 0 gives the label as it was.

    Raises:
        ShapeError: where shapes, types or devices do not fit.
        NonFiniteError: where a displacement is NaN or infinite.
        SettingsError: for a mode that does not exist.

    Differentiable in reverse and forward mode with respect to field and label, where channels
    are read linearly; at a whole displacement, such as 0, the derivative is the one-sided one
    towards smaller displacements, and 0 where that neighbour is not known. Source: seed B3, B6.
    The trap: this is neither the forward field of the same move nor ``torch``'s sampling grid.

    >>> label = torch.tensor([[[0.0, 4.0, 8.0]]])
    >>> field = torch.tensor([[[0.0, 0.25, -1.0]]])
    >>> warp_field(label, torch.ones(1, 3, dtype=torch.bool), field)
    (tensor([[[0., 3., 0.]]]), tensor([[ True,  True, False]]))
    """
    check_label(label, valid)
    space = valid.shape[1:]
    check_motion("field", field, (len(valid), len(space), *space), label)
    return read(label, valid, back_by(field.unbind(1), space), mode)


def field_of(matrix: Tensor, space: Sequence[int]) -> Tensor:
    """The field that moves a label as a matrix does.

    Args:
        matrix: ``(batch, dims, dims + 1)`` floating, from positions of the label to positions
            of the moved label.
        space: the size of the label.

    Returns:
        ``(batch, dims, *space)`` float32 or float64: ``p − matrix⁻¹ · p``.

    Raises:
        ShapeError: where shapes do not fit.
        NonFiniteError: where a number is not finite or a matrix has no inverse.

    Source: own. The trap: beyond its space a field is not known, while a matrix is; compose
    matrices before they are made a field.

    >>> field_of(torch.tensor([[[2.0, -2.0]]]), (5,))
    tensor([[[-1.0000, -0.5000,  0.0000,  0.5000,  1.0000]]])
    """
    back = inverse(matrix)
    if back.shape[1] != len(space):
        raise ShapeError(
            f"matrix must be (batch, {len(space)}, {len(space) + 1}) to fit space "
            f"{tuple(space)}, not {tuple(matrix.shape)}"
        )
    sources = map_positions(back, space)
    return torch.stack(
        [own - from_ for own, from_ in zip(_own(back, space), sources, strict=True)], 1
    )


def compose_fields(first: Tensor, then: Tensor) -> Tensor:
    """One field for two moves, so that a label is interpolated once.

    ``composed(p) = then(p) + first(p − then(p))``, the first field read linearly.

    Args:
        first: ``(batch, dims, *space)`` floating, the move that is done first.
        then: the same shape, the move that follows.

    Returns:
        ``(batch, dims, *space)`` in the larger of both number types, float32 at least.

    Raises:
        ShapeError: where shapes, types or devices do not fit.
        NonFiniteError: where a displacement is NaN or infinite.

    Differentiable with respect to both. Source: own. The trap: a field reaches half a position
    beyond its outermost ones and is 0 further out. So what comes from there is not known when a
    label is warped, as after warping twice, but the composed field has a step there: look for
    folds in ``first`` and ``then``, whose determinants multiply.

    >>> compose_fields(torch.tensor([[[0.0, 1.0, 2.0]]]), torch.tensor([[[1.0, 0.5, 1.0]]]))
    tensor([[[1., 1., 2.]]])
    """
    check_field("first", first)
    check_motion("then", then, tuple(first.shape), first)
    space = first.shape[2:]
    pairs = zip(_own(at_least_single(then), space), then.unbind(1), strict=True)
    from_ = [own - displacement for own, displacement in pairs]
    sizes = list(zip(from_, space, strict=True))
    near = reduce(torch.logical_and, ((f >= -0.5) & (f < n - 0.5) for f, n in sizes))
    places = at([f.clamp(0, n - 1) for f, n in sizes], space)
    moved, _ = read(at_least_single(first), torch.ones_like(near), places, "linear")
    return then + torch.where(near.unsqueeze(1), moved, 0)


def jacobian_determinant(field: Tensor) -> Tensor:
    """How much space is squeezed at every position; 0 or less where the field folds.

    The determinant of ``p → p − field(p)`` by finite differences of neighbours. At every position
    there are two of them along each axis, towards the lower and the higher neighbour, and the
    least of the ``2 ** dims`` determinants is taken (at the border those there are), so that no
    fold is missed; along an axis with one position nothing changes.

    Args:
        field: ``(batch, dims, *space)`` floating, in positions.

    Returns:
        ``(batch, *space)``, float32 or float64, without unit. Above 1 what arrives is squeezed
        (the map goes back), below 1 it is stretched; a shift has exactly 1.

    Raises:
        ShapeError: for any other shape.
        NonFiniteError: where a displacement is NaN or infinite.

    Source: own. The trap: central differences, which are more usual, do not see a fold of one
    position.

    >>> jacobian_determinant(torch.tensor([[[0.0, 0.0, 1.5, 0.0]]]))
    tensor([[ 1.0000, -0.5000, -0.5000,  2.5000]])
    """
    check_field("field", field)
    field = at_least_single(field)
    slopes = [_slopes(field, axis + 2) for axis in range(field.shape[1])]
    one = torch.eye(len(slopes), dtype=field.dtype, device=field.device)
    found = []
    for sides in product((0, 1), repeat=len(slopes)):
        columns = [
            [one[row, axis] - slopes[axis][side][:, row] for row in range(len(slopes))]
            for axis, side in enumerate(sides)
        ]
        found.append(_determinant(columns))
    return reduce(torch.minimum, found)


def _own(like: Tensor, space: Sequence[int]) -> list[Tensor]:
    axes = range(len(space))
    return [positions_along(axis, space, like.device).to(like.dtype) for axis in axes]


def _slopes(field: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Differences to the lower and to the higher neighbour; at a border the one there is."""
    size = field.shape[axis]
    if size < 2:
        return torch.zeros_like(field), torch.zeros_like(field)
    steps = field.diff(dim=axis)
    first, last = steps.narrow(axis, 0, 1), steps.narrow(axis, size - 2, 1)
    return torch.cat([first, steps], axis), torch.cat([steps, last], axis)


def _determinant(columns: list[list[Tensor]]) -> Tensor:
    """By the first column; ``torch.linalg.det`` of millions of small matrices is slow."""
    if len(columns) == 1:
        return columns[0][0]
    total = torch.zeros_like(columns[0][0])
    for row, value in enumerate(columns[0]):
        rest = [column[:row] + column[row + 1 :] for column in columns[1:]]
        total = total + (-1) ** row * value * _determinant(rest)
    return total
