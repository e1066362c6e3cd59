"""The most that a score without a limit of its own could be, so that it says what it misses."""

from __future__ import annotations

import torch
from torch import Tensor

from labelmend.losses.valid_positions import at_least_single, softmax


def score_limit(
    prediction: Tensor, label: Tensor, valid: Tensor, score: str, known: Tensor | None = None
) -> Tensor | None:
    """The largest value that a score could have for a sample, ``(batch,)``; None if it needs none.

    Args:
        prediction: ``(batch, classes, *space)`` logits, or ``(batch, channels, *space)`` values.
        label: ``(batch, *space)`` int64, or ``(batch, channels, *space)`` float.
        valid: ``(batch, *space)`` bool.
        score: the name. Raw correlation is at most the product of both lengths (Cauchy-Schwarz),
            mutual information with classes at most what the label holds.
        known: ``(batch, *space)`` bool, where the prediction may be used.

    Trap: that of a label that holds nothing is 0.

    >>> z = torch.zeros(1, 2, 4)
    >>> half, valid = torch.tensor([[0, 0, 1, 1]]), torch.ones(1, 4, dtype=torch.bool)
    >>> score_limit(z, half, valid, "mutual_information")
    tensor([0.6931])
    """
    continuous = label.is_floating_point()
    if score == "mutual_information" and not continuous:
        return _entropy(label, valid, prediction.shape[1])
    if score != "correlation":
        return None
    values = at_least_single(prediction) if continuous else softmax(at_least_single(prediction))
    claimed = label.to(values.dtype) if continuous else _one_hot(label, valid, values)
    if not continuous:
        values, claimed = values[:, 1:], claimed[:, 1:]
        # classes that the label does not have cannot agree with it
        values = values * claimed.flatten(2).any(2).view(
            *claimed.shape[:2], *[1] * (label.ndim - 1)
        )
    if known is not None:
        values = torch.where(known.unsqueeze(1), values, 0)
    claimed = torch.where(valid.unsqueeze(1), claimed, 0)
    lengths = [v.square().flatten(1).sum(1) for v in (values, claimed)]
    product: Tensor = lengths[0] * lengths[1]
    return product.sqrt()


def _one_hot(label: Tensor, valid: Tensor, like: Tensor) -> Tensor:
    classes = torch.arange(like.shape[1], device=label.device)
    over = classes.view(1, -1, *[1] * (label.ndim - 1))
    return ((label.unsqueeze(1) == over) & valid.unsqueeze(1)).to(like.dtype)


def _entropy(label: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Of the classes of a label over its valid positions, in nats, ``(batch,)``."""
    count = torch.zeros(len(label), classes, device=label.device)
    places = torch.where(valid, label, 0).flatten(1)
    count.scatter_add_(1, places, valid.flatten(1).float())
    share = count / count.sum(1, keepdim=True).clamp(min=1)
    held: Tensor = torch.special.xlogy(share, share).sum(1)
    return 0 - held
