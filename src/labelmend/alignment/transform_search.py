"""Turn, stretch and shear labels to where predictions say they belong, if that is clearly better.

Coarse to fine: a grid of transforms at a fraction of the resolution, each with all shifts in the
window; then smaller steps about the best of them at a finer one. Transforms and shifts are weighed
together, as shifts are in :mod:`labelmend.alignment.placement`. Two of them count as one where
they put the edges of the label to the same places: a small object far from the centre cannot tell
a turn from a shift, and need not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from labelmend.alignment.affine import shift_matrix, warp_affine
from labelmend.alignment.aligner import ShiftAligner, edges_of, says_nothing
from labelmend.alignment.comparison import check_comparison
from labelmend.alignment.correlation import make_frame
from labelmend.alignment.placement import GRAIN
from labelmend.alignment.resolution import Resolution, at_resolution, coarse_factors, coarser
from labelmend.alignment.scores import SCORES
from labelmend.alignment.shifts import shift
from labelmend.alignment.transform_candidates import KINDS, Family, Kind
from labelmend.alignment.transform_rounds import Guess, Round, Search, edge_spread
from labelmend.errors import SettingsError, unknown
from labelmend.types import MOVED, Alignment

_SPACING = 1.4
"""How far a step moves the end of the longest axis, in positions of the coarse resolution."""

_NEAR = 1.5
"""Transforms that put edges less than so many positions apart are one, times ``near``."""

_WORTH = 1.0
"""Turning must bring edges further than this from where a shift alone would, in positions."""

_ABOUT = 1
"""Shifts in rounds after the first, in positions of their resolution."""


@dataclass(frozen=True, slots=True)
class Transformation:
    """Where the labels of a batch belong, if they may do more than shift.

    Attributes:
        matrix: ``(batch, dims, dims + 1)``, from positions of the label to where they go.
        turned: ``(batch,)`` bool, whether it does more than shift by whole positions.
        displacement: ``(batch, dims)`` float, of the label's centre, in positions.
        confidence: ``(batch,)`` float in [0, 1]; of a label that turns, how probable it is that
            its edges come within ``1.5 · near`` of where they belong (the root of the mean square;
            shifts as in :class:`labelmend.alignment.placement.Placement`).
        gain: ``(batch,)`` float, how much more likely this is than not to move, in nats.
        reason: ``(batch,)`` uint8, why: places in :data:`labelmend.types.REASONS`.
    """

    matrix: Tensor
    turned: Tensor
    displacement: Tensor
    confidence: Tensor
    gain: Tensor
    reason: Tensor


@dataclass(frozen=True, slots=True)
class TransformAligner:
    """Turns, stretches or shears labels to where they fit a prediction best, if that is clear.

    What a shift explains as well is a shift, and what no shift explains well stays: turning
    does not make a label more likely than its best shift by ``margin`` for every parameter, or is
    not sure, or puts its edges less than a position elsewhere, a label goes where
    :class:`labelmend.alignment.aligner.ShiftAligner` puts it. So right labels come back as they
    were. It draws no random numbers and gives a sample the same place in any batch. No gradient
    flows through the search.

    Attributes:
        kind: ``"rigid"``, ``"similarity"`` or ``"affine"``; in 1-D a rigid transform is a shift.
        window: the largest displacement of the centre in positions, along every axis or for all.
        angle: the largest rotation in degrees; in 3-D about each of the axes.
        stretch: the largest change of size, 0.1 for a tenth; for affine, along any axis.
        shear: the largest slope between two axes, for affine.
        score: as for :class:`ShiftAligner`, as are all that follow.
        prior: of displacements; angles, sizes and slopes have half their ranges.
        confidence: the probability of being right that it takes to move.
        margin: how much more likely it must be than not to move, and than the best shift for every
            parameter beside it, in nats.
        near: as there; a label that turned is right if its edges are within 1.5 times that.
        least_overlap: as there.
        grain: as there.

    Raises:
        SettingsError: for an option out of range.

    Source: seed B3 (¶34, ¶46); the search and the decision are own. Trap: classes move by the
    nearest position, and a turned label has corners that came from outside; they are not valid.

    >>> from labelmend.alignment.affine import rotation_matrix
    >>> y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    >>> label = ((y - 20).abs() < 5).long() + ((x - 30).abs() < 4) * ((y - 20) > 4)
    >>> turn = rotation_matrix(torch.tensor([0.12]), (48, 48))
    >>> there, valid = warp_affine(label[None], label[None] > -1, turn)
    >>> seen = torch.nn.functional.one_hot(there, 2).movedim(-1, 1) * 6.0
    >>> moved = TransformAligner("rigid", window=4)(seen, label[None], valid | True)
    >>> moved.reasons, (moved.matrix[0, 1, 0] - 0.12).abs() < 0.02
    (('moved',), tensor(True))
    """

    kind: Kind
    window: int | tuple[int, ...] = 16
    angle: float = 10.0
    stretch: float = 0.1
    shear: float = 0.1
    score: str = "normalised"
    prior: float | None = None
    confidence: float = 0.95
    margin: float = 3.0
    near: float | None = None
    least_overlap: float = 0.5
    grain: float = GRAIN

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)
        if self.score not in SCORES:
            raise unknown("score", self.score, SCORES)
        for name, most in (("angle", 180.0), ("stretch", 1.0), ("shear", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise SettingsError(f"{name} must be 0 to {most}, not {getattr(self, name)}")
        if self.prior is not None and not self.prior > 0:
            raise SettingsError(f"prior must be above 0 positions, not {self.prior}")
        if not 0 < self.confidence <= 1:
            raise SettingsError(f"confidence must be above 0 and at most 1, not {self.confidence}")
        if not self.margin >= 0:
            raise SettingsError(f"margin must be at least 0 nats, not {self.margin}")
        if self.near is not None and not self.near >= 0:
            raise SettingsError(f"near must be at least 0 positions, not {self.near}")

    def __call__(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """Labels in their places, interpolated once; arguments as for :class:`ShiftAligner`.

        Raises:
            ShapeError: where shapes, types or devices do not fit.
        """
        found = self.find(prediction, label, valid, known=known, group=group)
        return transformed(label, valid, found)

    @torch.no_grad()
    def find(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Transformation:
        """Where labels belong; arguments as for a call."""
        check_comparison(prediction, label, valid, known)
        given = prediction, label, valid, known, group
        with torch.autocast(prediction.device.type, enabled=False):
            family = self._family(valid)
            if not len(valid) or not max(family.ranges, default=0.0) > 0:
                return self._shift(given)
            edges = edges_of(label, valid, known, self.window)
            flat = says_nothing(prediction, known, classes=not label.is_floating_point())
            # Without edges nothing is likelier than anything else.
            few = torch.where(flat, 0, edges)
            search, (turn, shift), gain = self._search(given, family, few)
            more = self.margin * len(family.ranges)
            turned = (turn.likely - shift.likely >= more) & (gain >= self.margin)
            turned &= (turn.sure >= self.confidence) & (search.apart(turn, shift) > _WORTH)
            rest = (~turned).nonzero().squeeze(1)
            if len(rest) == len(turned):
                return self._shift(given, edges, flat)
            matrix = family.matrices(turn.parameters, turn.displacement)
            reason = torch.full_like(turned, MOVED, dtype=torch.uint8)
            found = Transformation(matrix, turned, turn.displacement, turn.sure, gain, reason)
            if not len(rest):
                return found
            others = self._shift(_pick(given, rest), edges[rest], flat[rest])
            return _put(found, rest, others)

    def _family(self, valid: Tensor) -> Family:
        space = tuple(valid.shape[1:])
        return Family(self.kind, space, self.angle, self.stretch, self.shear)

    def _search(
        self, given: _Given, family: Family, edges: Tensor
    ) -> tuple[Search, tuple[Guess, Guess], Tensor]:
        """The best transform, the best shift, and what the first gains over staying."""
        prediction, label, valid, known, group = given
        space = family.space
        factors = coarse_factors(space)
        halves = tuple(-(-f // 2) for f in factors)
        fine = at_resolution(prediction, label, valid, known, halves)
        rough = coarser(fine, tuple(f // h for f, h in zip(factors, halves, strict=True)))
        window = make_frame(space, self.window).window
        edges = edges.to(rough.prediction.dtype)
        spread = edge_spread(rough, space, group)
        prior = self.prior if self.prior is not None else max(max(window) / 2, 1.0)
        near = _NEAR * (self.near if self.near is not None else max(max(window) / 16, 1.0))
        options = window, prior, near, self.least_overlap, self.grain
        search = Search(family, self.score, edges, spread, group, *options)
        turn, first, stay = _look_roughly(search, rough)
        turn, shift = _look_closely(search, rough, fine, (turn, first))
        return search, (turn, shift), turn.likely - shift.likely + first.likely - stay

    def _shift(
        self, given: _Given, edges: Tensor | None = None, flat: Tensor | None = None
    ) -> Transformation:
        """What labels do if they may only shift."""
        prediction, label, valid, known, group = given
        names = {f.name for f in fields(ShiftAligner)} & {f.name for f in fields(self)}
        aligner = ShiftAligner(**{name: getattr(self, name) for name in names})
        found = aligner.find(
            prediction, label, valid, known=known, group=group, edges=edges, flat=flat
        )
        displacement = found.displacement.to(torch.promote_types(prediction.dtype, torch.float32))
        turned = torch.zeros_like(found.reason, dtype=torch.bool)
        matrix = shift_matrix(displacement)
        return Transformation(
            matrix, turned, displacement, found.confidence, found.gain, found.reason
        )


_Given = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]


def transformed(label: Tensor, valid: Tensor, found: Transformation) -> Alignment:
    """Labels moved to where they were found to belong; what only shifts is not interpolated.

    Shapes as in :class:`TransformAligner`. Trap: the number type of channels stays, that of
    ``matrix`` need not be theirs.

    >>> label, valid = torch.tensor([[0, 1, 1, 0]]), torch.ones(1, 4, dtype=torch.bool)
    >>> nowhere = TransformAligner("rigid", window=1).find(torch.zeros(1, 2, 4), label, valid)
    >>> transformed(label, valid, nowhere).label
    tensor([[0, 1, 1, 0]])
    """
    turned = found.turned
    whole = torch.where(turned.unsqueeze(1), 0, found.displacement).round().long()
    to, known = shift(label, valid, whole)
    which = turned.nonzero().squeeze(1)
    if len(which):
        some = warp_affine(label[which], valid[which], found.matrix[which])
        to, known = to.index_copy(0, which, some[0]), known.index_copy(0, which, some[1])
    about = found.displacement, found.confidence, found.gain, found.reason, found.matrix
    return Alignment(to, known, *about)


def _look_roughly(search: Search, rough: Resolution) -> tuple[Guess, Guess, Tensor]:
    """The best transform and the best shift in the whole range, and how likely it is to stay."""
    steps, sizes = _steps(search, rough)
    first = search.family.together()
    window = tuple(-(-w // f) for w, f in zip(search.window, rough.factors, strict=True))
    whole = Round(rough, steps, sizes, window, search.near * max(rough.factors))
    grid = whole.only(range(first))
    guess, likely = search.improve(search.start(), replace(grid, alike=True))
    middle = likely.shape[1] // 2
    alone = likely[:, middle : middle + 1]
    shift = search.best(alone, search.start(), whole.only(()))
    about = replace(whole, window=(_ABOUT,) * len(window))
    for k in range(first, len(steps)):
        guess, _ = search.improve(guess, about.only((k,)))
    if first < len(steps):  # those tried first were found while the others were still wrong
        guess = _one_by_one(search, guess, about.smaller())
    return guess, shift, alone[:, 0, alone.shape[2] // 2]


def _look_closely(
    search: Search, rough: Resolution, fine: Resolution, guesses: tuple[Guess, Guess]
) -> tuple[Guess, Guess]:
    """The best transform and the best shift, once looked at roughly, at a finer resolution."""
    turn, shift = guesses
    window = (_ABOUT,) * len(search.window)
    what = Round(fine, *_steps(search, rough), window, search.near).smaller()
    return _one_by_one(search, turn, what), search.improve(shift, what.only(()))[0]


def _one_by_one(search: Search, guess: Guess, what: Round) -> Guess:
    """A guess made better in one parameter after the other."""
    for k, number in enumerate(what.steps):
        if number:
            guess, _ = search.improve(guess, what.only((k,)))
    return guess


def _steps(search: Search, rough: Resolution) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """How many steps divide every range, either sign, and how large they are."""
    steps = search.family.steps(_SPACING * max(rough.factors))
    return steps, tuple(r / max(k, 1) for r, k in zip(search.family.ranges, steps, strict=True))


def _pick(given: _Given, which: Tensor) -> _Given:
    prediction, label, valid, known, group = given
    known, group = (None if t is None else t[which] for t in (known, group))
    return prediction[which], label[which], valid[which], known, group


def _put(found: Transformation, which: Tensor, other: Transformation) -> Transformation:
    """The other ones in the places of some."""
    pairs = ((getattr(one, f.name) for one in (found, other)) for f in fields(found))
    return Transformation(*(a.index_copy(0, which, b.to(a.dtype)) for a, b in pairs))
