"""Losses against soft labels: a probability of every class at every position.

========================  ===================================  ============  =================
name                      value of one sample                  least where   least value
========================  ===================================  ============  =================
``cross_entropy``         mean of ``−Σ_c q_c · log p_c``       p = q         entropy of q
``binary_cross_entropy``  every class against the background   σ_c = q_c     entropies of q_c
``dice``                  mean over the foreground classes of  p = q         0
                          ``Σ |p − q| / (Σ p + Σ q)``
``dice_ce``               ``dice`` + ``cross_entropy``         p = q         entropy of q
``l1``                    mean of ``|p − q|``                  p = q         0
``l2``                    mean of ``(p − q)²``                 p = q         0
========================  ===================================  ============  =================

``p`` is the softmax of the logits, ``q`` the target, ``σ_c`` the sigmoid of ``z_c − z_0``. Every
loss takes ``logits`` ``(batch, classes, *space)``, ``target`` of the same shape, floating, and
``valid`` ``(batch, *space)`` bool, and returns ``(batch,)``, or ``(batch, classes)`` with
``by_class=True``. Where the target is one-hot, each is the loss of that name in
:mod:`labelmend.losses.labels`, columns included, and all that is promised there of ignored
positions, number types, derivatives and place in the batch holds here. The target is taken as it
is: no derivative reaches it. It is brought to the number type of the logits.

``focal`` has no soft form here: ``−Σ_c q_c (1 − p_c)² log p_c`` is not least at p = q, but
draws probabilities towards each other.

They raise ShapeError where shapes or types do not fit. Trap: nobody checks that the target is
at least 0 and sums to 1 over the classes at valid positions, which would cost a pass over it and
a wait for the device in every step. Logits given for a target go unnoticed.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from labelmend.errors import SettingsError, ShapeError, unknown
from labelmend.losses.labels import LOSSES
from labelmend.losses.valid_positions import (
    after_background,
    channel_mean,
    check_classes,
    check_inputs,
    softmax,
    space_sum,
    type_and_shape,
    valid_count,
    valid_mean,
    zero_invalid,
)


class SoftLoss(Protocol):
    """A loss against probabilities; it keeps samples apart, and classes if made ``by_class``."""

    def __call__(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """``(batch, classes, *space)`` twice, ``(batch, *space)`` → ``(batch[, classes])``."""
        ...


class _Divisible(Protocol):
    def __call__(
        self, logits: Tensor, target: Tensor, valid: Tensor, *, by_class: bool = False
    ) -> Tensor: ...


def cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor, *, by_class: bool = False
) -> Tensor:
    """Mean of ``−Σ_c q_c · log softmax(z)_c``; column ``c`` is what its own term adds.

    Trap: the least value is the entropy of the target, not 0. So the value of a sample says as
    much of how unsure its target is as of how well it is met.

    >>> z, q = torch.zeros(1, 2, 1), torch.tensor([[[0.25], [0.75]]])
    >>> cross_entropy(z, q, torch.tensor([[True]]), by_class=True)
    tensor([[0.1733, 0.5199]])
    """
    logits, target = _valid_inputs(logits, target, valid)
    costs = -_weighted(target, logits.log_softmax(1))
    if by_class:
        return space_sum(costs) / valid_count(valid, costs).unsqueeze(1)
    return valid_mean(costs.sum(1), valid)


def binary_cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor, *, by_class: bool = False
) -> Tensor:
    """Binary cross-entropy of every foreground class against the rest, mean over these classes.

    As in :func:`labelmend.losses.labels.binary_cross_entropy`, class ``c`` is judged by
    ``sigmoid(z_c − z_0)``. With two classes this is exactly :func:`cross_entropy`.

    Trap: with several classes the sigmoids, not the softmax, are led to the target.

    >>> z, q = torch.tensor([[[0.0], [2.0]]]), torch.tensor([[[0.5], [0.5]]])
    >>> binary_cross_entropy(z, q, torch.tensor([[True]]))
    tensor([1.1269])
    """
    logits, target = _valid_inputs(logits, target, valid)
    margin, chance = logits[:, 1:] - logits[:, :1], target[:, 1:]
    log_sigmoid = torch.nn.functional.logsigmoid
    gain = _weighted(chance, log_sigmoid(margin)) + _weighted(1 - chance, log_sigmoid(-margin))
    value = channel_mean(-gain, valid, by_class)
    return after_background(value) if by_class else value


def dice(logits: Tensor, target: Tensor, valid: Tensor, *, by_class: bool = False) -> Tensor:
    """Dice semimetric loss ``Σ |p − q| / (Σ p + Σ q)``, mean over foreground classes.

    This is 1 − (Σ p + Σ q − Σ |p − q|) / (Σ p + Σ q). For a one-hot target it is the usual
    ``1 − 2 Σ p·q / (Σ p + Σ q)``, which must not be used for a soft one: it is not least at p = q
    but where p is 0 or 1, so it teaches to be surer than the target is. A class whose target is 0
    everywhere counts with ``Σ p / number of valid positions``, as it does for a label.

    Source: Wang et al. 2023, Dice Semimetric Losses, MICCAI. Trap: a softmax given for a target is
    nowhere exactly 0, so a class that is as good as absent counts as there. It then costs close
    to 1 unless the prediction is as faint, with next to no slope towards less. Set what is too
    small to 0 first.

    >>> z, q = torch.zeros(1, 2, 1), torch.tensor([[[0.25], [0.75]]])
    >>> dice(z, q, torch.tensor([[True]]))
    tensor([0.2000])
    """
    logits, target = _valid_inputs(logits, target, valid)
    predicted = torch.where(valid.unsqueeze(1), softmax(logits), 0)[:, 1:]
    claimed = target[:, 1:]
    apart, area = space_sum((predicted - claimed).abs()), space_sum(claimed)
    # Without a claim the difference is what is given, so only what it is measured by changes.
    size = torch.where(
        area > 0, space_sum(predicted) + area, valid_count(valid, logits).unsqueeze(1)
    )
    terms = apart / size
    return after_background(terms / terms.shape[1]) if by_class else terms.mean(1)


def dice_ce(logits: Tensor, target: Tensor, valid: Tensor, *, by_class: bool = False) -> Tensor:
    """The sum of :func:`dice` and :func:`cross_entropy`; the traps of both.

    >>> z, q = torch.zeros(1, 2, 1), torch.tensor([[[0.25], [0.75]]])
    >>> dice_ce(z, q, torch.tensor([[True]]))
    tensor([0.8931])
    """
    overlap = dice(logits, target, valid, by_class=by_class)
    return overlap + cross_entropy(logits, target, valid, by_class=by_class)


def l1(logits: Tensor, target: Tensor, valid: Tensor, *, by_class: bool = False) -> Tensor:
    """Mean absolute difference of softmax and target over valid positions and classes.

    Trap: the slope stays as steep next to the target as far from it, so fixed steps end in a
    zigzag about it.

    >>> l1(torch.zeros(1, 2, 1), torch.tensor([[[0.25], [0.75]]]), torch.tensor([[True]]))
    tensor([0.2500])
    """
    return channel_mean(_difference(logits, target, valid).abs(), valid, by_class)


def l2(logits: Tensor, target: Tensor, valid: Tensor, *, by_class: bool = False) -> Tensor:
    """Mean squared difference of softmax and target over valid positions and classes.

    Trap: where the prediction is sure and wrong the softmax is flat, so little is learnt there.

    >>> l2(torch.zeros(1, 2, 1), torch.tensor([[[0.25], [0.75]]]), torch.tensor([[True]]))
    tensor([0.0625])
    """
    return channel_mean(_difference(logits, target, valid).square(), valid, by_class)


_BY_NAME: dict[str, _Divisible] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "dice": dice,
    "dice_ce": dice_ce,
    "l1": l1,
    "l2": l2,
}

SOFT_LOSSES: tuple[str, ...] = tuple(_BY_NAME)
"""The names that :func:`make_soft_loss` knows."""


def make_soft_loss(name: str, *, by_class: bool = False) -> SoftLoss:
    """The loss of that name against probabilities; with ``by_class`` it is ``(batch, classes)``.

    Trap: see the head of this file, nobody checks that the probabilities sum to 1.

    Raises:
        SettingsError: for an unknown name, with the nearest known one, or a loss that has no
            form for probabilities, with those that have.

    >>> make_soft_loss("dice") is dice
    True
    >>> make_soft_loss("focal")
    Traceback (most recent call last):
    labelmend.errors.SettingsError: loss 'focal' has no form for probabilities; use one of ...
    """
    if name in LOSSES and name not in _BY_NAME:
        raise SettingsError(
            f"loss {name!r} has no form for probabilities; use one of {', '.join(SOFT_LOSSES)}"
        )
    if name not in _BY_NAME:
        raise unknown("loss", name, SOFT_LOSSES)
    return partial(_BY_NAME[name], by_class=True) if by_class else _BY_NAME[name]


def _valid_inputs(logits: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and target of one number type, with zeros wherever ``valid`` is False."""
    check_inputs(logits, target, valid)
    check_classes(logits)
    if not target.is_floating_point() or target.shape != logits.shape:
        raise ShapeError(
            f"target must hold probabilities, floating {tuple(logits.shape)} as the logits, "
            f"not {type_and_shape(target)}; class indices take make_loss"
        )
    logits = zero_invalid(logits, valid)
    return logits, zero_invalid(target.detach(), valid).to(logits.dtype)


def _weighted(probability: Tensor, logarithm: Tensor) -> Tensor:
    # 0 · log 0 is 0, but 0 · −∞ is NaN; what is NaN already is left to be seen.
    return torch.where(probability == 0, 0, probability * logarithm)


def _difference(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    logits, target = _valid_inputs(logits, target, valid)
    return softmax(logits) - target
