"""Shift labels by whole positions or parts of them, every sample by its own displacement."""

from __future__ import annotations

import torch
from torch import Tensor

from labelmend.alignment.agreement import check_label, check_motion
from labelmend.alignment.interpolation import Mode, back_by, look_up, positions_along, read
from labelmend.errors import ShapeError
from labelmend.losses.valid_positions import type_and_shape


def shift(label: Tensor, valid: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
    """Labels shifted by whole positions: ``moved(p) = label(p − d)``, nothing interpolated.

    Args:
        label: ``(batch, *space)`` int64 class indices or ``(batch, channels, *space)`` floating.
        valid: ``(batch, *space)`` bool.
        displacement: ``(batch, dims)`` int64, in positions, the axes ordered as in the label;
            content moves by it, another way for every sample.

    Returns:
        The moved label and the moved valid, shaped as given. Not valid is what came from outside
        or was not valid; the label holds 0 there.

    Raises:
        ShapeError: where shapes, types or devices do not fit.

    Source: seed B3 (¶34, ¶46). The trap: a position that is not valid holds class 0 like true
    background; only ``valid`` tells them apart.

    >>> label = torch.tensor([[1, 2, 3, 4]])
    >>> shift(label, torch.ones_like(label) > 0, torch.tensor([[1]]))
    (tensor([[0, 1, 2, 3]]), tensor([[False,  True,  True,  True]]))
    """
    check_label(label, valid)
    space = valid.shape[1:]
    if not _is_whole(displacement, (len(valid), len(space))) or displacement.device != label.device:
        raise ShapeError(
            f"displacement must be int64 {(len(valid), len(space))} on {label.device} to fit the "
            f"label, not {type_and_shape(displacement)} on {displacement.device}; "
            "shift_subpixel takes floating ones"
        )
    low = [
        positions_along(axis, space, label.device) - _over(displacement[:, axis], len(space))
        for axis in range(len(space))
    ]
    return look_up(label, valid, low)


def shift_subpixel(
    label: Tensor, valid: Tensor, displacement: Tensor, *, mode: Mode | None = None
) -> tuple[Tensor, Tensor]:
    """Labels shifted by parts of positions too: ``moved(p) = label(p − d)``.

    Args:
        label: ``(batch, *space)`` int64 class indices or ``(batch, channels, *space)`` floating.
        valid: ``(batch, *space)`` bool.
        displacement: ``(batch, dims)`` floating, in positions, as in :func:`shift`.
        mode: ``"nearest"`` or ``"linear"``; by default classes by nearest position, which is a
            shift by the rounded displacement and keeps every shape as it is, channels linearly.
            Linear classes are the argmax of interpolated one-hot labels.

    Returns:
        As :func:`shift`; valid where all positions that count with a weight above 0 are. A whole
        displacement gives what :func:`shift` gives.

    Raises:
        ShapeError: where shapes, types or devices do not fit.
        NonFiniteError: where a displacement is NaN or infinite.
        SettingsError: for a mode that does not exist.

    Differentiable in reverse and forward mode with respect to displacement and label, where
    channels are read linearly; at a whole displacement the derivative is the one-sided one
    towards smaller displacements. Source: seed B3. The trap: linear reading smooths, so search
    on labels as given and move them once.

    >>> label = torch.tensor([[[0.0, 4.0, 8.0]]])
    >>> shift_subpixel(label, torch.ones(1, 3, dtype=torch.bool), torch.tensor([[0.25]]))
    (tensor([[[0., 3., 7.]]]), tensor([[False,  True,  True]]))
    """
    check_label(label, valid)
    space = valid.shape[1:]
    check_motion("displacement", displacement, (len(valid), len(space)), label)
    parts = [_over(displacement[:, axis], len(space)) for axis in range(len(space))]
    return read(label, valid, back_by(parts, space), mode)


def _is_whole(displacement: Tensor, shape: tuple[int, int]) -> bool:
    return displacement.dtype == torch.int64 and tuple(displacement.shape) == shape


def _over(values: Tensor, dims: int) -> Tensor:
    """``(batch,)`` → ``(batch, 1, ...)``, to be spread over space."""
    return values.reshape(-1, *[1] * dims)
