"""Predictions and labels at less than their full resolution, for a quick first look."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d

from labelmend.alignment.affine import compose, inverse, map_positions
from labelmend.alignment.correlation import Places
from labelmend.alignment.interpolation import Claims, at, read
from labelmend.losses.valid_positions import at_least_single, logistic, softmax

ENOUGH = 4096
"""Positions of a sample that are enough to tell roughly where it belongs."""

_LEAST_SIDE = 8
"""An axis is not made shorter than this."""

_COARSEST = 4


def coarse_factors(space: Sequence[int]) -> tuple[int, ...]:
    """By how much to divide the axes of a space for a first look: 1, 2 or 4 each.

    No more than it takes to have 4,096 positions, and short axes are left as they are.

    >>> coarse_factors((256, 256)), coarse_factors((128, 128)), coarse_factors((4000,))
    ((4, 4), (2, 2), (1,))
    """
    factor = 1
    while factor < _COARSEST and math.prod(_divided(space, factor)) > ENOUGH:
        factor *= 2
    return tuple(factor if size // factor >= _LEAST_SIDE else 1 for size in space)


def _divided(space: Sequence[int], factor: int) -> list[int]:
    return [size // factor if size // factor >= _LEAST_SIDE else size for size in space]


@dataclass(frozen=True, slots=True)
class Resolution:
    """A batch at some resolution; its labels are read where a matrix says.

    Attributes:
        prediction: ``(batch, channels, *small)``, logits of mean probabilities, or mean values.
        known: ``(batch, *small)`` bool or None, where at least half of what was averaged is known.
        label: ``(batch, *space)`` int64 as it was; or mean values ``(batch, channels, *small)``.
        valid: the same for the label, ``(batch, *space)`` or ``(batch, *small)`` bool.
        factors: how many positions along every axis became one.
        claims: the labels ready to be looked up, where they are classes and that is done.

    Trap: positions that do not fill the last of the longer ones are left out.
    """

    prediction: Tensor
    known: Tensor | None
    label: Tensor
    valid: Tensor
    factors: tuple[int, ...]
    claims: Claims | None = None

    @property
    def small(self) -> tuple[int, ...]:
        """The size at this resolution."""
        return tuple(self.prediction.shape[2:])

    def read(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """The labels moved by matrices, at this resolution.

        Classes are looked up in the label as it was, so that all scores of classes can be had;
        values are interpolated among means.

        Args:
            matrix: ``(batch, number, dims, dims + 1)``, of positions of the full label, or
                ``(1, number, ...)`` for all samples alike.

        Returns:
            ``(batch · number, [channels,] *small)`` and valid ``(batch · number, *small)``, those
            of one sample next to each other.
        """
        alike, number = matrix.shape[:2]
        up = _larger(self.factors, matrix)
        source = compose(up.expand(alike * number, -1, -1), inverse(matrix.flatten(0, 1)))
        if self.label.is_floating_point():
            source = compose(source, inverse(up).expand(alike * number, -1, -1))
        # All of a sample's are read as one long label: what they are read from is not copied.
        tall = number * self.small[0], *self.small[1:]
        positions = [p.reshape(alike, *tall) for p in map_positions(source, self.small)]
        space = self.valid.shape[1:]
        if self.label.is_floating_point():
            label, valid = read(self.label, self.valid, at(positions, space))
            label = label.reshape(*label.shape[:2], number, *self.small).movedim(2, 1).flatten(0, 1)
            return label, valid.reshape(-1, *self.small)
        claims = self.claims or Claims.of(self.label, self.valid)
        label, valid = claims.nearest(positions)
        return label.reshape(-1, *self.small), valid.reshape(-1, *self.small)


def at_resolution(
    prediction: Tensor,
    label: Tensor,
    valid: Tensor,
    known: Tensor | None,
    factors: tuple[int, ...],
) -> Resolution:
    """A batch with so many positions along every axis made one.

    Args:
        prediction: ``(batch, classes, *space)`` logits, or ``(batch, channels, *space)`` values.
        label: ``(batch, *space)`` int64, or ``(batch, channels, *space)`` float.
        valid: ``(batch, *space)`` bool.
        known: ``(batch, *space)`` bool, or None where the prediction is known everywhere.
        factors: 1 or more for each axis.

    Trap: what is not known may be NaN or infinite and counts for nothing.

    >>> z, label = torch.tensor([[[0.0, 0, 2, 2]]]), torch.tensor([[[0.0, 2.0, 4.0, 4.0]]])
    >>> few = at_resolution(z, label, torch.ones(1, 4).bool(), None, (2,))
    >>> few.prediction, few.label
    (tensor([[[0., 2.]]]), tensor([[[1., 4.]]]))
    """
    whole = (1,) * len(factors)
    claims = None if label.is_floating_point() else Claims.of(label, valid)
    given = Resolution(at_least_single(prediction), known, label, valid, whole, claims)
    return coarser(given, factors)


def coarser(of: Resolution, by: tuple[int, ...]) -> Resolution:
    """A batch at a resolution coarser by so many positions along every axis.

    It is quicker than to begin with all positions again. Trap: what is known is rounded each time.

    >>> z, label = torch.zeros(1, 2, 12), torch.zeros(1, 12, dtype=torch.int64)
    >>> half = at_resolution(z, label, label == 0, None, (2,))
    >>> coarser(half, (3,)).factors, coarser(half, (3,)).small
    ((6,), (2,))
    """
    if max(by) == 1:
        return of
    label, valid, values = of.label, of.valid, of.prediction
    factors = tuple(f * more for f, more in zip(of.factors, by, strict=True))
    if label.is_floating_point():
        label, valid = _mean(label, valid, by)
        values, known = _mean(values, of.known, by)
    else:
        chance, known = _mean(_softmax(values), of.known, by)
        values = chance.clamp(min=torch.finfo(chance.dtype).tiny).log()
    places = None if of.known is None else known
    return Resolution(values, places, label, valid, factors, of.claims)


def _softmax(logits: Tensor) -> Tensor:
    """Probabilities of classes; of two by the difference of logits, in half the time."""
    if logits.shape[1] != 2:
        return softmax(logits)
    margin = logits[:, 1:] - logits[:, :1]
    return torch.cat([logistic(-margin), logistic(margin)], 1)


def _mean(values: Tensor, places: Tensor | None, factors: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Means over places, and where these are at least half of all."""
    values = at_least_single(values)
    if places is None:
        mean = _pool(values, factors)
        return mean, torch.ones_like(mean[:, 0], dtype=torch.bool)
    share = _pool(places.unsqueeze(1).to(values.dtype), factors)
    total = _pool(torch.where(places.unsqueeze(1), values, 0), factors)
    return total / torch.where(share > 0, share, 1), share[:, 0] >= 0.5


def _pool(values: Tensor, factors: tuple[int, ...]) -> Tensor:
    dims = len(factors)
    if max(factors) <= 2:
        return _halved(values, factors)
    if dims == 1:
        return avg_pool1d(values, factors)
    return avg_pool2d(values, factors) if dims == 2 else avg_pool3d(values, factors)


def _halved(values: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Means of neighbours, two along an axis or one: as by pooling, to the bit, but quicker."""
    sizes = values.shape[-len(factors) :]
    whole = [n // f * f for n, f in zip(sizes, factors, strict=True)]
    places: list[Places] = [
        (..., *itertools.starmap(slice, zip(first, whole, factors, strict=True)))
        for first in itertools.product(*map(range, factors))
    ]
    parts = [values[place] for place in places]
    return sum(parts[2:], parts[0] + parts[1]) / len(parts)


def _larger(factors: tuple[int, ...], like: Tensor) -> Tensor:
    """From positions at this resolution to those of the full label."""
    factor = like.new_tensor(factors)
    matrix = torch.cat([factor.diag(), (factor.unsqueeze(1) - 1) / 2], 1)
    return matrix.unsqueeze(0)
