"""Put labels where predictions say they belong: a search, a decision and a move in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from labelmend.alignment.comparison import FLAT, check_comparison
from labelmend.alignment.correlation import along_axes
from labelmend.alignment.limits import score_limit
from labelmend.alignment.placement import GRAIN, Placement, belief, edge_length, place
from labelmend.alignment.score_maps import Shifts, added, together
from labelmend.alignment.scores import SCORES, score_shifts
from labelmend.alignment.shifts import shift
from labelmend.errors import unknown
from labelmend.losses.valid_positions import at_least_single
from labelmend.types import Alignment

_SOME = 61
"""Every so many positions are looked at first; no usual size is a multiple of it."""


@dataclass(frozen=True, slots=True)
class ShiftAligner:
    """Moves labels by whole positions to where they fit a prediction best, if that is clear.

    No gradient flows through the search. It draws no random numbers and gives a sample the same
    place in any batch.

    Attributes:
        window: the largest displacement in positions, along every axis or for all of them.
        score: how fit is measured, one of :data:`labelmend.alignment.scores.SCORES`.
        prior: how far labels are thought to be off, in positions; by default half the window.
        confidence: the probability of being right, within ``near``, that it takes to move.
        margin: how much more likely the new place must be than the old one, in nats.
        near: what counts as right, in positions; by default a sixteenth of the window, but 1 at
            least: who looks far is content with less.
        least_overlap: as in :func:`labelmend.alignment.scores.score_shifts`.
        grain: as in :func:`labelmend.alignment.placement.belief`.

    Raises:
        SettingsError: for an option out of range.

    Source: seed B ¶33–36, ¶46; the decision is own. Trap: a network that learns from labels it
    has moved itself may drift, and all labels with it; keep labels that do not move beside them.

    >>> label = torch.zeros(1, 12, 12, dtype=torch.int64)
    >>> label[:, 3:7, 2:8] = 1
    >>> seen = torch.nn.functional.one_hot(label.roll(2, 1), 2).movedim(-1, 1) * 8.0
    >>> moved = ShiftAligner(window=3)(seen, label, torch.ones_like(label) > 0)
    >>> moved.displacement.tolist(), moved.reasons
    ([[2.0, 0.0]], ('moved',))
    """

    window: int | tuple[int, ...] = 16
    score: str = "normalised"
    prior: float | None = None
    confidence: float = 0.95
    margin: float = 3.0
    near: float | None = None
    least_overlap: float = 0.5
    grain: float = GRAIN

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise unknown("score", self.score, SCORES)

    def __call__(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """Labels in their places.

        Args:
            prediction: ``(batch, classes, *space)`` logits, or ``(batch, channels, *space)``.
            label: ``(batch, *space)`` int64 class indices, or ``(batch, channels, *space)``.
            valid: ``(batch, *space)`` bool, where the label is known.
            known: ``(batch, *space)`` bool, where the prediction may be used.
            group: ``(batch,)`` int64; samples of one number are moved alike.

        Raises:
            ShapeError: where shapes, types or devices do not fit.
        """
        found = self.find(prediction, label, valid, known=known, group=group)
        return moved(label, valid, found)

    def find(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
        edges: Tensor | None = None,
        flat: Tensor | None = None,
    ) -> Placement:
        """Where labels belong; arguments as for a call.

        What :func:`edges_of` and :func:`says_nothing` find is not sought again if it is given.
        """
        check_comparison(prediction, label, valid, known)
        if edges is None:
            edges = edges_of(label, valid, known, self.window)
        likely = self.likely(prediction, label, valid, edges, known=known, flat=flat)
        if group is not None:
            likely, edges = added(likely, group), together(edges, group)
        return self.decide(likely, edges)

    def likely(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        edges: Tensor,
        *,
        known: Tensor | None = None,
        flat: Tensor | None = None,
    ) -> Shifts:
        """How likely every displacement is, in nats, up to a constant for each sample."""
        given = prediction.detach(), label, valid, self.score
        maps = score_shifts(*given, self.window, known=known, least_overlap=self.least_overlap)
        limit = score_limit(*given, known)
        likely = belief(maps, self.score, edges, limit=limit, grain=self.grain)
        # A loss falls, and a sum of products rises, with what a label brings out of or into view,
        # whatever is predicted; where nothing is, this would pass for a better place.
        if flat is None:
            flat = says_nothing(given[0], known, classes=not label.is_floating_point())
        flat = flat.view(-1, *[1] * len(likely.window)) & likely.score.isfinite()
        score = torch.where(flat, 0, likely.score)
        return Shifts(score, likely.overlap, likely.window)

    def decide(self, likely: Shifts, edges: Tensor) -> Placement:
        """Where labels belong, from :meth:`likely`, of one sample each or added up."""
        prior = self.prior if self.prior is not None else max(max(likely.window) / 2, 1.0)
        near = self.near if self.near is not None else max(max(likely.window) / 16, 1.0)
        options = {"confidence": self.confidence, "margin": self.margin, "near": near}
        return place(likely, edges, prior=prior, **options)


def says_nothing(prediction: Tensor, known: Tensor | None, *, classes: bool) -> Tensor:
    """Which predictions are the same at all positions, but for rounding, ``(batch,)`` bool.

    Args:
        prediction: ``(batch, channels, *space)``; of classes only differences of logits count.
        known: ``(batch, *space)`` bool, the positions that count, or all.
        classes: whether it holds logits.

    Trap: a prediction with a NaN is none of them; it has no scores instead.

    >>> says_nothing(torch.tensor([[[3.0, 4.0], [5.0, 6.0]]]), None, classes=True)
    tensor([True])
    """
    values = prediction.flatten(2)
    over = None if known is None else known.flatten(1)
    # Some positions tell of nearly every prediction that it says something. All of them may be
    # larger, but not twice as large without being farther apart, too.
    some = None if over is None else over[:, ::_SOME]
    apart, rounding = _apart(values[..., ::_SOME], some, classes)
    if (apart > 2 * rounding).any(1).all():
        return apart.new_zeros(len(apart), dtype=torch.bool)
    apart, rounding = _apart(values, over, classes)
    return (apart <= rounding).all(1)


def _apart(values: Tensor, known: Tensor | None, classes: bool) -> tuple[Tensor, Tensor]:
    """How far apart values are, and how far rounding may bring them, ``(batch, channels)``."""
    values = at_least_single(values)
    values = values[:, 1:] - values[:, :1] if classes else values
    if known is None:
        least, most = values.aminmax(dim=2)
    else:
        over = known.unsqueeze(1)
        most = torch.where(over, values, -torch.inf).amax(2)
        least = torch.where(over, values, torch.inf).amin(2)
    size = torch.maximum(most.abs(), least.abs())
    return most - least, FLAT * torch.finfo(values.dtype).eps * size


def edges_of(
    label: Tensor, valid: Tensor, known: Tensor | None, window: int | Sequence[int]
) -> Tensor:
    """How much edge of every label there is to go by, ``(batch,)``; see what it calls.

    >>> edges_of(torch.tensor([[0, 1, 1, 0]]), torch.ones(1, 4).bool(), None, 1)
    tensor([2.])
    """
    if known is None:
        return edge_length(label, valid)
    return compared_edges(label, valid, known, window)


def compared_edges(
    label: Tensor, valid: Tensor, known: Tensor, window: int | Sequence[int]
) -> Tensor:
    """How much edge of every label is compared at a time, ``(batch,)``.

    Of the positions that some displacement brings to where the prediction is known, as many
    count as are compared without displacement; arguments as for :class:`ShiftAligner`.

    Trap: where edges are much denser in one place than in others, this is right on average only.

    >>> label, valid = torch.arange(9).view(1, 9) % 2, torch.ones(1, 9).bool()
    >>> compared_edges(label, valid, torch.arange(9).view(1, 9) // 3 == 1, 1)
    tensor([2.4000])
    """
    reach = along_axes(window, known.shape[1:])
    near = known.float()
    for axis, far in enumerate(reach, start=1):
        lines = near.movedim(axis, -1)
        grown = max_pool1d(lines.flatten(0, -2).unsqueeze(1), 2 * far + 1, stride=1, padding=far)
        near = grown.view(lines.shape).movedim(-1, axis)
    within = valid & (near > 0)
    compared, reached = ((valid & where).flatten(1).sum(1) for where in (known, within))
    return edge_length(label, within) * (compared / reached.clamp(min=1)).clamp(max=1)


def moved(label: Tensor, valid: Tensor, found: Placement) -> Alignment:
    """Labels moved to where they were found to belong; shapes as in :class:`ShiftAligner`.

    >>> one, none = torch.ones(1), torch.zeros(1)
    >>> found = Placement(torch.tensor([[1]]), one, none, torch.tensor([1], dtype=torch.uint8))
    >>> moved(torch.tensor([[1, 2, 3]]), torch.ones(1, 3).bool(), found).label
    tensor([[0, 1, 2]])
    """
    label, valid = shift(label, valid, found.displacement)
    displacement = found.displacement.float()
    return Alignment(label, valid, displacement, found.confidence, found.gain, found.reason)
