"""What every score is given: a prediction and a label as fields that are zero where unknown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from labelmend.alignment.correlation import Field, Frame, each
from labelmend.errors import ShapeError
from labelmend.losses.valid_positions import (
    check_classes,
    check_inputs,
    logistic,
    type_and_shape,
)

FLAT = 16
"""Values that differ from their mean by this many units in the last place are constant."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A prediction and a label of one size, and what of them can be compared.

    Attributes:
        prediction: ``(batch, channels, *space)`` float32 or float64, 0 where unknown: logits for
            class labels, values for continuous ones.
        label: ``(batch, *space)`` int64, or ``(batch, channels, *space)`` float; 0 where invalid.
        known_at: ``(batch, 1, *space)`` bool, where the prediction is known; None: everywhere.
        valid_at: likewise for the label.
        frame: the displacements.
        bins: into how many values a score may divide a continuous range.

    Trap: fields are kept once they have been asked for; a comparison is for one search.

    >>> Comparison(
    ...     torch.zeros(1, 2, 3), torch.tensor([[0, 1, 1]]), None, None, Frame((3,), (1,), True)
    ... ).overlap
    tensor([[2., 3., 2.]])
    """

    prediction: Tensor
    label: Tensor
    known_at: Tensor | None
    valid_at: Tensor | None
    frame: Frame
    bins: int = 8

    @property
    def classes(self) -> int:
        """How many classes or channels there are."""
        return int(self.prediction.shape[1])

    @property
    def continuous(self) -> bool:
        """Whether the label holds values, not classes."""
        return self.label.is_floating_point()

    @cached_property
    def known(self) -> Field:
        """1 where the prediction is known."""
        return self._mask(self.known_at)

    @cached_property
    def valid(self) -> Field:
        """1 where the label is valid."""
        return self._mask(self.valid_at)

    @cached_property
    def overlap(self) -> Tensor:
        """How many positions are shared, ``(batch, *shifts)``, whole numbers in floating point."""
        shared = self.count(self.known, self.valid)[:, 0].to(self.prediction)
        return shared.expand(len(self.prediction), *shared.shape[1:])

    @cached_property
    def log_probability(self) -> Tensor:
        """Of all classes at all positions, ``(batch, classes, *space)``."""
        return self.prediction.log_softmax(1)

    @cached_property
    def probability(self) -> Tensor:
        """Of all classes at all positions, ``(batch, classes, *space)``."""
        return self.log_probability.exp()

    @cached_property
    def present(self) -> list[int]:
        """The foreground classes that any label of the batch has; the first if there is none."""
        if self.classes == 2:
            return [1]  # without waiting for the device
        there = torch.zeros(self.classes, dtype=torch.bool, device=self.label.device)
        there[self.label.flatten()] = True
        return [c for c in range(1, self.classes) if there[c]] or [1]

    def foreground(self, values: Tensor) -> Tensor:
        """The channels of :attr:`present` classes, of ``(batch, classes, *space)``."""
        whole = len(self.present) == self.classes - 1
        return values[:, 1:] if whole else values[:, self.present]  # the second copies

    @cached_property
    def likelihood(self) -> Tensor:
        """The probability of every :attr:`present` class, ``(batch, present, *space)``."""
        if self.classes == 2:
            return logistic(self.prediction[:, 1:] - self.prediction[:, :1])
        return self.foreground(self.probability)

    @cached_property
    def claimed(self) -> Field:
        """The label as values: one channel per present class, or as it is if continuous."""
        if self.continuous:
            return self.of_label(self.label)
        # Class 0 is not among them, so what is invalid is 0 already.
        if self.classes == 2:
            wanted = self.label.unsqueeze(1)  # 0 and 1 as they are
        else:
            wanted = torch.stack([self.label == c for c in self.present], 1)
        return Field(wanted.to(self.prediction.dtype), self.frame)

    def of_prediction(self, values: Tensor) -> Field:
        """A field of ``(batch, channels, *space)`` with 0 where the prediction is unknown."""
        return Field(_inside(values, self.known_at), self.frame)

    def of_label(self, values: Tensor) -> Field:
        """A field of ``(batch, channels, *space)`` with 0 where the label is invalid."""
        return Field(_inside(values, self.valid_at), self.frame)

    def count(self, one: Field, other: Field) -> Tensor:
        """:func:`each` of two fields of zeros and ones: whole numbers, as they must be."""
        return each(one, other).round()

    def _mask(self, places: Tensor | None) -> Field:
        return Field(None if places is None else places.to(self.prediction.dtype), self.frame)


def compare(
    prediction: Tensor,
    label: Tensor,
    valid: Tensor,
    known: Tensor | None,
    frame: Frame,
    bins: int,
) -> Comparison:
    """A comparison in float32 at least, with nothing left of what is unknown or invalid.

    The shapes are those of :class:`Comparison`, but ``valid`` and ``known`` ``(batch, *space)``
    bool, to be checked with :func:`check_comparison` before.

    Raises:
        ShapeError: for a class index that has no logits.

    Trap: a mask that is True everywhere is the same as none, and quicker.

    >>> label, valid = torch.tensor([[0, 255]]), torch.tensor([[True, False]])
    >>> frame = Frame((2,), (0,), direct=True)
    >>> compare(torch.ones(1, 2, 2), label, valid, None, frame, 8).label
    tensor([[0, 0]])
    """
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    if label.is_floating_point():
        dtype = torch.promote_types(dtype, label.dtype)
        label = label.to(dtype)
    known_at, valid_at = _some(known), _some(valid)
    classes = not label.is_floating_point()
    label = _inside(label, valid_at[:, 0] if classes and valid_at is not None else valid_at)
    if classes:
        _refuse_beyond(label, prediction.shape[1])
    inside = _inside(prediction.to(dtype), known_at)
    return Comparison(inside, label, known_at, valid_at, frame, bins)


def check_comparison(
    prediction: Tensor, label: Tensor, valid: Tensor, known: Tensor | None
) -> None:
    """Refuse what cannot be compared, with a ShapeError; shapes as in :func:`compare`.

    >>> check_comparison(torch.zeros(1, 2, 4), torch.zeros(1, 4), torch.ones(1, 4).bool(), None)
    Traceback (most recent call last):
    labelmend.errors.ShapeError: label must be int64 (1, 4) or floating (1, 2, 4), not float32 ...
    """
    check_inputs(prediction, label, valid)
    classes = label.dtype == torch.int64 and label.shape == valid.shape
    if not classes and not (label.is_floating_point() and label.shape == prediction.shape):
        raise ShapeError(
            f"label must be int64 {tuple(valid.shape)} or floating {tuple(prediction.shape)}, "
            f"not {type_and_shape(label)}"
        )
    if classes:
        check_classes(prediction)
    if known is None:
        return
    if known.dtype != torch.bool or known.shape != valid.shape or known.device != valid.device:
        raise ShapeError(
            f"known must be bool {tuple(valid.shape)} on {valid.device} as valid is, "
            f"not {type_and_shape(known)} on {known.device}"
        )


def check_range(label: Tensor, valid: Tensor, classes: int) -> None:
    """Refuse class indices that have no logits, where the label is valid, with a ShapeError.

    :func:`compare` does so by itself. Trap: the look at the numbers makes a GPU wait.

    >>> check_range(torch.tensor([[0, 255]]), torch.tensor([[True, False]]), 2)
    """
    _refuse_beyond(torch.where(valid, label, 0), classes)


def _refuse_beyond(label: Tensor, classes: int) -> None:
    if not label.numel():
        return
    least, most = (int(v) for v in label.aminmax())
    if least < 0 or most >= classes:
        raise ShapeError(
            f"label must hold classes 0 to {classes - 1}, for so many have logits, not "
            f"{most if least >= 0 else least}"
        )


def mean_inside(values: Tensor, places: Tensor | None) -> Tensor:
    """The mean of ``(batch, channels, *space)`` over ``places``, with axes of length 1 for space.

    Trap: 0 where there are no places.

    >>> mean_inside(torch.tensor([[[1.0, 3.0, 9.0]]]), torch.tensor([[[True, True, False]]]))
    tensor([[[2.]]])
    """
    axes = tuple(range(2, values.ndim))
    if places is None:
        return values.mean(axes, keepdim=True)
    number = places.sum(axes, keepdim=True).clamp(min=1)
    return _inside(values, places).sum(axes, keepdim=True) / number


def centred(values: Tensor, places: Tensor | None) -> Tensor:
    """``(batch, channels, *space)`` less the mean over ``places``, and 0 elsewhere.

    What differs from a constant by rounding only becomes 0, for such noise has a best place too.

    >>> centred(torch.tensor([[[1.0, 3.0, 9.0]]]), torch.tensor([[[True, True, False]]]))
    tensor([[[-1.,  1.,  0.]]])
    """
    values = _inside(values, places)
    apart = _inside(values - mean_inside(values, places), places)
    flat = _largest(apart) <= FLAT * torch.finfo(values.dtype).eps * _largest(values)
    return torch.where(flat.view(*flat.shape, *[1] * (apart.ndim - 2)), 0, apart)


def _largest(values: Tensor) -> Tensor:
    """The largest size of a value in each channel, ``(batch, channels)``, in one look."""
    least, most = values.flatten(2).aminmax(dim=2)
    return torch.maximum(least.abs(), most.abs())


def _inside(values: Tensor, places: Tensor | None) -> Tensor:
    return values if places is None else torch.where(places, values, 0)


def _some(mask: Tensor | None) -> Tensor | None:
    """A mask with an axis for channels, or None where it is True everywhere."""
    return None if mask is None or bool(mask.all()) else mask.unsqueeze(1)
