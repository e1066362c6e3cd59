"""Where a label belongs, how sure that is, and whether it should be moved there at all.

Every displacement is a hypothesis: the prediction is the moved label and noise of a size that is
not known. The likelihood of such a model is a power of what the displacement leaves unexplained,
and the power is how many independent pieces of evidence there are. Only edges tell where a label
lies, and errors of a prediction hang together along them; so it is the length of the label's edges
divided by that of such errors. What this makes of maps of scores are probabilities, and these say
whether to move: few wrong moves, whatever the prediction's quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labelmend.alignment.score_maps import Shifts, best_shift, displacements
from labelmend.errors import SettingsError, ShapeError
from labelmend.losses.valid_positions import type_and_shape
from labelmend.types import EMPTY, FLAT, IN_PLACE, MOVED, PARTLY, UNSURE

GRAIN = 10.0
"""Positions of an edge along which the errors of a prediction hang together; see :func:`belief`.
At 10 and a confidence of 0.95, what is let through is right in 95 % at least, however good the
prediction (``bench_estimators.py``)."""

_OF_EDGE = {1: 3.0, 2: 1.0, 3: 1.5}
"""Pieces of evidence in an edge of one grain, by dimensions; in 1-D an edge is a point. Measured
likewise."""

_FLOOR = 1e-3
"""The least that is left unexplained, beside the most of the map: no prediction is perfect."""

_ROUNDING = 1e-3
"""Of positions along directions that slant."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the labels of a batch belong.

    Attributes:
        displacement: ``(batch, dims)`` int64, how far each should move, in positions.
        confidence: ``(batch,)`` float in [0, 1], the probability that the best displacement is
            right within ``near`` positions (one, unless told otherwise); where a label moves
            along some directions only, along these.
        gain: ``(batch,)`` float, how much more likely the displacement is than none, in nats.
        reason: ``(batch,)`` uint8, why: places in :data:`labelmend.types.REASONS`.
    """

    displacement: Tensor
    confidence: Tensor
    gain: Tensor
    reason: Tensor


def edge_length(label: Tensor, valid: Tensor) -> Tensor:
    """How much edge every label has, ``(batch,)`` float32.

    Of classes it is the number of pairs of valid neighbours, along the axes, that differ. Of
    continuous values it is the sum of their differences, as shares of the range of the channel in
    the sample; the mean over channels.

    Args:
        label: ``(batch, *space)`` int64, or ``(batch, channels, *space)`` float.
        valid: ``(batch, *space)`` bool.

    Source: own. Trap: a label that is the same everywhere has none, and belongs anywhere.

    >>> edge_length(torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1]]), torch.ones(2, 4).bool())
    tensor([2., 0.])
    """
    values = label.unsqueeze(1) if label.ndim == valid.ndim else label
    over = valid.unsqueeze(1)
    axes = tuple(range(2, values.ndim))
    if label.is_floating_point():
        values = torch.where(over, values, 0).float()
        least = torch.where(over, values, torch.inf).amin(axes, keepdim=True)
        most = torch.where(over, values, -torch.inf).amax(axes, keepdim=True)
        size = most - least
        values = values / torch.where((size > 0) & size.isfinite(), size, torch.inf)
    total = torch.zeros(values.shape[:2], device=values.device)
    for axis in axes:
        length = values.shape[axis] - 1
        one, other = values.narrow(axis, 0, length), values.narrow(axis, 1, length)
        both = over.narrow(axis, 0, length) & over.narrow(axis, 1, length)
        if label.is_floating_point():
            total += torch.where(both, (one - other).abs(), 0).flatten(2).sum(2)
        else:
            # Fewer than 2^31 positions in one axis of a sample: half the time of int64.
            total += ((one != other) & both).flatten(2).sum(2, dtype=torch.int32)
    return total.mean(1)


def belief(
    shifts: Shifts,
    score: str,
    edges: Tensor,
    *,
    limit: Tensor | None = None,
    grain: float = GRAIN,
) -> Shifts:
    """How likely every displacement is, in nats, up to a constant for each sample.

    ``−n log r(d)``, where ``r`` is what the displacement leaves unexplained: the loss itself;
    1 − ρ² for a correlation ρ; and for mutual information I with a label of entropy H,
    1 − I / H, or e^(−2 I) without H. And ``n`` is the number of independent pieces of evidence:
    ``edges / grain^(dims − 1)``, three times that in 1-D and 1.5 times in 3-D. Maps of several
    samples that share a displacement add up.

    Args:
        shifts: maps of :func:`labelmend.alignment.scores.score_shifts`.
        score: the name of their score.
        edges: ``(batch,)`` from :func:`edge_length`.
        limit: ``(batch,)`` from :func:`labelmend.alignment.limits.score_limit`; the raw
            ``correlation`` cannot do without.
        grain: positions along an edge over which errors of a prediction hang together.

    Raises:
        SettingsError: for a grain that is not above 0, or a correlation without limit.

    Source: own; the profile likelihood of a shift with Gaussian noise of unknown size. Trap: at
    twice the resolution errors are twice as long; so should ``grain`` be.

    >>> shifts = Shifts(torch.tensor([[0.0, 0.6, 0.8]]), torch.ones(1, 3).long(), (1,))
    >>> belief(shifts, "normalised", torch.tensor([2.0])).score
    tensor([[0.0000, 2.6777, 6.1299]])
    """
    if not grain > 0:
        raise SettingsError(f"grain must be above 0 positions, not {grain}")
    known = shifts.score.isfinite()
    over = (-1, *[1] * len(shifts.window))
    value = torch.where(known, shifts.score, 0)
    if limit is not None:
        limit = limit.to(value.dtype).view(over)
        value = torch.where(limit > 0, value / torch.where(limit > 0, limit, 1), 0)
    left = torch.where(known, _left(value, score, bounded=limit is not None), 0)
    most = left.flatten(1).amax(1) if left.numel() else left.new_zeros(0)
    # Where a loss is 0 at every displacement, there is nothing to tell them apart.
    floor = torch.where(most > 0, _FLOOR * most, 1).view(over)
    dims = len(shifts.window)
    pieces = evidence(edges, dims, grain).to(value.dtype).view(over)
    likely = 0 - pieces * torch.maximum(left, floor).log()
    return Shifts(torch.where(known, likely, -torch.inf), shifts.overlap, shifts.window)


def evidence(edges: Tensor, dims: int, grain: float = GRAIN) -> Tensor:
    """How many independent pieces of evidence an edge is; see :func:`belief`.

    >>> evidence(torch.tensor([40.0]), 2)
    tensor([4.])
    """
    return _OF_EDGE[dims] * grain ** (1 - dims) * edges


def _left(value: Tensor, score: str, *, bounded: bool) -> Tensor:
    """What is left unexplained where a score has a value."""
    if score == "correlation" and not bounded:
        raise SettingsError("correlation has no limit of its own; pass that of score_limit")
    if score in ("correlation", "normalised", "phase"):
        return 1 - value.clamp(0, 1).square()
    if score == "mutual_information":
        return 1 - value.clamp(0, 1) if bounded else (-2 * value).exp()
    return -value


def place(
    likely: Shifts,
    edges: Tensor,
    *,
    prior: float = torch.inf,
    confidence: float = 0.95,
    margin: float = 3.0,
    near: float = 1.0,
) -> Placement:
    """Where labels belong, from how likely every displacement is.

    A label moves to the most likely displacement if the probability that it is right within
    ``near`` positions is at least ``confidence``. Else, where the label can slide along itself or
    a pattern repeats, it moves along those directions only in which it is known that well.

    Args:
        likely: maps of :func:`belief`, of single samples or added up.
        edges: ``(batch,)`` from :func:`edge_length`.
        prior: how far labels are thought to be off, in positions: the deviation of a normal
            prior about no displacement.
        confidence: the probability it takes to move.
        margin: how much more likely the displacement must be than none, in nats; 3 is 20 times.
        near: what counts as right, in positions along every axis.

    Raises:
        SettingsError: for an option out of range.
        ShapeError: where maps or edges have the wrong shape.

    Source: own, for a map has always a maximum (seed B ¶33); the aperture problem. Trap: sure of
    a displacement is not sure that it is the label which is off; see drift.

    >>> likely = Shifts(torch.tensor([[0.0, 0.0, 9.0, 0.0, 0.0], [0.0] * 5]),
    ...                 torch.ones(2, 5).long(), (2,))
    >>> found = place(likely, torch.tensor([2.0, 2.0]), prior=4.0)
    >>> found.displacement.tolist(), found.confidence
    ([[0], [0]], tensor([0.9998, 0.6247]))
    """
    _check(likely, edges, (prior, confidence, margin, near))
    places = displacements(likely.window, likely.score.device)
    best, top = best_shift(likely, prior=0.5 / prior**2)
    posterior = likely.score.flatten(1) - 0.5 * places.square().sum(1) / prior**2
    seen = top.isfinite()
    probability = torch.where(seen.unsqueeze(1), posterior, 0).softmax(1)
    apart = places - best.unsqueeze(1)
    whole = _share(probability, (apart.abs() <= near).all(2))
    sure = seen & (whole >= confidence)
    along, known_well = _known_directions(apart, best, probability, confidence, near)
    partly = seen & ~sure & (known_well >= confidence)
    # Along a slanting direction one axis may go further than the best displacement does.
    most = torch.tensor(likely.window, device=along.device)
    along = torch.maximum(torch.minimum(along, most), -most)
    goal = torch.where(partly.unsqueeze(1), along, torch.where(sure.unsqueeze(1), best, 0))
    gain = _at(posterior, goal, likely.window) - _at(posterior, goal * 0, likely.window)
    # Where nothing is known of no displacement, because too little would be shared there, any is.
    gain = torch.where(seen, gain, 0).nan_to_num(0.0, torch.inf, -torch.inf)
    moves = (sure | partly) & (goal != 0).any(1) & (gain >= margin)
    there = sure & ~moves & (best.abs() <= near).all(1)
    reason = torch.full_like(gain, UNSURE, dtype=torch.uint8)
    for code, which in ((IN_PLACE, there), (MOVED, moves & sure), (PARTLY, moves & partly)):
        reason = torch.where(which, code, reason)
    reason = torch.where(_is_flat(likely.score), FLAT, reason)
    reason = torch.where(edges > 0, reason, EMPTY)
    moves = moves & ((reason == MOVED) | (reason == PARTLY))
    return Placement(
        torch.where(moves.unsqueeze(1), goal, 0),
        torch.where(seen & (edges > 0), torch.where(partly, known_well, whole), 0),
        torch.where(moves, gain, 0),
        reason.to(torch.uint8),
    )


def _known_directions(
    apart: Tensor, best: Tensor, probability: Tensor, confidence: float, near: float
) -> tuple[Tensor, Tensor]:
    """The best displacement along well-known directions only, and how well these are known.

    Directions are those in which the probabilities spread most and least. ``(batch, dims)`` int64
    and ``(batch,)``, 0 where no direction is known well, or there is but one.
    """
    batch, dims = best.shape
    if dims == 1 or not batch:
        return torch.zeros_like(best), probability.new_zeros(batch)
    # Axis by axis, each contiguous in memory; with axes last this takes three times as long.
    far = [apart[..., axis].to(probability.dtype).contiguous() for axis in range(dims)]
    weighted = [probability * along for along in far]
    products = [(one * other).sum(1) for one in weighted for other in far]
    spread = torch.stack(products, 1).view(batch, dims, dims)
    # On a CPU: matrices of 2 x 2 or 3 x 3 are quick there, and not every device has eigenvectors.
    ways = torch.linalg.eigh(spread.cpu())[1].to(spread)
    # Written out, for autocast would compute a matrix product in half precision.
    out = [sum(far[a] * ways[:, a, k, None] for a in range(dims)) for k in range(dims)]
    inside = [torch.where(one.abs() <= near + _ROUNDING, probability, 0).sum(1) for one in out]
    mass = torch.stack(inside, 1).clamp(max=1)
    good = mass >= confidence
    parts = (best.to(ways.dtype).unsqueeze(2) * ways).sum(1) * good
    along = (ways * parts.unsqueeze(1)).sum(2).round().long()
    least = torch.where(good, mass, torch.inf).amin(1)
    return along, torch.where(good.any(1), least, 0)


def _share(probability: Tensor, which: Tensor) -> Tensor:
    return torch.where(which, probability, 0).sum(1).clamp(max=1)


def _at(values: Tensor, displacement: Tensor, window: Sequence[int]) -> Tensor:
    """Values of flattened maps at one displacement per sample."""
    place = torch.zeros_like(displacement[:, 0])
    for axis, size in enumerate(window):
        place = place * (2 * size + 1) + displacement[:, axis] + size
    return values.gather(1, place.unsqueeze(1)).squeeze(1)


def _is_flat(score: Tensor) -> Tensor:
    """Whether a map says the same of every displacement, or nothing of any, ``(batch,)``."""
    score = score.flatten(1)
    known = score.isfinite()
    most = torch.where(known, score, -torch.inf).amax(1)
    least = torch.where(known, score, torch.inf).amin(1)
    return ~(most > least)


def _check(likely: Shifts, edges: Tensor, options: tuple[float, float, float, float]) -> None:
    prior, confidence, margin, near = options
    if tuple(edges.shape) != (len(likely.score),):
        raise ShapeError(
            f"edges must be ({len(likely.score)},), one per map, not {type_and_shape(edges)}"
        )
    if not prior > 0:
        raise SettingsError(f"prior must be above 0 positions, not {prior}")
    if not 0 < confidence <= 1:
        raise SettingsError(f"confidence must be above 0 and at most 1, not {confidence}")
    if not margin >= 0:
        raise SettingsError(f"margin must be at least 0 nats, not {margin}")
    if not near >= 0:
        raise SettingsError(f"near must be at least 0 positions, not {near}")
