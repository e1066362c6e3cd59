"""Rounds of a search: transforms and shifts about the best so far, weighed against each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from labelmend.alignment.correlation import Way, make_frame
from labelmend.alignment.limits import score_limit
from labelmend.alignment.placement import belief
from labelmend.alignment.resolution import Resolution
from labelmend.alignment.score_maps import Shifts, added, displacements, subpixel, together
from labelmend.alignment.scores import score_shifts
from labelmend.alignment.transform_candidates import Family

_AT_ONCE, _AT_ONCE_ELSEWHERE = 2**22, 2**26
"""How many values of predictions are laid beside labels at a time, on a CPU and on others."""

_USUAL_BATCH = 16


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the edges of labels lie, about the centre of the space, in positions.

    Attributes:
        mean: ``(batch, dims)``.
        square: ``(batch, dims, dims)``, the mean of the products of coordinates.

    Trap: of a label without edges both are 0, and everything is in the same place.
    """

    mean: Tensor
    square: Tensor

    def apart(self, change: Tensor, shift: Tensor) -> Tensor:
        """How far two transforms put edges apart: the root of the mean square, in positions.

        Args:
            change: ``(batch, number, dims, dims)``, the difference of linear parts.
            shift: ``(batch, shifts, dims)``, the difference of displacements.

        Returns:
            ``(batch, number, shifts)``: of ``|change · q + shift|`` over all edge positions ``q``.
        """
        half = (change.unsqueeze(4) * self.square[:, None, None]).sum(3)
        own = (half * change).sum((2, 3))
        turned = (change * self.mean[:, None, None]).sum(3)
        mixed = (turned.unsqueeze(2) * shift.unsqueeze(1)).sum(3)
        far = own.unsqueeze(2) + 2 * mixed + shift.square().sum(2).unsqueeze(1)
        return far.clamp(min=0).sqrt()


def edge_spread(of: Resolution, space: Sequence[int], group: Tensor | None) -> Spread:
    """Where the edges of the labels of a space are; those of a group are taken together."""
    dims = len(space)
    stay = torch.eye(dims, dims + 1, device=of.valid.device, dtype=of.prediction.dtype)
    weight = _edges(*of.read(stay.expand(1, 1, -1, -1))).to(of.prediction.dtype).flatten(1)
    lines = [
        torch.arange(small, device=weight.device) * factor + (factor - size) / 2
        for small, factor, size in zip(of.small, of.factors, space, strict=True)
    ]
    at = torch.stack(torch.meshgrid(*lines, indexing="ij"), 0).flatten(1).to(weight.dtype)
    columns = [torch.ones_like(at[0]), *at, *(one * other for one in at for other in at)]
    # Sums written out, for products of matrices may be less exact on some devices.
    sums = torch.stack([(weight * column).sum(1) for column in columns], 1)
    if group is not None:
        sums = together(sums, group)
    mean = sums / torch.where(sums[:, :1] > 0, sums[:, :1], 1)
    return Spread(mean[:, 1 : 1 + dims], mean[:, 1 + dims :].reshape(-1, dims, dims))


def _edges(label: Tensor, valid: Tensor) -> Tensor:
    """How much labels differ from their next neighbours, ``(batch, *space)``."""
    values = label.unsqueeze(1) if label.ndim == valid.ndim else label
    found = torch.zeros(valid.shape, device=valid.device)
    for axis in range(1, valid.ndim):
        length = valid.shape[axis] - 1
        both = valid.narrow(axis, 0, length) & valid.narrow(axis, 1, length)
        change = values.narrow(axis + 1, 1, length) - values.narrow(axis + 1, 0, length)
        size = change.abs() if label.is_floating_point() else change != 0
        found.narrow(axis, 0, length).add_(torch.where(both, size.float().mean(1), 0))
    return found


@dataclass(frozen=True, slots=True)
class Guess:
    """The best transforms so far.

    Attributes:
        parameters: ``(batch, parameters)`` of the family.
        displacement: ``(batch, dims)`` float, of the label's centre, in positions.
        likely: ``(batch,)`` nats, prior included; −inf where nothing can be said.
        sure: ``(batch,)``, the probability that it is right, among what was tried.
    """

    parameters: Tensor
    displacement: Tensor
    likely: Tensor
    sure: Tensor


@dataclass(frozen=True, slots=True)
class Round:
    """What is tried about a guess.

    Attributes:
        at: the resolution.
        steps: how many steps to either side, for every parameter; all combinations are tried.
        sizes: how large a step is, for every parameter.
        window: how far to shift, in positions of the resolution.
        near: how far apart edges may be put to count as in one place, in positions.
        alike: whether the guess is the same for all samples, which is quicker.
    """

    at: Resolution
    steps: tuple[int, ...]
    sizes: tuple[float, ...]
    window: tuple[int, ...]
    near: float
    alike: bool = False

    def only(self, which: Iterable[int]) -> Round:
        """The same, but of these parameters alone."""
        some = set(which)
        return replace(self, steps=tuple(n * (k in some) for k, n in enumerate(self.steps)))

    def smaller(self) -> Round:
        """One step to either side, half as large."""
        halves = tuple(size / 2 for size in self.sizes)
        return replace(self, steps=tuple(min(n, 1) for n in self.steps), sizes=halves)

    def offsets(self, like: Tensor) -> Tensor:
        """``(number, parameters)``; the middle one is 0."""
        lines = [
            [size * i for i in range(-number, number + 1)]
            for number, size in zip(self.steps, self.sizes, strict=True)
        ]
        return like.new_tensor(list(product(*lines)))


@dataclass(frozen=True, slots=True)
class Search:
    """What all rounds of a search share.

    Attributes:
        family: the transforms.
        score: the name of a score.
        edges: ``(batch,)``, edge length of each label by itself.
        spread: where edges are.
        group: ``(batch,)`` int64 or None.
        window: the largest displacement along every axis, in positions.
        prior: the deviation of a normal prior on the displacement, in positions.
        near: how far apart edges may be put to count as in one place, in positions.
        least_overlap: as in :func:`labelmend.alignment.scores.score_shifts`.
        grain: as in :func:`labelmend.alignment.placement.belief`.
    """

    family: Family
    score: str
    edges: Tensor
    spread: Spread
    group: Tensor | None
    window: tuple[int, ...]
    prior: float
    near: float
    least_overlap: float
    grain: float

    def start(self) -> Guess:
        """That labels stay where they are."""
        none = self.spread.mean
        parameters = none.new_zeros(len(none), len(self.family.ranges))
        zero = none.new_zeros(len(none))
        return Guess(parameters, torch.zeros_like(none), zero, zero + 1)

    def linear(self, tried: Tensor) -> Tensor:
        """The linear parts of ``(batch, number, parameters)``, ``(batch, number, dims, dims)``."""
        flat = tried.flatten(0, 1)
        none = flat.new_zeros(len(flat), len(self.window))
        linear = self.family.matrices(flat, none)[..., :-1]
        return linear.reshape(*tried.shape[:2], *linear.shape[1:])

    def apart(self, one: Guess, other: Guess) -> Tensor:
        """How far two guesses put the edges of labels apart, ``(batch,)``, in positions."""
        linear = [self.linear(guess.parameters.unsqueeze(1)) for guess in (one, other)]
        away = (one.displacement - other.displacement).unsqueeze(1)
        return self.spread.apart(linear[0] - linear[1], away)[:, 0, 0]

    def tried(self, guess: Guess, what: Round) -> tuple[Tensor, Tensor]:
        """``(batch, number, parameters)``, and displacements ``(batch, shifts, dims)``."""
        parameters = guess.parameters.unsqueeze(1) + what.offsets(guess.parameters)
        factors = guess.displacement.new_tensor(what.at.factors)
        steps = displacements(what.window, factors.device) * factors
        return self.family.bound(parameters), guess.displacement.unsqueeze(1) + steps

    def likely(self, guess: Guess, what: Round) -> Tensor:
        """How likely what is tried is, in nats, prior included, ``(batch, number, shifts)``."""
        tried, moved = self.tried(guess, what)
        most = _AT_ONCE if moved.device.type == "cpu" else _AT_ONCE_ELSEWHERE
        size = max(1, most // max(what.at.prediction.numel(), 1))
        parts = [
            self._maps(what, tried[:, first : first + size], guess.displacement)
            for first in range(0, tried.shape[1], size)
        ]
        cost = 0.5 * moved.square().sum(2) / self.prior**2
        outside = (moved.abs() > moved.new_tensor(self.window) + 0.5).any(2)
        cost = torch.where(outside, torch.inf, cost)
        return torch.cat(parts, 1) - self.family.cost(tried).unsqueeze(2) - cost.unsqueeze(1)

    def _maps(self, what: Round, tried: Tensor, base: Tensor) -> Tensor:
        """How likely, without the prior."""
        batch, number = tried.shape[:2]
        some = 1 if what.alike else batch
        every = base[:some].repeat_interleave(number, 0)
        matrix = self.family.matrices(tried[:some].flatten(0, 1), every)
        label, valid = what.at.read(matrix.reshape(some, number, *matrix.shape[1:]))
        known = None if what.at.known is None else what.at.known.repeat_interleave(number, 0)
        prediction, edges = (
            t.repeat_interleave(number, 0) for t in (what.at.prediction, self.edges)
        )
        given = prediction, label, valid, self.score
        way = _way(what.at.small, what.window)
        least = self.least_overlap
        maps = score_shifts(*given, what.window, way=way, known=known, least_overlap=least)
        limit = score_limit(*given, known)
        nats = belief(maps, self.score, edges, limit=limit, grain=self.grain)
        score, overlap = (
            t.reshape(batch, number, *t.shape[1:]) for t in (nats.score, nats.overlap)
        )
        if self.group is not None:
            own = [Shifts(score[:, k], overlap[:, k], nats.window) for k in range(number)]
            score = torch.stack([added(one, self.group).score for one in own], 1)
        return score.flatten(2)

    def improve(self, guess: Guess, what: Round) -> tuple[Guess, Tensor]:
        """The best of what is tried about a guess, and how likely all of it was.

        Between steps the best is found by parabolas. What a guess was sure of before is
        multiplied by how sure it is now, for that was all given that it had been right.
        """
        likely = self.likely(guess, what)
        return self.best(likely, guess, what), likely

    def best(self, likely: Tensor, guess: Guess, what: Round) -> Guess:
        """The best of what was tried, from how likely that was; see :meth:`improve`."""
        tried, moved = self.tried(guess, what)
        top, index = likely.flatten(1).max(1)
        which, where = index // likely.shape[2], index % likely.shape[2]
        rows = torch.arange(len(likely), device=index.device)
        chance = torch.where(top.isfinite()[:, None, None], likely, 0).flatten(1).softmax(1)
        linear = self.linear(tried)
        change = linear - linear[rows, which].unsqueeze(1)
        same = self.spread.apart(change, moved - moved[rows, where].unsqueeze(1)) <= what.near
        sure = torch.where(same.flatten(1), chance, 0).sum(1).clamp(max=1)
        turned = _between(likely.amax(2), what.steps, which) * likely.new_tensor(what.sizes)
        shifted = _between(likely[rows, which], what.window, where)
        shifted = shifted * likely.new_tensor(what.at.factors)
        return Guess(
            self.family.bound(tried[rows, which] + turned),
            moved[rows, where] + shifted,
            top,
            torch.where(top.isfinite(), sure * guess.sure, 0),
        )


def _between(values: Tensor, steps: tuple[int, ...], index: Tensor) -> Tensor:
    """How far from one of the flattened values the top lies, in steps, ``(batch, axes)``."""
    sides = [2 * k + 1 for k in steps]
    maps = values.reshape(-1, *sides)
    at = displacements(steps, values.device)[index]
    return subpixel(Shifts(maps, torch.zeros_like(maps, dtype=torch.int64), steps), at) - at


def _way(space: Sequence[int], window: Sequence[int]) -> Way:
    """The same for any batch, so that a sample does not depend on how many there are."""
    return "direct" if make_frame(space, window, batch=_USUAL_BATCH).direct else "fft"
