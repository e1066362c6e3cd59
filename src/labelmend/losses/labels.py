"""Losses against labels as given: one value per sample, never a mean over samples.

=========================  =============  ====================================================
name                       label          value of one sample
=========================  =============  ====================================================
``cross_entropy``          class indices  mean negative log-probability of the labelled class
``binary_cross_entropy``   class indices  every class against the background, sigmoid
``dice``                   class indices  1 − soft overlap, mean over the foreground classes
``dice_ce``                class indices  ``dice`` + ``cross_entropy``
``focal``                  class indices  cross-entropy weighted by (1 − probability)²
``l1``                     either         mean absolute difference
``l2``                     either         mean squared difference
=========================  =============  ====================================================

Every loss takes ``logits`` ``(batch, classes, *space)``, ``label`` and ``valid`` and returns
``(batch,)``. ``label`` is ``(batch, *space)`` int64 class indices, class 0 being the background,
or for regression ``(batch, channels, *space)`` float. ``valid`` is ``(batch, *space)`` bool.
Each value is a mean over the valid positions of its own sample, so it depends neither on the
size of the image nor on how much of it is ignored. What stands at ignored positions, be it NaN,
infinity or a class that does not exist, reaches neither value nor derivative; a sample without
any valid position is exactly 0 with a gradient of 0. Half-precision logits are raised to
float32 first; float64 stays. NaN at a valid position stays visible as NaN.

With ``by_class=True`` a loss returns ``(batch, classes)`` instead, so that a weight can rest on
one class of one sample. The sum over classes is the loss, and all of the above holds for every
column:

==================================  =====================================================
name                                column of class ``c``
==================================  =====================================================
``cross_entropy``, ``focal``        what the positions labelled ``c`` add
``binary_cross_entropy``, ``dice``  what its own term adds; the background has none, so 0
``dice_ce``                         the sum of both
``l1``, ``l2``                      what its channel adds
==================================  =====================================================

All of them can be differentiated in reverse and forward mode and mapped with ``torch.func``.
They raise ShapeError where shapes or types do not fit, or a class index at a valid position has
no logits (on a GPU torch refuses that by itself, later and in its own words). Source: seed A
¶43, seed B ¶19, ¶35.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from labelmend.errors import SettingsError, ShapeError, unknown
from labelmend.losses.valid_positions import (
    after_background,
    channel_mean,
    check_classes,
    check_device,
    check_inputs,
    softmax,
    space_sum,
    type_and_shape,
    valid_count,
    valid_mean,
    zero_invalid,
)

if TYPE_CHECKING:
    from labelmend.types import Loss, Task


class LossByClass(Protocol):
    """A loss that keeps classes apart as well; its sum over classes is the plain loss."""

    def __call__(self, logits: Tensor, label: Tensor, valid: Tensor, /) -> Tensor:
        """As :class:`labelmend.types.Loss`, but → ``(batch, classes)``; channels in regression."""
        ...


class _Divisible(Protocol):
    def __call__(
        self, logits: Tensor, label: Tensor, valid: Tensor, *, by_class: bool = False
    ) -> Tensor: ...


def cross_entropy(
    logits: Tensor, label: Tensor, valid: Tensor, *, by_class: bool = False
) -> Tensor:
    """Mean negative log-probability of the labelled class: ``−log softmax(z)_y``.

    Trap: a class that fills 1 % of the positions makes 1 % of this mean. By class, a label that
    is too large shows in its own column, one that is too small in the background's.

    >>> z = torch.zeros(1, 2, 4)
    >>> cross_entropy(z, torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool))
    tensor([0.6931])
    """
    logits, label = _known_classes(logits, label, valid)
    costs = -_log_probability(logits, label)
    return (
        _mean_by_label(costs, label, valid, logits.shape[1])
        if by_class
        else valid_mean(costs, valid)
    )


def binary_cross_entropy(
    logits: Tensor, label: Tensor, valid: Tensor, *, by_class: bool = False
) -> Tensor:
    """Binary cross-entropy of every foreground class against the rest, mean over these classes.

    Channel 0 is the bar that a class must pass: class ``c`` is judged by ``sigmoid(z_c − z_0)``,
    so channel 0 takes part in every term and the class with the largest logit is still the
    prediction. With two classes this is exactly :func:`cross_entropy`.

    Trap: with several classes the softmax of these logits is not a calibrated probability.

    >>> z = torch.tensor([[[0.0], [2.0]]])
    >>> binary_cross_entropy(z, torch.tensor([[1]]), torch.tensor([[True]]))
    tensor([0.1269])
    """
    logits, label = _known_classes(logits, label, valid)
    margin = logits[:, 1:] - logits[:, :1]
    sign = 2 * _one_hot(label, logits)[:, 1:] - 1
    value = channel_mean(-torch.nn.functional.logsigmoid(sign * margin), valid, by_class)
    return after_background(value) if by_class else value


def dice(logits: Tensor, label: Tensor, valid: Tensor, *, by_class: bool = False) -> Tensor:
    """Soft Dice loss ``1 − 2 Σ p·y / (Σ p + Σ y)`` of the softmax, mean over foreground classes.

    The sums run over the valid positions of one sample. A class that the label does not have has
    no overlap to measure; it counts with the share of the sample that is wrongly given to it,
    ``Σ p / number of valid positions``. So nothing needs a smoothing constant, an empty label
    still teaches, and a perfect prediction is 0 in both cases.

    Trap: one position of a tiny object weighs as much as thousands of a large one.

    >>> z = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])
    >>> bool(dice(z, torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)) < 1e-6)
    True
    """
    logits, label = _known_classes(logits, label, valid)
    known = valid.unsqueeze(1)
    predicted = torch.where(known, softmax(logits), 0)[:, 1:]
    claimed = torch.where(known, _one_hot(label, logits), 0)[:, 1:]
    shared, given, area = space_sum(predicted * claimed), space_sum(predicted), space_sum(claimed)
    claims = area > 0
    # The unused branch of a `where` still reaches the derivative, so it must not divide by 0.
    overlap = 2 * shared / torch.where(claims, given + area, 1)
    wrongly_given = given / valid_count(valid, logits).unsqueeze(1)
    terms = torch.where(claims, 1 - overlap, wrongly_given)
    return after_background(terms / terms.shape[1]) if by_class else terms.mean(1)


def dice_ce(logits: Tensor, label: Tensor, valid: Tensor, *, by_class: bool = False) -> Tensor:
    """The sum of :func:`dice` and :func:`cross_entropy`: overlap, and a slope everywhere.

    >>> z = torch.zeros(1, 2, 4)
    >>> dice_ce(z, torch.tensor([[0, 0, 1, 1]]), torch.ones(1, 4, dtype=torch.bool))
    tensor([1.1931])
    """
    overlap = dice(logits, label, valid, by_class=by_class)
    return overlap + cross_entropy(logits, label, valid, by_class=by_class)


def focal(
    logits: Tensor,
    label: Tensor,
    valid: Tensor,
    focus: float = 2.0,
    *,
    by_class: bool = False,
) -> Tensor:
    """Cross-entropy that looks away from what is already right: ``−(1 − p_y)^focus · log p_y``.

    Source: Lin et al. 2017, over the softmax. Trap: wrong labels are what is never right, so
    this loss looks at them hardest.

    >>> z = torch.zeros(1, 2, 4)
    >>> focal(z, torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4, dtype=torch.bool))
    tensor([0.1733])
    """
    logits, label = _known_classes(logits, label, valid)
    log_probability = _log_probability(logits, label)
    # 1 − p without losing digits near p = 1
    missing = -torch.expm1(log_probability)
    costs = -(missing**focus) * log_probability
    return (
        _mean_by_label(costs, label, valid, logits.shape[1])
        if by_class
        else valid_mean(costs, valid)
    )


def l1(logits: Tensor, label: Tensor, valid: Tensor, *, by_class: bool = False) -> Tensor:
    """Mean absolute difference over valid positions and channels.

    With class indices for a label, the softmax is compared with the one-hot label.

    >>> l1(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 3.0]]]), torch.tensor([[True, False]]))
    tensor([1.])
    """
    return channel_mean(_difference(logits, label, valid).abs(), valid, by_class)


def l2(logits: Tensor, label: Tensor, valid: Tensor, *, by_class: bool = False) -> Tensor:
    """Mean squared difference over valid positions and channels; see :func:`l1`.

    >>> l2(torch.zeros(1, 1, 2), torch.tensor([[[3.0, 1.0]]]), torch.tensor([[True, False]]))
    tensor([9.])
    """
    return channel_mean(_difference(logits, label, valid).square(), valid, by_class)


_BY_NAME: dict[str, _Divisible] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "dice": dice,
    "dice_ce": dice_ce,
    "focal": focal,
    "l1": l1,
    "l2": l2,
}

LOSSES: tuple[str, ...] = tuple(_BY_NAME)
"""The names that :func:`make_loss` knows."""

REGRESSION_LOSSES: tuple[str, ...] = ("l1", "l2")
"""Those of them that compare continuous values."""

_TASKS = ("segmentation", "regression")


def make_loss(
    name: str, task: Task = "segmentation", *, by_class: bool = False
) -> Loss | LossByClass:
    """The loss of that name; with ``by_class``, its :class:`LossByClass`.

    Raises:
        SettingsError: for an unknown name or task, with the nearest known one, or a loss that
            cannot judge this task.

    >>> make_loss("dice") is dice
    True
    >>> label, valid = torch.tensor([[0, 0, 0, 1]]), torch.ones(1, 4, dtype=torch.bool)
    >>> make_loss("cross_entropy", by_class=True)(torch.zeros(1, 3, 4), label, valid)
    tensor([[0.8240, 0.2747, 0.0000]])
    >>> make_loss("dise")
    Traceback (most recent call last):
    labelmend.errors.SettingsError: unknown loss 'dise'; did you mean 'dice'?
    """
    if not isinstance(name, str):
        raise SettingsError(
            f"a loss is made by its name, one of {', '.join(LOSSES)}, not of a "
            f"{type(name).__name__}"
        )
    if name not in _BY_NAME:
        raise unknown("loss", name, LOSSES)
    if task not in _TASKS:
        raise unknown("task", task, _TASKS)
    if task == "regression" and name not in REGRESSION_LOSSES:
        raise SettingsError(
            f"loss {name!r} needs class labels, but these are continuous values; "
            f"use one of {', '.join(REGRESSION_LOSSES)}"
        )
    return partial(_BY_NAME[name], by_class=True) if by_class else _BY_NAME[name]


def present(label: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Which classes the valid part of every label has, ``(batch, classes)`` bool.

    A label of continuous values has every channel wherever anything of it is valid.

    Trap: a class that is not there can still cost something by class: ``dice``,
    ``binary_cross_entropy``, ``l1`` and ``l2`` charge what is wrongly given to it.

    Args:
        label: ``(batch, *space)`` int64, or ``(batch, channels, *space)`` float.
        valid: ``(batch, *space)`` bool.
        classes: how many classes or channels there are, background included.

    Raises:
        ShapeError: where shapes, types or devices do not fit, or there is no such class.

    >>> present(torch.tensor([[0, 2, 1]]), torch.tensor([[True, True, False]]), classes=3)
    tensor([[ True, False,  True]])
    """
    if valid.dtype != torch.bool or valid.ndim < 2:
        raise ShapeError(f"valid must be bool (batch, *space), not {type_and_shape(valid)}")
    check_device(label, valid)
    if label.is_floating_point():
        wanted = (valid.shape[0], classes, *valid.shape[1:])
        if tuple(label.shape) != wanted:
            raise ShapeError(f"a continuous label must be {wanted}, not {tuple(label.shape)}")
        return valid.flatten(1).any(1, keepdim=True).expand(-1, classes)
    index = _class_indices(label, valid).flatten(1)
    area = torch.zeros(len(valid), classes, dtype=torch.int64, device=label.device)
    try:
        return area.scatter_add(1, index, valid.flatten(1).long()) > 0
    except (RuntimeError, IndexError) as error:
        _refuse_class(error, classes)
        raise


def _known_classes(logits: Tensor, label: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and class indices with zeros wherever ``valid`` is False."""
    check_inputs(logits, label, valid)
    index = _class_indices(label, valid)
    check_classes(logits)
    return zero_invalid(logits, valid), index


def _class_indices(label: Tensor, valid: Tensor) -> Tensor:
    if label.dtype != torch.int64 or label.shape != valid.shape:
        raise ShapeError(
            f"class indices must be int64 {tuple(valid.shape)}, "
            f"not {type_and_shape(label)}; {_way_to_indices(label, valid)}"
        )
    return torch.where(valid, label, 0)


def _way_to_indices(label: Tensor, valid: Tensor) -> str:
    if label.ndim == valid.ndim + 1 and label.shape[:1] + label.shape[2:] == valid.shape:
        if label.shape[1] == 1:
            return "label[:, 0].long() makes them; continuous labels take l1 or l2"
        return "of one-hot labels label.argmax(1) makes them; continuous labels take l1 or l2"
    if label.shape == valid.shape and not label.is_floating_point():
        return "label.long() makes them"
    return "continuous labels take l1 or l2"


def _refuse_class(error: Exception, classes: int) -> None:
    """Say of which class torch found no logits, where that is what it complains of."""
    found = re.search(r"index (-?\d+) is out of bounds", str(error))
    if found is not None:
        raise ShapeError(
            f"label holds class {found[1]} where it is valid, but there are classes 0 to "
            f"{classes - 1}; if that stands for nobody said, give valid & (label != {found[1]})"
        ) from error


def _difference(logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
    if not label.is_floating_point():
        logits, label = _known_classes(logits, label, valid)
        return softmax(logits) - _one_hot(label, logits)
    check_inputs(logits, label, valid)
    if label.shape != logits.shape:
        raise ShapeError(
            f"a continuous label must have the shape of the prediction, {tuple(logits.shape)}, "
            f"not {tuple(label.shape)}"
            + ("; label.unsqueeze(1) has" * (label.unsqueeze(1).shape == logits.shape))
        )
    return zero_invalid(logits, valid) - zero_invalid(label, valid)


def _log_probability(logits: Tensor, label: Tensor) -> Tensor:
    try:
        return logits.log_softmax(1).gather(1, label.unsqueeze(1)).squeeze(1)
    except (RuntimeError, IndexError) as error:
        _refuse_class(error, logits.shape[1])
        raise


def _one_hot(label: Tensor, logits: Tensor) -> Tensor:
    # Scattering, unlike comparing, refuses a class that does not exist.
    try:
        return torch.zeros_like(logits).scatter(1, label.unsqueeze(1), 1.0)
    except (RuntimeError, IndexError) as error:
        _refuse_class(error, logits.shape[1])
        raise


def _mean_by_label(values: Tensor, label: Tensor, valid: Tensor, classes: int) -> Tensor:
    """What the positions of every label add to :func:`valid_mean`, ``(batch, classes)``."""
    # Added one by one, in float64: float32 would lose digits in a large image, and a mask per
    # class took 4 to 16 times as long (3 and 20 classes) and the memory of a one-hot label.
    values = torch.where(valid, values, 0)
    sums = values.new_zeros(len(values), classes, dtype=torch.float64)
    sums = sums.scatter_add(1, label.flatten(1), values.flatten(1).double())
    return sums.to(values.dtype) / valid_count(valid, values).unsqueeze(1)
