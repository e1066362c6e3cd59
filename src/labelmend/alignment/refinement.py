"""Displacements finer than a position, with a derivative towards what led to them."""

from __future__ import annotations

import torch
from torch import Tensor

from labelmend.alignment.agreement import check_label
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
) -> Tensor:
    """Displacements refined by half a position at most, where the correlation is the highest.

    Along every axis a parabola is laid through the zero-normalised correlation at the displacement
    and its two neighbours. It stays as it is where that is no maximum, and never becomes NaN.

    Args:
        prediction: ``(batch, channels, *space)`` values like those of the label.
        label: ``(batch, channels, *space)`` float.
        valid: ``(batch, *space)`` bool.
        displacement: ``(batch, dims)`` whole numbers in any number type, in positions.
        known: ``(batch, *space)`` bool, where the prediction may be used.

    Returns:
        ``(batch, dims)`` in float32, or float64 where the prediction is.

    Raises:
        ShapeError: where shapes, types or devices do not fit.

    Differentiable with respect to the prediction, in reverse and forward mode. Source: own, as
    :func:`labelmend.alignment.score_maps.subpixel`. Trap: a label of whole classes has kinks
    rather than parabolas; expect tenths of a position.

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

    def fit(way: Tensor) -> Tensor:
        said, sure = shift(label, valid, whole + way)
        return _correlation(values, said.to(values.dtype), sure & known)

    here = fit(torch.zeros_like(whole[0]))
    steps = torch.eye(whole.shape[1], dtype=whole.dtype, device=whole.device)
    parts = [_vertex(fit(-step), here, fit(step)) for step in steps]
    return whole.to(values.dtype) + torch.stack(parts, 1)


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
