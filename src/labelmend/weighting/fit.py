"""How badly a label fits what the network predicts, on a scale that means the same everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from labelmend.losses.valid_positions import at_least_single

SMALLEST = 1e-3
"""The share of the image that the smallest object worth speaking of fills."""

OVERLOOKED = 5e-3
"""The share that what is predicted must fill to be half as bad, where nothing is labelled, as can
be. Larger, for a label without objects has no area that a few wrong positions are small beside."""


def disagreement(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """From 0 (prediction and label are one) to 1 (nothing in common), ``(batch,)``.

    For class indices one minus the soft Dice overlap of everything that is not background,
    ``1 − (2 Σ p·y + s) / (Σ p² + Σ y + s)`` over valid positions, s a thousandth of them. Unlike
    a mean over positions it is as hard on a wrong small object as on a wrong large one. Beside an
    empty label only positions count where the background is not the most likely, s is half a
    hundredth, and a prediction of much more than that is as wrong as can be; where neither has
    anything they agree. For continuous channels ``Σ |z − y| / Σ (|z − m| + |y − m|)``, m the
    label's mean in each channel.

    Measured on planted bad labels, it ranks them better than the training loss, whose value
    grows with the object: see ``benchmarks/bench_label_ranking.py``.

    Args:
        logits: ``(batch, classes, *space)``.
        label: ``(batch, *space)`` class indices, or ``(batch, channels, *space)`` float.
        valid: ``(batch, *space)`` bool.

    The trap: it compares with the network, so what the network has learned by heart fits. And a
    constant continuous label is 1 off whatever is predicted: see :func:`says_something`.

    >>> z, valid = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]]), torch.ones(1, 2, dtype=torch.bool)
    >>> disagreement(z, torch.tensor([[0, 1]]), valid).round(decimals=3)
    tensor([0.])
    """
    return _rate(*_counts(logits, label, valid))


def disagreement_by_class(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    """The same for every class, or channel, by itself: ``(batch, classes)``.

    Here the background is a class like the others.

    >>> z = torch.tensor([[[9.0, 9.0], [-9.0, -9.0]]])
    >>> label = torch.tensor([[0, 1]])
    >>> disagreement_by_class(z, label, torch.ones(1, 2, dtype=torch.bool)).round(decimals=2)
    tensor([[0.3300, 1.0000]])
    """
    return _rate(*_counts(logits, label, valid, by_class=True))


def says_something(label: Tensor, valid: Tensor) -> Tensor:
    """Whether there is anything to judge a label by, ``(batch,)`` bool.

    There is not where no position is valid, nor where continuous values are all alike: on which
    scale would a prediction be near them?

    >>> label = torch.tensor([[[1.0, 1.0]], [[1.0, 2.0]]])
    >>> says_something(label, torch.ones(2, 2, dtype=torch.bool))
    tensor([False,  True])
    >>> says_something(torch.tensor([[0, 1], [0, 1]]), torch.tensor([[False, True], [False] * 2]))
    tensor([ True, False])
    """
    some = valid.flatten(1).any(1)
    if not label.is_floating_point():
        return some
    known = valid.unsqueeze(1)
    least = torch.where(known, label, torch.inf).flatten(2).amin(2)
    most = torch.where(known, label, -torch.inf).flatten(2).amax(2)
    return some & (most > least).any(1)


def _rate(different: Tensor, whole: Tensor) -> Tensor:
    """Never above 1, which rounding alone could exceed; nothing at all differs in nothing."""
    return (different / torch.where(whole > 0, whole, 1)).clamp(max=1)


def _counts(
    logits: Tensor, label: Tensor, valid: Tensor, *, by_class: bool = False
) -> tuple[Tensor, Tensor]:
    """What differs and what there is, ``(batch,)`` or ``(batch, classes)``."""
    known = valid.unsqueeze(1)
    # Sums over an image overflow in half precision; NaN that is masked only at the end stays in
    # the derivative.
    logits = torch.where(known, at_least_single(logits), 0)
    if label.is_floating_point():
        return _continuous(logits, torch.where(known, label, 0).to(logits), known, by_class)
    predicted = torch.where(known, logits.softmax(1), 0)
    classes = torch.arange(logits.shape[1], device=label.device)
    each = classes.reshape(-1, *(1,) * (label.ndim - 1))
    claimed = known & (label.unsqueeze(1) == each)
    apart = _sum((predicted - claimed.to(predicted)).square())
    whole = _sum(predicted.square()) + _sum(claimed)
    # Beside nothing, doubt that is spread over the whole image would add up to an object.
    most = torch.where(predicted.argmax(1, keepdim=True) == each, predicted, 0)
    found, area, places = _sum(most.square()), _sum(claimed), _sum(known).to(logits)
    if not by_class:
        apart, whole, found, area = (v[:, 1:].sum(1) for v in (apart, whole, found, area))
        places = places.squeeze(1)
    bare = area == 0
    apart, whole = torch.where(bare, found, apart), torch.where(bare, found, whole)
    return apart, whole + torch.where(bare, OVERLOOKED * places, SMALLEST * places)


def _continuous(
    logits: Tensor, label: Tensor, known: Tensor, by_class: bool
) -> tuple[Tensor, Tensor]:
    count = _sum(known).clamp(min=1)
    middle = (_sum(label) / count).reshape(*label.shape[:2], *(1,) * (label.ndim - 2))
    apart = _sum((logits - label).abs())
    whole = _sum(torch.where(known, (logits - middle).abs() + (label - middle).abs(), 0))
    return (apart, whole) if by_class else (apart.sum(1), whole.sum(1))


def _sum(values: Tensor) -> Tensor:
    """Over all space axes."""
    return values.flatten(2).sum(2)
