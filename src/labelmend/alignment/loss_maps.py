"""The losses at every displacement at once, as scores: minus the loss, so that larger is better.

A loss that adds up a cost per position is a sum of correlations. With ``g_c(p)`` the gain (minus
the cost) of calling position ``p`` class ``c``, all displacements follow from

    Σ_p g_0(p) · valid(p − d)  +  Σ_{c ≥ 1} Σ_p (g_c − g_0)(p) · [label(p − d) = c]

over the number of shared positions. The background needs no transform of its own, and a class
that no label has needs none at all. Dice is a ratio of such sums.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from labelmend.alignment.comparison import Comparison, mean_inside
from labelmend.alignment.correlation import each, total


def cross_entropy(of: Comparison) -> Tensor:
    """Minus :func:`labelmend.losses.cross_entropy` at every displacement, ``(batch, *shifts)``.

    Trap: as far as the overlap allows, it pushes an object out of view that was not predicted.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((3,), (1,), direct=True)
    >>> z = torch.tensor([[[0.0, 9, 9], [9.0, 0, 0]]])
    >>> cross_entropy(Comparison(z, torch.tensor([[0, 1, 0]]), None, None, frame)).argmax(1)
    tensor([0])
    """
    return _from_gains(of, of.log_probability)


def focal(of: Comparison) -> Tensor:
    """Minus :func:`labelmend.losses.focal` (focus 2) at every displacement.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((1,), (0,), direct=True)
    >>> focal(Comparison(torch.zeros(1, 2, 1), torch.tensor([[1]]), None, None, frame))
    tensor([[-0.1733]])
    """
    return _from_gains(of, of.log_probability.expm1().square() * of.log_probability)


def binary_cross_entropy(of: Comparison) -> Tensor:
    """Minus :func:`labelmend.losses.binary_cross_entropy` at every displacement.

    >>> from labelmend.alignment.correlation import Frame
    >>> z, frame = torch.zeros(1, 3, 1), Frame((1,), (0,), direct=True)
    >>> binary_cross_entropy(Comparison(z, torch.tensor([[1]]), None, None, frame))
    tensor([[-0.6931]])
    """
    margin = of.prediction[:, 1:] - of.prediction[:, :1]
    none = logsigmoid(-margin).mean(1, keepdim=True)
    # log σ(m) − log σ(−m) = m
    return _from_gains(of, torch.cat([none, none + margin / (of.classes - 1)], 1))


def dice(of: Comparison) -> Tensor:
    """Minus :func:`labelmend.losses.dice` at every displacement.

    Trap: it jumps where the last position of a class leaves the overlap, as the loss does.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((2,), (1,), direct=True)
    >>> dice(Comparison(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]), None, None, frame))
    tensor([[-0.3333, -0.5000, -0.5000]])
    """
    predicted = of.of_prediction(of.likelihood)
    shared = each(predicted, of.claimed)
    given = each(predicted, of.valid).clamp(min=0)
    area = of.count(of.known, of.claimed)
    size = torch.where(area > 0, given + area, 1)
    places = of.overlap.clamp(min=1).unsqueeze(1)
    terms = torch.where(area > 0, 1 - 2 * shared / size, given / places).sum(1)
    absent = [c for c in range(1, of.classes) if c not in of.present]
    if absent:  # they cost what is wrongly given to them, and that can be added up beforehand
        wrong = of.of_prediction(of.probability[:, absent].sum(1, keepdim=True))
        terms = terms + (each(wrong, of.valid).clamp(min=0) / places)[:, 0]
    return -terms / (of.classes - 1)


def dice_ce(of: Comparison) -> Tensor:
    """Minus :func:`labelmend.losses.dice_ce` at every displacement.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((1,), (0,), direct=True)
    >>> dice_ce(Comparison(torch.zeros(1, 2, 1), torch.tensor([[1]]), None, None, frame))
    tensor([[-1.0265]])
    """
    return dice(of) + cross_entropy(of)


def l1(of: Comparison) -> Tensor:
    """Minus :func:`labelmend.losses.l1` at every displacement.

    Trap: for continuous labels it is no correlation but a loop over displacements, some hundred
    times slower than :func:`l2` in a wide window.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((2,), (1,), direct=True)
    >>> values = torch.tensor([[[1.0, 2.0]]])
    >>> l1(Comparison(values, values, None, None, frame))
    tensor([[-1., -0., -1.]])
    """
    if of.continuous:
        return _absolute(of)
    return _from_gains(of, -2 / of.classes * (1 - of.probability))


def l2(of: Comparison) -> Tensor:
    """Minus :func:`labelmend.losses.l2` at every displacement.

    >>> from labelmend.alignment.correlation import Frame
    >>> frame = Frame((2,), (1,), direct=True)
    >>> values = torch.tensor([[[1.0, 3.0]]])
    >>> l2(Comparison(values, values, None, None, frame))
    tensor([[-4., -0., -4.]])
    """
    if of.continuous:
        return _squared(of)
    chance = of.probability
    square = chance.square().sum(1, keepdim=True)
    return _from_gains(of, -(square - 2 * chance + 1) / of.classes)


def _from_gains(of: Comparison, gains: Tensor) -> Tensor:
    """The mean gain of what the moved label says; ``gains`` is ``(batch, classes, *space)``."""
    background = gains[:, :1]
    instead = of.foreground(gains) - background
    pairs = [(of.of_prediction(background), of.valid), (of.of_prediction(instead), of.claimed)]
    return total(pairs) / of.overlap.clamp(min=1)


def _squared(of: Comparison) -> Tensor:
    # The same number taken from both changes no difference, but large squares lose digits.
    middle = mean_inside(of.label, of.valid_at)
    values, label = of.prediction - middle, of.label - middle
    squares = (v.square().sum(1, keepdim=True) for v in (values, label))
    of_values, of_label = of.of_prediction(next(squares)), of.of_label(next(squares))
    mixed = (of.of_prediction(-2 * values), of.of_label(label))
    sums = total([(of_values, of.valid), mixed, (of.known, of_label)])
    return -sums.clamp(min=0) / (of.classes * of.overlap.clamp(min=1))


def _absolute(of: Comparison) -> Tensor:
    sums = []
    for here, there in of.frame.overlaps():
        apart = (of.prediction[here] - of.label[there]).abs().sum(1, keepdim=True)
        for mask, at in ((of.known_at, here), (of.valid_at, there)):
            apart = apart if mask is None else torch.where(mask[at], apart, 0)
        sums.append(apart.flatten(1).sum(1))
    maps = of.frame.fill(of.frame.stack(sums))
    return -maps / (of.classes * of.overlap.clamp(min=1))
