"""Read a label between its positions, and say what is known there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod
from operator import add, mul
from typing import Literal

import torch
from torch import Tensor

from labelmend.errors import unknown
from labelmend.losses.valid_positions import at_least_single

Mode = Literal["nearest", "linear"]
"""How to read between positions."""

MODES: tuple[Mode, ...] = ("nearest", "linear")
"""The names that ``mode`` may have."""

_SLACK = 8.0
"""Roundings, in units of the last place at the far end, that a position may be off a half."""

_MOST_SLACK = 2.0**-10

_BELOW, _ABOVE = 1, 2
"""Positions framed around a label below and above."""

_NOBODY_SAID = torch.iinfo(torch.int64).min
"""Stands for the class of what is not known."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where to read: per space axis the position at or below, and the share of the next one.

    Position ``low + share`` is meant, ``share`` in [0, 1). Each tensor has as many axes as a
    class label and spreads to ``(batch, *space)``; a displacement per sample needs no more than
    ``(batch, 1, n, 1)``. Kept apart because their sum would lose digits: a float32 holds no
    tenths of a position in a recording of a million samples.
    """

    low: tuple[Tensor, ...]
    share: tuple[Tensor, ...]


def at(positions: Sequence[Tensor], space: Sequence[int]) -> Places:
    """The places at positions, one tensor per space axis.

    Args:
        positions: per axis floating, spreading to ``(batch, *space)``, in positions.
        space: the size of the label that is read.

    Returns:
        The places. Positions that are a whole or a half number but for rounding, that is within
        8 units of the last place at the far end of the longest axis (at most 1/1024), are taken
        as that number. Their derivatives stay.

    Source: own; without it a quarter turn would lose the border and ties would flicker.
    Trap: the derivative at a whole position is the one towards the next higher position.

    >>> at([torch.tensor([[1.9999999, 0.25]])], [4])
    Places(low=(tensor([[2, 0]]),), share=(tensor([[0.0000, 0.2500]]),))
    """
    low, share = [], []
    for position, size in zip(positions, space, strict=True):
        settled = _settle(at_least_single(position), max(space))
        floor = settled.detach().floor()
        # Far away is as good as just outside, and what int64 cannot hold is undefined.
        low.append(floor.clamp(-2, size).long())
        share.append(settled - floor)
    return Places(tuple(low), tuple(share))


def back_by(displacements: Sequence[Tensor], space: Sequence[int]) -> Places:
    """The places that content at every position of the label came from: ``p − d``.

    Args:
        displacements: per axis floating, spreading to ``(batch, *space)``, in positions.
        space: the size of the label that is read and written.

    Returns:
        The places, settled as by :func:`at`, but exact however long an axis is.

    Source: seed B3. Trap: backward convention; ``d`` is looked up where content arrives.

    >>> back_by([torch.tensor([[0.25]])], [3])
    Places(low=(tensor([[-1,  0,  1]]),), share=(tensor([[0.7500]]),))
    """
    low, share = [], []
    for axis, (displacement, size) in enumerate(zip(displacements, space, strict=True)):
        settled = _settle(at_least_single(displacement), max(space))
        ceiling = settled.detach().ceil()
        whole = ceiling.clamp(-size - 1, size + 1).long()
        low.append(positions_along(axis, space, displacement.device) - whole)
        share.append(ceiling - settled)
    return Places(tuple(low), tuple(share))


def positions_along(axis: int, space: Sequence[int], device: torch.device) -> Tensor:
    """The positions 0..n−1 of one space axis, int64 ``(1, ..., n, ..., 1)`` with a batch axis.

    Source: own. Trap: it is spread over the other axes, not filled in.

    >>> positions_along(1, (2, 3), torch.device("cpu")).shape
    torch.Size([1, 1, 3])
    """
    shape = [1] * (len(space) + 1)
    shape[axis + 1] = space[axis]
    return torch.arange(space[axis], device=device).reshape(shape)


@dataclass(frozen=True, slots=True)
class Claims:
    """Class labels laid out so that they can be looked up again and again.

    Attributes:
        framed: ``(batch, 1, *more)`` int64, a frame around them and in what is not valid a number
            that no class has.
        space: the size of the labels.
    """

    framed: Tensor
    space: tuple[int, ...]

    @classmethod
    def of(cls, label: Tensor, valid: Tensor) -> Claims:
        """Labels ``(batch, *space)`` int64 and where they are valid."""
        said = torch.where(valid, label, _NOBODY_SAID).unsqueeze(1)
        return cls(_framed(said, fill=_NOBODY_SAID), tuple(valid.shape[1:]))

    def look_up(self, low: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As :func:`look_up`."""
        return self._stands_at(_index(low, self.space))

    def nearest(self, positions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What ``read`` by ``"nearest"`` finds at the places of :func:`at`, in half the time.

        Args:
            positions: per axis floating, spreading to the ``(batch, *space)`` that is wanted.

        Source: own. Trap: as there, what is a half but for rounding is a half; and NaN is outside.

        >>> claims = Claims.of(torch.tensor([[5, 6, 7]]), torch.ones(1, 3).bool())
        >>> claims.nearest([torch.tensor([[1.4999999, 0.25, 99.0]])])
        (tensor([[7, 5, 0]]), tensor([[ True,  True, False]]))
        """
        small = self.framed[0].numel() <= torch.iinfo(torch.int32).max
        along = []
        for position, size, stride in zip(positions, self.space, _strides(self.space), strict=True):
            single = at_least_single(position)
            floor = single.floor()
            up = single - floor >= 0.5 - _slack(single.dtype, max(self.space))
            # Of one type, for a sum of two takes five times as long.
            whole = floor.add_(up.to(floor.dtype)).nan_to_num_(-_BELOW).clamp_(-_BELOW, size)
            along.append(whole.to(torch.int32 if small else torch.int64).add_(_BELOW).mul_(stride))
        return self._stands_at(reduce(add, along).long())

    def _stands_at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        found = _pick(self.framed, index).squeeze(1)
        known = found != _NOBODY_SAID
        return torch.where(known, found, 0), known


def look_up(label: Tensor, valid: Tensor, low: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """What stands at whole positions, without any arithmetic on it.

    Args:
        label: ``(batch, *space)`` int64 or ``(batch, channels, *space)`` floating.
        valid: ``(batch, *space)`` bool.
        low: per axis int64, spreading to the ``(batch, *space)`` that is wanted.

    Returns:
        The label there, 0 where not known, and whether it is known.

    Source: own. Trap: what is not known holds 0, which is also a class.

    >>> label, valid = torch.tensor([[5, 6, 7]]), torch.tensor([[True, True, False]])
    >>> look_up(label, valid, [torch.tensor([[-1, 1, 2]])])
    (tensor([[0, 6, 0]]), tensor([[False,  True, False]]))
    """
    if label.ndim == valid.ndim:
        return Claims.of(label, valid).look_up(low)
    index = _index(low, valid.shape[1:])
    known = _pick(_framed(valid.unsqueeze(1), fill=False), index).squeeze(1)
    return torch.where(known.unsqueeze(1), _pick(_framed(label, fill=0), index), 0), known


def read(
    label: Tensor, valid: Tensor, places: Places, mode: Mode | None = None
) -> tuple[Tensor, Tensor]:
    """What stands at places between positions.

    Args:
        label: ``(batch, *space)`` int64 or ``(batch, channels, *space)`` floating.
        valid: ``(batch, *space)`` bool.
        places: where to read, spreading to ``(batch, *space)``.
        mode: ``"nearest"``: what stands at the nearest position, at halves the higher one.
            ``"linear"``: channels are weighed by nearness; of classes the one with the most
            weight is taken, in a tie that of the nearest position if it takes part. By default
            classes are read by ``"nearest"``, which loses no thin line and fewest positions,
            channels by ``"linear"``.

    Returns:
        The label there, 0 where not known, and whether it is known: whether all positions that
        count with a weight above 0 are valid.

    Raises:
        SettingsError: for a mode that does not exist.

    Source: seed B, "interpolating class labels blurs them". Trap: linear classes lie closer to
    the truth at smooth borders (overlap 0.96 against 0.95 for discs of 20 positions), but what is
    one position thin loses a twentieth of its area. A NaN at a *valid* position reaches its
    neighbours.

    >>> label, valid = torch.tensor([[[0.0, 4.0, torch.nan]]]), torch.tensor([[True, True, False]])
    >>> read(label, valid, at([torch.tensor([[0.25, 1.0, 1.25]])], [3]))
    (tensor([[[1., 4., 0.]]]), tensor([[ True,  True, False]]))
    """
    if mode is not None and mode not in MODES:
        raise unknown("mode", mode, MODES)
    channels = label.is_floating_point()
    if (mode or ("linear" if channels else "nearest")) == "nearest":
        return look_up(label, valid, _nearest(places))
    return _weigh(label, valid, places) if channels else _vote(label, valid, places)


def _settle(position: Tensor, size: int) -> Tensor:
    slack = _slack(position.dtype, size)
    half = (2 * position.detach()).round() / 2
    gap = half - position.detach()
    # Added rather than put in its place, so that the derivative stays 1.
    return position + torch.where(gap.abs() <= slack, gap, 0)


def _slack(dtype: torch.dtype, size: int) -> float:
    return min(_SLACK * torch.finfo(dtype).eps * size, _MOST_SLACK)


def _nearest(places: Places) -> list[Tensor]:
    # A half always goes up: rounding it to even would read some positions twice, some never.
    return [low + (share >= 0.5) for low, share in zip(places.low, places.share, strict=True)]


def _framed(values: Tensor, fill: float) -> Tensor:
    """``(batch, channels, *space)`` with what is outside around it, so that it can be read too."""
    frame = [_BELOW, _ABOVE] * (values.ndim - 2)
    return torch.nn.functional.pad(values, frame, value=fill)


def _index(low: Sequence[Tensor], space: Sequence[int]) -> Tensor:
    """Where positions lie in the memory of a framed label, ``(batch, *wanted)``."""
    strides = _strides(space)
    # The frame is as wide as to tell ``size``, whose next is outside, from ``size − 1``.
    along = (
        (place.clamp(-_BELOW, size) + _BELOW).mul_(stride)
        for place, size, stride in zip(low, space, strides, strict=True)
    )
    return reduce(add, along)


def _strides(space: Sequence[int]) -> list[int]:
    """How far apart neighbours along every axis lie in the memory of a framed label."""
    sizes = [_BELOW + size + _ABOVE for size in space]
    return [prod(sizes[axis + 1 :]) for axis in range(len(sizes))]


def _pick(framed: Tensor, index: Tensor) -> Tensor:
    """``(batch, channels, *space)`` at ``(batch or 1, *wanted)``."""
    batch, channels = framed.shape[:2]
    every = index.flatten(1).unsqueeze(1).expand(batch, channels, -1)
    return framed.flatten(2).gather(2, every).reshape(batch, channels, *index.shape[1:])


def _weigh(label: Tensor, valid: Tensor, places: Places) -> tuple[Tensor, Tensor]:
    """Axis by axis the mean of two neighbours, and beside it how much of it is not known."""
    over = valid.unsqueeze(1)
    # Chosen before it is weighed: 0 · NaN would be NaN, in value and derivative.
    values = _framed(torch.where(over, at_least_single(label), 0), fill=0)
    gaps = _framed((~over).to(values.dtype), fill=1)
    framed, index = torch.cat([values, gaps], 1), _index(places.low, valid.shape[1:])
    strides = _strides(valid.shape[1:])
    shares = [share.to(values.dtype).unsqueeze(1) for share in places.share]

    def blend(axis: int, index: Tensor) -> Tensor:
        if axis == len(shares):
            return _pick(framed, index)
        here, there = blend(axis + 1, index), blend(axis + 1, index + strides[axis])
        return torch.lerp(here, there, shares[axis])

    blended = blend(0, index)
    total, gap = blended[:, :-1], blended[:, -1:]
    known = gap == 0
    # Where all is known this divides by 1. Its derivative is what counts: a neighbour of weight 0
    # that is not known then pulls neither way, while the 0 in its place would.
    mean = total / torch.where(known, 1 - gap, 1)
    return torch.where(known, mean, 0).to(label.dtype), known.squeeze(1)


def _vote(label: Tensor, valid: Tensor, places: Places) -> tuple[Tensor, Tensor]:
    """The class with the most weight: one-hot labels read linearly, but without one-hot labels."""
    claims = Claims.of(label, valid)
    (winner, _), framed = claims.look_up(_nearest(places)), claims.framed
    index, strides = _index(places.low, valid.shape[1:]), _strides(valid.shape[1:])
    corners = []
    for ups in product((0, 1), repeat=len(strides)):
        shares = zip(places.share, ups, strict=True)
        weight = reduce(mul, (share if up else 1 - share for share, up in shares))
        beside = index + sum(map(mul, strides, ups))
        corners.append((weight, _pick(framed, beside).squeeze(1)))

    def votes(wanted: Tensor | int) -> Tensor:
        return reduce(add, (torch.where(said == wanted, weight, 0) for weight, said in corners))

    most = votes(winner)
    for _, candidate in corners:
        given = votes(candidate)
        # Only by more: so the nearest position wins a tie, and no object shrinks for being moved.
        winner = torch.where(given > most, candidate, winner)
        most = torch.maximum(given, most)
    known = votes(_NOBODY_SAID) == 0
    return torch.where(known, winner, 0), known
