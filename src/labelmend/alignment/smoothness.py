"""How rough, how large and how folded a displacement field is, and where it leans as a whole.

A field is ``(batch, dims, *space)`` floating, in positions, as in
:mod:`labelmend.alignment.fields`. Each function gives one value per sample, float32 or float64,
differentiable in reverse and forward mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from labelmend.alignment.agreement import check_field
from labelmend.alignment.fields import jacobian_determinant
from labelmend.errors import SettingsError
from labelmend.losses.valid_positions import at_least_single


def gradient_energy(field: Tensor) -> Tensor:
    """How much neighbours move apart: the mean square of the differences between them.

    Args:
        field: ``(batch, dims, *space)`` floating, in positions.

    Returns:
        ``(batch,)``, positions per position squared, so without unit; the mean over positions,
        components and axes. A shift has 0; an axis with one position adds 0 to the mean.

    Raises:
        ShapeError: for any other shape.
        NonFiniteError: where a displacement is NaN or infinite.

    Source: the diffusion penalty of Fischer and Modersitzki 2002. The trap: it also resists
    turns and scales, so do those by a matrix first.

    >>> gradient_energy(torch.tensor([[[0.0, 1.0, 3.0]]]))
    tensor([2.5000])
    """
    check_field("field", field)
    field = at_least_single(field)
    dims = field.shape[1]
    slopes = [field.diff(dim=axis + 2) for axis in range(dims)]
    return torch.stack([_mean_square(slope) for slope in slopes]).mean(0)


def bending_energy(field: Tensor) -> Tensor:
    """How much a field bends: the mean square of its second differences.

    Args:
        field: ``(batch, dims, *space)`` floating, in positions.

    Returns:
        ``(batch,)``, in 1 / positions²; the mean over positions, components and all pairs of
        axes. What a matrix does has 0 but for rounding; axes too short to bend add 0 to the mean.

    Raises:
        ShapeError: for any other shape.
        NonFiniteError: where a displacement is NaN or infinite.

    Source: the thin plate of Rueckert et al. 1999. The trap: it falls with the fourth power of a
    wave's length, so its weight depends on the resolution; and alone it leaves mirrors free.

    >>> bending_energy(torch.tensor([[[0.0, 1.0, 3.0]]]))
    tensor([1.])
    """
    check_field("field", field)
    field = at_least_single(field)
    dims = field.shape[1]
    pairs = product(range(2, dims + 2), repeat=2)
    bends = [field.diff(dim=one).diff(dim=other) for one, other in pairs]
    return torch.stack([_mean_square(bend) for bend in bends]).mean(0)


def size_energy(field: Tensor, limit: float | Sequence[float]) -> Tensor:
    """How far displacements go beyond a limit: the mean square of what is too much.

    Args:
        field: ``(batch, dims, *space)`` floating, in positions.
        limit: what is free along every axis, in positions, 0 or more; one for all axes, or one
            for each. 0 gives the mean square of the field.

    Returns:
        ``(batch,)``, in positions²; the mean over positions and axes, 0 within the limit.

    Raises:
        ShapeError: for any other shape.
        NonFiniteError: where a displacement is NaN or infinite.
        SettingsError: where a limit is below 0, or there is not one for every axis.

    Source: own. The trap: it holds no field within the limit, it only makes going further dear.

    >>> size_energy(torch.tensor([[[0.0, -3.0, 2.0, 0.0]]]), limit=2.0)
    tensor([0.2500])
    """
    check_field("field", field)
    field = at_least_single(field)
    dims = field.shape[1]
    limits = list(limit) if isinstance(limit, Sequence) else [limit] * dims
    if len(limits) != dims or not all(most >= 0 for most in limits):
        raise SettingsError(
            f"limit must be one number of 0 or more, or {dims}, one for each axis, not {limit}"
        )
    free = field.new_tensor(limits).view(-1, *[1] * dims)
    return _mean_square((field.abs() - free).clamp(min=0))


def folding(field: Tensor) -> Tensor:
    """How much a field folds: the mean of how far its Jacobian determinants are below 0.

    Args:
        field: ``(batch, dims, *space)`` floating, in positions.

    Returns:
        ``(batch,)``, without unit; the mean over positions, 0 where nothing folds. A mirror has 1.

    Raises:
        ShapeError: for any other shape.
        NonFiniteError: where a displacement is NaN or infinite.

    Source: own; see :func:`labelmend.alignment.fields.jacobian_determinant`. The trap: what is
    squeezed to a point has a value of 0, but its derivative already pulls it open.

    >>> folding(torch.tensor([[[0.0, 0.0, 1.5, 0.0]]]))
    tensor([0.2500])
    """
    return (0 - jacobian_determinant(field).clamp(max=0)).flatten(1).mean(1)


def mean_displacement(field: Tensor) -> Tensor:
    """Where a field moves a sample as a whole: its mean over all positions.

    Args:
        field: ``(batch, dims, *space)`` floating, in positions.

    Returns:
        ``(batch, dims)``, in positions. A shift has its displacement.

    Raises:
        ShapeError: for any other shape.
        NonFiniteError: where a displacement is NaN or infinite.

    Source: the traps of seed B, a constant offset that alignment forgives. The trap: a field that
    moves one object and leaves much empty space in place has a small mean.

    >>> mean_displacement(torch.tensor([[[0.0, 1.0, 5.0]]]))
    tensor([[2.]])
    """
    check_field("field", field)
    return at_least_single(field).flatten(2).mean(2)


def _mean_square(values: Tensor) -> Tensor:
    """``(batch, ...)`` → ``(batch,)``; of nothing 0, which still has a derivative."""
    each = values.square().flatten(1)
    return each.sum(1) / max(each.shape[1], 1)
