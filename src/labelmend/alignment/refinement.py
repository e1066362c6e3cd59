"""Displacements finer than a position, with a derivative towards what led to them."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from labelmend.alignment.agreement import check_label
from labelmend.alignment.score_maps import displacements, together
from labelmend.alignment.shifts import shift
from labelmend.errors import ShapeError
from labelmend.losses.valid_positions import at_least_single, type_and_shape


def refine(
    prediction: Tensor,
    label: Tensor,
    valid: Tensor,
    displacement: Tensor,
    *,
    known: Tensor | None = None,
    group: Tensor | None = None,
) -> Tensor:
    """Displacements refined to parts of a position, where the correlation is the highest.

    From the displacement, or a neighbour where the zero-normalised correlation is higher (a prior
    may have chosen the second best), a quadratic is laid through all neighbours, corners included:
    a peak that is longer than it is wide leans, and parabolas along the axes would miss its top.
    Where there is no such peak, each axis by itself takes the parabola's top if there is one. The
    result lies within two positions of the displacement, and is never NaN.

    Args:
        prediction: ``(batch, channels, *space)`` values like those of the label.
        label: ``(batch, channels, *space)`` float.
        valid: ``(batch, *space)`` bool.
        displacement: ``(batch, dims)`` whole numbers in any number type, in positions.
        known: ``(batch, *space)`` bool, where the prediction may be used.
        group: ``(batch,)`` int64; samples of one number, which must have one displacement, are
            judged by the mean of their correlations and get the same.

    Returns:
        ``(batch, dims)`` in float32, or float64 where the prediction is.

    Raises:
        ShapeError: where shapes, types or devices do not fit.

    Differentiable with respect to the prediction, in reverse and forward mode. Source: own; a
    quadratic fit as for the vertex of any smooth peak. Smooth values are found within 0.11 of a
    position, volumes that change from one position to the next within 0.15. Trap: a label of whole
    classes has kinks rather than parabolas; expect tenths of a position.

    >>> seen = torch.exp(-((torch.arange(32.0) - 16.25) ** 2) / 8)[None, None]
    >>> said = torch.exp(-((torch.arange(32.0) - 15.0) ** 2) / 8)[None, None]
    >>> refine(seen, said, torch.ones(1, 32).bool(), torch.tensor([[1]])).round(decimals=2)
    tensor([[1.2400]])
    """
    check_label(label, valid)
    if prediction.shape != label.shape or not prediction.is_floating_point():
        raise ShapeError(
            f"prediction must be floating {tuple(label.shape)} as the label is, "
            f"not {type_and_shape(prediction)}"
        )
    values, whole = at_least_single(prediction), displacement.detach().round().long()
    known = torch.ones_like(valid) if known is None else known

    dims = whole.shape[1]
    steps = displacements((1,) * dims, whole.device)

    def around(middle: Tensor) -> Tensor:
        """The correlation at all neighbours, ``(batch, 3, …)``; the middle one is the place."""
        found = []
        for step in steps:
            said, sure = shift(label, valid, middle + step)
            found.append(_correlation(values, said.to(values.dtype), sure & known))
        each = torch.stack(found, 1)
        if group is not None:
            each = together(each, group) / together(torch.ones_like(each), group)
        return each.view(-1, *(3,) * dims)

    with torch.no_grad():
        near = around(whole).flatten(1)
        middle = near[:, near.shape[1] // 2]
        best, at = near.max(1)
        whole = torch.where((best > middle).unsqueeze(1), whole + steps[at], whole)
    return whole.to(values.dtype) + _top(around(whole))


def _top(near: Tensor) -> Tensor:
    """The top of a quadratic through ``(batch, 3, …)`` beside the middle, ``(batch, dims)``.

    By a parabola along each axis where the quadratic has no top within a position.
    """
    dims = near.ndim - 1

    def at(*steps: tuple[int, int]) -> Tensor:
        index = [1] * dims
        for axis, step in steps:
            index[axis] += step
        place = near
        for one in index:
            place = place[:, one]
        return place

    here, axes = at(), range(dims)
    lines = [(at((k, -1)), at((k, 1))) for k in axes]
    slope = torch.stack([(up - down) / 2 for down, up in lines], 1)
    bend = torch.stack([2 * here - down - up for down, up in lines], 1).diag_embed()
    for k, m in combinations(axes, 2):
        alike = at((k, 1), (m, 1)) + at((k, -1), (m, -1))
        apart = at((k, 1), (m, -1)) + at((k, -1), (m, 1))
        unit = torch.zeros_like(bend[0])
        unit[k, m] = unit[m, k] = 0.25
        bend = bend + (apart - alike).view(-1, 1, 1) * unit
    # Only a peak is divided by its bend: what else there is has no top, and no derivative of one.
    peak = torch.linalg.cholesky_ex(bend.detach()).info == 0
    flat = torch.eye(dims, dtype=bend.dtype, device=bend.device)
    joint = torch.linalg.solve(torch.where(peak.view(-1, 1, 1), bend, flat), slope)
    inside = peak.unsqueeze(1) & (joint.abs().amax(1, keepdim=True) <= 1)
    alone = torch.stack([_vertex(down, here, up) for down, up in lines], 1)
    return torch.where(inside, joint, alone)


def _correlation(one: Tensor, other: Tensor, where: Tensor) -> Tensor:
    """Zero-normalised over ``where``, mean over channels, ``(batch,)``; 0 where one is constant."""
    number = where.flatten(1).sum(1).clamp(min=1).unsqueeze(1)
    parts = []
    for values in (one, other):
        inside = torch.where(where.unsqueeze(1), values, 0).flatten(2)
        mean = (inside.sum(2) / number).unsqueeze(2)
        parts.append(torch.where(where.unsqueeze(1).flatten(2), inside - mean, 0))
    power = parts[0].square().sum(2) * parts[1].square().sum(2)
    # Chosen before the root, whose derivative at 0 is infinite.
    uneven = power > 0
    size = torch.where(uneven, power, 1).sqrt()
    return torch.where(uneven, (parts[0] * parts[1]).sum(2) / size, 0).mean(1)


def _vertex(below: Tensor, here: Tensor, above: Tensor) -> Tensor:
    """How far the top of a parabola through three neighbours is from the middle one, ``(batch,)``.

    Nothing that is not finite is a maximum.
    """
    top = (here >= below) & (here >= above) & (2 * here > below + above)
    bend = torch.where(top, 2 * here - below - above, 1)
    return torch.where(top, (above - below) / (2 * bend), 0).clamp(-0.5, 0.5)
