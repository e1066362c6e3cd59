"""Losses of continuous values that do not depend on the units of labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from labelmend.losses.valid_positions import check_inputs
from labelmend.types import Loss


def in_deviations(loss: Loss, deviation: Sequence[float]) -> Loss:
    """The same loss of prediction and label, both divided by each channel's deviation.

    Then the size of gradients, and how channels count beside each other, do not depend on units.

    Args:
        loss: of differences, as ``l1`` and ``l2``; others change with what is subtracted.
        deviation: of each channel; 0 counts as 1.

    >>> from labelmend.losses import l1
    >>> z, label = torch.tensor([[[100.0, 120.0]]]), torch.tensor([[[110.0, 120.0]]])
    >>> in_deviations(l1, [20.0])(z, label, torch.ones(1, 2, dtype=torch.bool))
    tensor([0.2500])
    """
    width = torch.tensor([each or 1.0 for each in deviation], dtype=torch.float64)

    def of(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
        check_inputs(logits, label, valid)
        over = width.to(logits.device, label.dtype).view(-1, *[1] * (logits.ndim - 2))
        return loss(logits / over, label / over, valid)

    return of
