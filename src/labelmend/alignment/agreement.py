"""Refuse labels, displacements, matrices and fields that do not fit together."""

from __future__ import annotations

import torch
from torch import Tensor

from labelmend.errors import NonFiniteError, ShapeError
from labelmend.losses.valid_positions import type_and_shape


def check_label(label: Tensor, valid: Tensor) -> None:
    """Refuse what is no label with its valid positions, axes ``(batch, [channels,] *space)``.

    Raises:
        ShapeError: unless ``valid`` is bool ``(batch, *space)`` with 1, 2 or 3 space axes, and
            ``label`` is int64 of that shape or floating ``(batch, channels, *space)``, on one
            device.

    Source: the shapes of :class:`labelmend.types.Batch`. Trap: class indices of any other
    integer type are refused too, so that what comes back is always what went in.

    >>> check_label(torch.zeros(1, 4, dtype=torch.uint8), torch.ones(1, 4, dtype=torch.bool))
    Traceback (most recent call last):
    labelmend.errors.ShapeError: label must be int64 (1, 4) or floating (1, channels, 4), ...
    """
    if valid.dtype != torch.bool or valid.ndim not in (2, 3, 4):
        raise ShapeError(
            "valid must be bool (batch, *space) with 1, 2 or 3 space axes, "
            f"not {type_and_shape(valid)}"
        )
    classes = label.dtype == torch.int64 and label.shape == valid.shape
    # The space axes follow the channels; a label without channels must not be read as one.
    channels = (
        label.is_floating_point()
        and label.ndim == valid.ndim + 1
        and (label.shape[:1] + label.shape[2:] == valid.shape)
    )
    if not classes and not channels:
        batch, *space = valid.shape
        places = ", ".join(map(str, space))
        raise ShapeError(
            f"label must be int64 {tuple(valid.shape)} or floating ({batch}, channels, {places}), "
            f"not {type_and_shape(label)}"
        )
    if label.device != valid.device:
        raise ShapeError(
            f"label and valid must be on one device, not on {label.device}, {valid.device}"
        )


def check_motion(name: str, motion: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """Refuse a displacement, matrix or field that does not move this label.

    Args:
        name: what to call it in the error.
        motion: the tensor, floating.
        shape: what its shape must be.
        like: the label, whose device it must share.

    Raises:
        ShapeError: where type, shape or device do not fit.
        NonFiniteError: where a number is NaN or infinite; it would empty the label in silence.

    Trap: the look at the numbers makes a GPU wait, once per call.

    >>> check_motion("field", torch.zeros(1, 2), (1, 1, 4), torch.zeros(1, 4))
    Traceback (most recent call last):
    labelmend.errors.ShapeError: field must be floating (1, 1, 4) to fit the label, not ...
    """
    if not motion.is_floating_point() or tuple(motion.shape) != shape:
        raise ShapeError(
            f"{name} must be floating {shape} to fit the label, not {type_and_shape(motion)}"
        )
    if motion.device != like.device:
        raise ShapeError(
            f"{name} and label must be on one device, not on {motion.device}, {like.device}"
        )
    check_finite(name, motion)


def check_finite(name: str, values: Tensor) -> None:
    """Refuse NaN and infinity in ``(batch, ...)``, naming the samples.

    Raises:
        NonFiniteError: where a number is not finite.

    Trap: it reads the numbers, so a GPU is waited for.

    >>> check_finite("field", torch.tensor([[0.0], [torch.nan]]))
    Traceback (most recent call last):
    labelmend.errors.NonFiniteError: field must hold finite numbers; sample 1 of the batch ...
    """
    finite = values.detach().isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        samples = ", ".join(str(n) for n, fine in enumerate(finite.tolist()) if not fine)
        raise NonFiniteError(
            f"{name} must hold finite numbers; sample {samples} of the batch does not, "
            "look at what made it"
        )


def check_field(name: str, field: Tensor) -> None:
    """Refuse what is no field or velocity, or holds a number that is not finite.

    Raises:
        ShapeError: unless it is floating ``(batch, dims, *space)`` with 1, 2 or 3 space axes.
        NonFiniteError: where a number is NaN or infinite.

    Trap: the look at the numbers makes a GPU wait, once per call.

    >>> check_field("velocity", torch.zeros(1, 2, 4))
    Traceback (most recent call last):
    labelmend.errors.ShapeError: velocity must be floating (batch, dims, *space) with 1, ...
    """
    dims = field.ndim - 2
    if not field.is_floating_point() or dims not in (1, 2, 3) or field.shape[1] != dims:
        raise ShapeError(
            f"{name} must be floating (batch, dims, *space) with 1, 2 or 3 space axes, "
            f"not {type_and_shape(field)}"
        )
    check_finite(name, field)
