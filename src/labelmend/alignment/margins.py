"""Put a prediction into the middle of a larger space, and cut the middle out of a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from labelmend.alignment.agreement import check_label
from labelmend.errors import ShapeError, unknown
from labelmend.losses.valid_positions import at_least_single, type_and_shape
from labelmend.types import Region

Fill = Literal["mean", "median", "minimum"]
"""What a margin may be filled with, beside a number."""

FILLS: tuple[Fill, ...] = get_args(Fill)
"""The names that ``fill`` may have."""


def centre(inner: Sequence[int], outer: Sequence[int]) -> Region:
    """The region of size ``inner`` in the middle of a space ``outer``, axis by axis.

    It starts at ``(outer − inner) // 2``: where the difference is odd, the higher end of the
    axis has one position more than the lower end.

    Raises:
        ShapeError: unless it fits inside.

    Source: seed B4, figure 3. The trap: with an odd difference the two centres lie half a
    position apart.

    >>> centre((2, 2), (5, 4))
    Region(start=(1, 1), size=(2, 2))
    """
    inner, outer = tuple(inner), tuple(outer)
    if len(inner) != len(outer) or any(not 0 < a <= b for a, b in zip(inner, outer, strict=True)):
        raise ShapeError(f"a size that fits into {outer} is wanted, not {inner}")
    return Region(tuple((b - a) // 2 for a, b in zip(inner, outer, strict=True)), inner)


def embed(
    prediction: Tensor, size: Sequence[int], fill: Fill | float = "mean"
) -> tuple[Tensor, Tensor]:
    """A prediction in the middle of a larger space, so that it can be laid over a label.

    Args:
        prediction: ``(batch, channels, *space)`` floating.
        size: the label's size, at least ``space`` along every axis; :func:`centre` says where.
        fill: what the margin holds: ``"mean"``, ``"median"`` or ``"minimum"`` of each channel of
            each sample, or a number for all.

    Returns:
        ``(batch, channels, *size)`` in the prediction's number type, and ``known``
        ``(batch, *size)`` bool, True at the prediction.

    Raises:
        ShapeError: where shapes or types do not fit.
        SettingsError: for a fill that does not exist.

    Differentiable with respect to the prediction, the margin too. Source: seed B4 (¶32, ¶39,
    ¶45–47, figure 3). The trap: the margin is made up; a loss or score must count only what is
    known. The median of an even number of values is the lower of the middle two.

    >>> embed(torch.tensor([[[2.0, 4.0]]]), (5,))
    (tensor([[[3., 2., 4., 3., 3.]]]), tensor([[False,  True,  True, False, False]]))
    """
    if not prediction.is_floating_point() or prediction.ndim not in (3, 4, 5):
        raise ShapeError(
            "prediction must be floating (batch, channels, *space) with 1, 2 or 3 space axes, "
            f"not {type_and_shape(prediction)}"
        )
    region = centre(prediction.shape[2:], size)
    margin = _margin(prediction, fill).reshape(*prediction.shape[:2], *[1] * len(region.size))
    known = torch.zeros(len(prediction), *size, dtype=torch.bool, device=prediction.device)
    known[:, *region.slices] = True
    ends = zip(region.start, region.size, size, strict=True)
    pads = [pad for start, own, whole in ends for pad in (whole - start - own, start)]
    padded = torch.nn.functional.pad(prediction, pads[::-1])
    return torch.where(known.unsqueeze(1), padded, margin), known


def crop(label: Tensor, valid: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The middle of a label, at a prediction's own size: undoes :func:`embed`.

    Args:
        label: ``(batch, *space)`` int64 class indices or ``(batch, channels, *space)`` floating.
        valid: ``(batch, *space)`` bool.
        size: at most ``space`` along every axis; :func:`centre` says where.

    Returns:
        The label and valid, ``space`` replaced by ``size``; 0 where not valid.

    Raises:
        ShapeError: where shapes, types or devices do not fit.

    Source: seed B4 (¶47, figure 3). The trap: move a label before it is cropped, for what a
    move brings in stands in the margin.

    >>> label = torch.tensor([[1, 2, 3, 4, 5]])
    >>> crop(label, label != 3, (2,))
    (tensor([[2, 0]]), tensor([[ True, False]]))
    """
    check_label(label, valid)
    region = centre(size, valid.shape[1:])
    whole = [slice(None)] * (label.ndim - len(region.size))
    valid, label = valid[(slice(None), *region.slices)].clone(), label[(*whole, *region.slices)]
    over = valid if label.ndim == valid.ndim else valid.unsqueeze(1)
    return torch.where(over, label, 0), valid


def _margin(prediction: Tensor, fill: Fill | float) -> Tensor:
    """What fills the margin, ``(batch, channels)``."""
    values = prediction.flatten(2)
    if isinstance(fill, int | float):
        return prediction.new_full(prediction.shape[:2], fill)
    if fill == "mean":
        return at_least_single(values).mean(2).to(prediction.dtype)
    if fill == "median":
        return values.median(2).values
    if fill == "minimum":
        return values.amin(2)
    raise unknown("fill", fill, FILLS)
