"""Maps of how well labels fit at every displacement: the best place in each, several as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labelmend.errors import ShapeError
from labelmend.losses.valid_positions import type_and_shape

ROUNDING = 16
"""Scores that differ by this many units in the last place of the largest one are ties."""


@dataclass(frozen=True, slots=True)
class Shifts:
    """How well every label of a batch fits at every displacement in a window.

    Attributes:
        score: ``(batch, *shifts)`` float, larger is better; −inf where too little is shared.
            With window ``w`` an axis of displacements is ``−w … w``, so it is ``2 w + 1`` long
            and index ``i`` is displacement ``i − w``.
        overlap: ``(batch, *shifts)`` int64, how many positions are shared there.
        window: the largest displacement along every axis, in positions.

    >>> Shifts(torch.zeros(2, 3, 5), torch.ones(2, 3, 5, dtype=torch.int64), (1, 2)).window
    (1, 2)
    """

    score: Tensor
    overlap: Tensor
    window: tuple[int, ...]


def best_shift(shifts: Shifts, *, prior: float = 0.0) -> tuple[Tensor, Tensor]:
    """The displacement of the largest score, and that score.

    Scores that differ by rounding only (16 units in the last place of the largest score of the
    sample, either sign) are ties. Of these the shortest displacement wins, then the first in
    the order of the axes; so a flat map gives no move, and so does a map that is −inf everywhere.

    Args:
        shifts: the maps.
        prior: what a displacement of 1 position costs; ``prior · |d|²`` is subtracted.

    Returns:
        ``(batch, dims)`` int64 displacements in positions, and ``(batch,)`` their scores less
        the prior: minus that of ``d = 0``, it is what moving gains, and never negative.

    Raises:
        ShapeError: where the map does not have the shape of its window.

    Source: seed B ¶33; the quadratic prior is own, against drift.
    Trap: a map has always a best place, even one of noise. Ask how much better it is.

    >>> score = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    >>> best_shift(Shifts(score, torch.ones(2, 3, dtype=torch.int64), (1,)))
    (tensor([[1],
            [0]]), tensor([1., 0.]))
    """
    _check(shifts)
    places = displacements(shifts.window, shifts.score.device)
    length = places.square().sum(1)
    # A stable sort keeps the order of the axes among displacements of one length.
    rank = length.argsort(stable=True).argsort()
    score = torch.where(shifts.score.isnan(), -torch.inf, shifts.score).flatten(1)
    size = torch.where(score.isfinite(), score, 0).abs().amax(1, keepdim=True)
    room = ROUNDING * torch.finfo(score.dtype).eps * size
    score = score - prior * length
    candidate = score >= score.amax(1, keepdim=True) - room
    first = torch.where(candidate, rank, len(rank)).argmin(1)
    return places[first], score.gather(1, first.unsqueeze(1)).squeeze(1)


def subpixel(shifts: Shifts, displacement: Tensor) -> Tensor:
    """Displacements refined to fractions of a position by a parabola through the neighbours.

    Every axis by itself moves by at most half a position. It does not move at the border of the
    window, beside a place without a score, or where the score is no maximum along it.

    Args:
        shifts: the maps.
        displacement: ``(batch, dims)`` int64 in positions, from :func:`best_shift`.

    Returns:
        ``(batch, dims)``, in the number type of the scores.

    Raises:
        ShapeError: where shapes do not fit, or a displacement is not in the window.

    Trap: labels of whole classes have kinks rather than parabolas; expect tenths of a position.

    >>> score = torch.tensor([[-4.0, -1.0, 0.0, -1.0, -4.0], [-4.0, -1.0, 0.0, 0.0, -4.0]])
    >>> shifts = Shifts(score, torch.ones(2, 5, dtype=torch.int64), (2,))
    >>> subpixel(shifts, torch.zeros(2, 1, dtype=torch.int64))
    tensor([[0.0000],
            [0.5000]])
    """
    _check(shifts)
    batch, dims = shifts.score.shape[0], len(shifts.window)
    window = torch.tensor(shifts.window, device=shifts.score.device)
    if displacement.dtype != torch.int64 or tuple(displacement.shape) != (batch, dims):
        raise ShapeError(
            f"displacement must be int64 {(batch, dims)}, not {type_and_shape(displacement)}"
        )
    if bool((displacement.abs() > window).any()):
        raise ShapeError(f"a displacement must lie in the window {shifts.window}")
    index = displacement + window
    steps = [_vertex(shifts.score, index, axis) for axis in range(dims)]
    return displacement + torch.stack(steps, 1)


def pooled(shifts: Shifts, group: Tensor) -> Shifts:
    """One map for all samples of a group: the mean of their scores, given to every one of them.

    Members that have no score at a displacement are left out there; it is −inf where none has.
    ``overlap`` is the sum over members. One poor map says little; many that share an offset can
    find it even where the prediction is poor.

    Args:
        shifts: the maps.
        group: ``(batch,)`` int64; samples of one number belong together.

    Raises:
        ShapeError: where shapes do not fit.

    Trap: where members without a score are many, those that are left may be the easy ones. All
    members count alike, however little their label covers.

    >>> score = torch.tensor([[0.0, 1.0, 2.0], [-torch.inf, 1.0, 0.0], [5.0, 5.0, 5.0]])
    >>> shifts = Shifts(score, torch.ones(3, 3, dtype=torch.int64), (1,))
    >>> pooled(shifts, torch.tensor([7, 7, 0])).score
    tensor([[0., 1., 1.],
            [0., 1., 1.],
            [5., 5., 5.]])
    """
    return _of_groups(shifts, group, mean=True)


def added(shifts: Shifts, group: Tensor) -> Shifts:
    """As :func:`pooled`, but the sum: how likely a displacement is for all members at once.

    Args:
        shifts: maps in nats, see :func:`labelmend.alignment.placement.belief`.
        group: ``(batch,)`` int64; samples of one number belong together.

    Raises:
        ShapeError: where shapes do not fit.

    Trap: a member that has no score at a displacement says nothing about it, which is more than
    one that fits badly would say; demand enough overlap.

    >>> likely = Shifts(torch.tensor([[0.0, 1.0, 2.0]] * 2), torch.ones(2, 3).long(), (1,))
    >>> added(likely, torch.tensor([4, 4])).score[0]
    tensor([0., 2., 4.])
    """
    return _of_groups(shifts, group, mean=False)


def _of_groups(shifts: Shifts, group: Tensor, *, mean: bool) -> Shifts:
    _check(shifts)
    batch = len(shifts.score)
    if group.dtype != torch.int64 or tuple(group.shape) != (batch,):
        raise ShapeError(f"group must be int64 {(batch,)}, not {type_and_shape(group)}")
    scored = shifts.score.isfinite()
    # float64, so that the mean of equal maps is that map to the last digit
    known = torch.where(scored, shifts.score, 0).double()
    member = torch.unique(group, return_inverse=True)[1]
    count = _sum_by(member, scored.long())
    total = _sum_by(member, known)
    value = total / count.clamp(min=1) if mean else total
    score = torch.where(count > 0, value, -torch.inf).to(shifts.score.dtype)
    return Shifts(score, _sum_by(member, shifts.overlap), shifts.window)


def together(values: Tensor, group: Tensor) -> Tensor:
    """The sum over the members of every group, given to each of them; shaped as ``values``.

    >>> together(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 1]))
    tensor([3., 3., 4.])
    """
    return _sum_by(torch.unique(group, return_inverse=True)[1], values)


def _sum_by(member: Tensor, maps: Tensor) -> Tensor:
    return torch.zeros_like(maps).index_add(0, member, maps)[member]


def displacements(window: Sequence[int], device: torch.device) -> Tensor:
    """All displacements in the order of a flattened map, ``(number, dims)`` int64.

    >>> displacements((1,), torch.device("cpu")).flatten()
    tensor([-1,  0,  1])
    """
    lines = [torch.arange(-w, w + 1, device=device) for w in window]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).flatten(0, -2)


def _vertex(score: Tensor, index: Tensor, axis: int) -> Tensor:
    """How far the top of the parabola along one axis lies from an index, ``(batch,)``."""
    size = score.shape[axis + 1]
    batch = torch.arange(len(score), device=score.device)
    values = []
    for offset in (-1, 0, 1):
        at = list(index.unbind(1))
        at[axis] = (at[axis] + offset).clamp(0, size - 1)
        values.append(score[(batch, *at)])
    below, here, above = values
    inside = (index[:, axis] > 0) & (index[:, axis] < size - 1)
    top = inside & below.isfinite() & above.isfinite() & (here >= below) & (here >= above)
    bend = torch.where(top, 2 * here - below - above, 0)
    step = torch.where(top, above - below, 0) / torch.where(bend > 0, 2 * bend, 1)
    return step.clamp(-0.5, 0.5)


def _check(shifts: Shifts) -> None:
    wanted = (len(shifts.score), *(2 * w + 1 for w in shifts.window))
    for name, maps in (("score", shifts.score), ("overlap", shifts.overlap)):
        if tuple(maps.shape) != wanted:
            raise ShapeError(
                f"{name} must be {wanted} for the window {shifts.window}, not {tuple(maps.shape)}"
            )
