"""Cut one image into another along a class of its label (seed A, ¶70–76, eq. 10)."""

from __future__ import annotations

import torch
from monai.networks.layers.simplelayers import GaussianFilter
from torch import Tensor

from labelmend.errors import SettingsError, ShapeError
from labelmend.losses import present
from labelmend.losses.valid_positions import check_tensors, type_and_shape

NO_CLASS = -1
"""Stands for the class of a label that has none to be cut out."""


def draw_class(
    label: Tensor, valid: Tensor, classes: int, uniform: Tensor, *, background: bool = False
) -> Tensor:
    """A class for every label, drawn among those it has: ``(batch,)`` int64.

    Args:
        label: ``(batch, *space)`` int64 class indices.
        valid: ``(batch, *space)`` bool; what nobody said is of no class.
        classes: how many there are, background included.
        uniform: ``(batch,)`` the random numbers to draw by, in [0, 1).
        background: whether class 0 may be drawn.

    Returns:
        Class indices, and :data:`NO_CLASS` for a label that has no class to draw, such as an
        all-background one.

    Raises:
        ShapeError: where shapes do not fit, or a random number is outside [0, 1).

    The trap: with ``background`` the label's complement is cut out: few small objects of one
    image are then all that is left of the other.

    >>> label = torch.tensor([[0, 1, 2, 2], [0, 0, 0, 0]])
    >>> draw_class(label, torch.ones_like(label) > 0, 3, torch.tensor([0.9, 0.9])).tolist()
    [2, -1]
    """
    if uniform.shape != label.shape[:1]:
        raise ShapeError(
            f"one random number per label is wanted, {len(label)} in all, got shape "
            f"{tuple(uniform.shape)}"
        )
    outside = uniform[~((uniform >= 0) & (uniform < 1))].tolist()
    if outside:
        raise ShapeError(f"random numbers in [0, 1) are wanted, got {outside[0]:g}")
    there = present(label, valid, classes)
    if not background:
        there[:, 0] = False
    many = there.sum(1)
    wanted = (uniform * many).long()
    ranks = there.long().cumsum(1) - 1
    found = (there & (ranks == wanted.unsqueeze(1))).long().argmax(1)
    return torch.where(many > 0, found, NO_CLASS)


def class_mask(label: Tensor, valid: Tensor, chosen: Tensor | int) -> Tensor:
    """Where every label has its class: ``B`` of eq. 10, ``(batch, *space)`` bool.

    A label without the class, and one for which :data:`NO_CLASS` was drawn, has an empty mask: the
    mixed image is then the second one. One that has nothing else has a full mask: the mixed image
    is the first.

    Args:
        label: ``(batch, *space)`` int64 class indices.
        valid: ``(batch, *space)`` bool; what nobody said is of no class.
        chosen: ``(batch,)`` a class for every label, or one for all.

    Raises:
        ShapeError: where shapes do not fit.

    The trap: instances are not told apart; all objects of a class are cut out together.

    >>> label = torch.tensor([[0, 1, 1, 2]])
    >>> class_mask(label, label < 9, 1).tolist()
    [[False, True, True, False]]
    """
    check_tensors(label=label, valid=valid)
    if valid.dtype != torch.bool:
        raise ShapeError(f"valid must be bool (batch, *space), not {type_and_shape(valid)}")
    wanted = torch.as_tensor(chosen, device=label.device)
    if label.shape != valid.shape or label.ndim < 2 or wanted.shape not in ((), label.shape[:1]):
        raise ShapeError(
            "label and valid (batch, *space) and a class, or one per label, are wanted, got "
            f"{tuple(label.shape)}, {tuple(valid.shape)} and {tuple(wanted.shape)}"
        )
    return valid & (label == wanted.reshape(-1, *(1,) * (label.ndim - 1)))


def soften(mask: Tensor, deviation: float) -> Tensor:
    """The mask with a blended border: ``(batch, *space)`` float32 from 0 to 1.

    Args:
        mask: ``(batch, *space)`` bool, in one, two or three dimensions.
        deviation: standard deviation of the Gaussian, in positions; 0 leaves the border sharp.

    Raises:
        SettingsError: for a deviation below 0.

    The trap: an object not larger than the deviation all but vanishes.

    >>> soften(torch.tensor([[False, False, True, True]]), 0.5).round(decimals=1)
    tensor([[0.0000, 0.2000, 0.8000, 1.0000]])
    """
    if deviation < 0:
        raise SettingsError(f"the deviation of a soft border is at least 0, not {deviation}")
    sharp = mask.unsqueeze(1).float()
    if deviation == 0:
        return sharp.squeeze(1)
    blur = GaussianFilter(mask.ndim - 1, deviation).to(mask.device)
    # Beyond its border a mask goes on as it ends there: what is full stays full.
    reached = blur(torch.ones_like(sharp))
    softened: Tensor = (blur(sharp) / reached).squeeze(1).clamp(0, 1)
    return softened


def mix(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """``B ⊙ first + (1 − B) ⊙ second`` (eq. 10), of images, labels, ``valid`` or weights.

    What the mask leaves out does not reach the result, not even as NaN. Where the border is soft,
    numbers are blended; class indices and bools, which cannot be, are of the first from a half on.

    Args:
        first: ``(batch, channels, *space)``, ``(batch, *space)``, or ``(batch,)`` for one number
            per sample, which becomes one per position.
        second: likewise.
        mask: ``(batch, *space)`` bool, or float from 0 to 1.

    Returns:
        A tensor as ``first``, or ``(batch, *space)`` from numbers per sample.

    Raises:
        ShapeError: where shapes or types do not fit.

    The trap: image, label and ``valid`` must be mixed by the same mask, and it belongs to the
    first label as it stands after augmentation.

    >>> mask = torch.tensor([[True, False, False]])
    >>> mix(torch.tensor([[1, 1, 1]]), torch.tensor([[0, 2, 0]]), mask).tolist()
    [[1, 2, 0]]
    >>> mix(torch.tensor([1.0]), torch.tensor([0.5]), mask).tolist()
    [[1.0, 0.5, 0.5]]
    """
    check_tensors(first=first, second=second, mask=mask)
    share = _over(mask, first)
    if first.shape != second.shape or first.dtype != second.dtype:
        raise ShapeError(
            "what is mixed must be alike, not "
            f"{first.dtype} {tuple(first.shape)} and {second.dtype} {tuple(second.shape)}"
        )
    if first.ndim == 1:
        first, second = (values.reshape(-1, *(1,) * (mask.ndim - 1)) for values in (first, second))
    if not share.is_floating_point():
        return torch.where(share, first, second)
    if not first.is_floating_point():
        return torch.where(share >= 0.5, first, second)
    share = share.to(first)
    blended = torch.where(share >= 1, first, share * first + (1 - share) * second)
    return torch.where(share <= 0, second, blended)


def _over(mask: Tensor, values: Tensor) -> Tensor:
    """The mask with an axis for the channels of ``values`` where they have one."""
    fits = values.ndim == 1 and len(values) == len(mask)
    if values.ndim == mask.ndim:
        fits = values.shape == mask.shape
    if values.ndim == mask.ndim + 1:
        fits = (len(values), *values.shape[2:]) == tuple(mask.shape)
    kind = mask.dtype == torch.bool or mask.is_floating_point()
    if not fits or mask.ndim < 2 or not kind:
        raise ShapeError(
            "a bool or float mask (batch, *space) is wanted that fits what is mixed, "
            f"{tuple(values.shape)}, not {mask.dtype} {tuple(mask.shape)}"
        )
    return mask.unsqueeze(1) if values.ndim == mask.ndim + 1 else mask
