"""Where do labels fit their predictions best: each by itself, and all by one displacement?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

from labelmend.alignment.correlation import Places
from labelmend.alignment.score_maps import Shifts, best_shift, subpixel
from labelmend.alignment.scores import score_shifts
from labelmend.alignment.shifts import shift
from labelmend.data.patches import regions
from labelmend.errors import SettingsError
from labelmend.types import DataSpec

AT_ONCE = 2**22
"""Positions of an image that are searched at a time, so that memory is bounded: 2048²."""
MOST_PLACES = 2**20
"""Displacements in the largest window."""
PARTS = 10
"""Samples are added up in as many parts, which must agree with each other."""
LEAST = 3
"""With fewer samples one cannot tell what they have in common from what each has by chance."""
SURE = 0.975
"""How sure, as a share, it must be that one displacement fits better than another."""


@dataclass(frozen=True, slots=True)
class Case:
    """One sample as it is judged.

    Attributes:
        scores: ``(scores, *space)``; for class labels their largest decides.
        label: class indices ``(*space)``, or ``(channels, *space)`` float for regression.
        valid: ``(*space)`` bool.
        spacing: distance between positions along every space axis.
    """

    scores: np.ndarray
    label: np.ndarray
    valid: np.ndarray
    spacing: tuple[float, ...] | None = None

    def moved(self, displacement: Sequence[int]) -> Case:
        """The same prediction, and the label moved by whole positions."""
        classes = not np.issubdtype(self.label.dtype, np.floating)
        label = torch.from_numpy(self.label.astype(np.int64) if classes else self.label)
        valid = torch.from_numpy(self.valid)
        moved = shift(label[None], valid[None], torch.tensor([list(displacement)]))
        return Case(self.scores, moved[0][0].numpy(), moved[1][0].numpy(), self.spacing)

    def decided(self) -> Case:
        """The same in less memory, for class labels: which score is largest is all that is left.

        Trap: there is nothing left to search by.
        """
        if np.issubdtype(self.label.dtype, np.floating):
            return self
        index = np.arange(len(self.scores)).reshape(-1, *[1] * self.valid.ndim)
        label = self.label.astype(np.min_scalar_type(len(self.scores)))
        return Case(self.scores.argmax(0) == index, label, self.valid, self.spacing)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.scores.nbytes + self.label.nbytes + self.valid.nbytes


@dataclass(frozen=True, slots=True)
class Offset:
    """The one displacement by which all labels of a split would fit their predictions best.

    Attributes:
        tolerance: how far it was looked for, in positions of the files.
        samples: how many were of use: their label and their prediction are not flat.
        displacement: predictions lie by it off their labels, axes as in the file; all zeros where
            no other is surely better; None where it is not known.
        refined: the same in fractions of a position.
        within: along every axis the farthest place that fits about as well; None likewise.
        reason: why it is not known.
        edge: whether it may be larger, for more was not looked at.
        mean: figures with all labels moved by it, where that is a move.
    """

    tolerance: int
    samples: int
    displacement: tuple[int, ...] | None = None
    refined: tuple[float, ...] | None = None
    within: tuple[int, ...] | None = None
    reason: str = ""
    edge: bool = False
    mean: Mapping[str, float] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether there is one that is not 0."""
        return self.displacement is not None and any(self.displacement)

    def judged(self, mean: Mapping[str, float], raw: Mapping[str, float]) -> Offset:
        """With the figures of labels moved by it; not known where they are no better."""
        metric = main_metric(mean)
        if self.displacement is None or not mean[metric] > raw[metric]:
            there = place(self.displacement or ())
            reason = f"{there} fits best, but mean {metric} is no better there"
            return Offset(self.tolerance, self.samples, reason=reason)
        return replace(self, mean=mean)

    def said(self, raw: Mapping[str, float]) -> str:
        """One sentence for a person; ``raw`` are the mean figures of labels where they are."""
        if self.displacement is None or self.within is None:
            return f"constant offset not known: {self.reason}"
        if not self.found:
            most = _many(max(self.within), "position")
            hidden = f"; one of up to {most} could go unnoticed" if max(self.within) else ""
            return f"no constant offset found within {_many(self.tolerance, 'position')}{hidden}"
        metric = main_metric(self.mean)
        text = (
            f"all predictions lie {place(self.displacement)} positions off their labels: with "
            f"every label moved by that, mean {metric} is {self.mean[metric]:.3f}, "
            f"not {raw[metric]:.3f}"
        )
        more = f"; it may be more than was searched: --tolerance {2 * self.tolerance}"
        return text + more * self.edge

    def to_json(self, raw: Mapping[str, float]) -> dict[str, Any]:
        """Plain values, and the sentence."""
        return {
            "displacement": None if self.displacement is None else list(self.displacement),
            "refined": None if self.refined is None else [round(v, 3) for v in self.refined],
            "within": None if self.within is None else list(self.within),
            "samples": self.samples,
            "mean": {n: v if math.isfinite(v) else None for n, v in self.mean.items()} or None,
            "said": self.said(raw),
        }


def check_tolerance(tolerance: int, dims: int) -> None:
    """Refuse a window that is none, or that would take all memory.

    >>> check_tolerance(-1, 2)
    Traceback (most recent call last):
    labelmend.errors.SettingsError: tolerance must be 0 (off) to 511 positions, not -1
    """
    most = int((MOST_PLACES ** (1 / dims) - 1) // 2)
    if not 0 <= tolerance <= most:
        raise SettingsError(f"tolerance must be 0 (off) to {most} positions, not {tolerance}")


def main_metric(mean: Mapping[str, float]) -> str:
    """The figure that decides which place is better; larger is better.

    >>> main_metric({"mae": 0.1, "psnr": 20.0})
    'psnr'
    """
    return "dice" if "dice" in mean else "psnr"


def place(displacement: Sequence[int]) -> str:
    """A displacement for a person.

    >>> place((3, 0, -1)), place((3,))
    ('(+3, 0, -1)', '+3')
    """
    signed = [f"{v:+d}" if v else "0" for v in displacement]
    return signed[0] if len(signed) == 1 else f"({', '.join(signed)})"


def fit(case: Case, spec: DataSpec, tolerance: int) -> tuple[Tensor, Tensor]:
    """How well a label fits its prediction at every displacement up to ``tolerance``.

    Zero-normalised correlation of foreground probabilities or values. Where too little is shared
    the score is that of the label where it is: nothing is gained there. An image too large to be
    searched at once is searched in parts, and their maps are added.

    Returns:
        The map ``(*shifts)`` float32, and ``(*shifts)`` bool, where it was scored. The map is the
        same everywhere where nothing can be said: an empty label, a flat prediction.

    Source: seed B ¶33. Trap: the best place of one map is no proof; see :class:`Pool`.

    >>> scores, label = np.eye(2, dtype=np.float32)[:, [0, 0, 1, 0, 0]], np.array([0, 1, 0, 0, 0])
    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 1, 1, "none", ".npy")
    >>> best(*fit(Case(scores, label, label < 2), spec, 2))
    (1,)
    """
    dims = case.valid.ndim
    maps, scored = [], torch.zeros((2 * tolerance + 1,) * dims, dtype=torch.bool)
    for region in regions(case.valid.shape, part_of(case.valid.shape), 0.0):
        cut: Places = (..., *region.slices)
        label = torch.from_numpy(case.label[cut].copy())
        found = score_shifts(
            torch.from_numpy(case.scores[cut].copy())[None],
            (label if spec.task == "regression" else label.long())[None],
            torch.from_numpy(case.valid[cut].copy())[None],
            "normalised",
            tolerance,
        )
        score = found.score[0].float()
        here = score[(tolerance,) * dims]
        if not here.isfinite():
            continue  # nothing of this part is valid
        scored |= score.isfinite()
        filled = torch.where(score.isfinite(), score, here)
        if bool((filled != here).any()):
            maps.append(filled)
    empty = torch.zeros(scored.shape)
    return (torch.stack(maps).mean(0) if maps else empty), scored


def best(score: Tensor, scored: Tensor) -> tuple[int, ...]:
    """The displacement of the largest score of a map from :func:`fit`; the shortest of ties.

    >>> best(torch.zeros(3, 3), torch.ones(3, 3, dtype=torch.bool))
    (0, 0)
    """
    return _best(score[None], scored)[0]


def _best(score: Tensor, scored: Tensor) -> list[tuple[int, ...]]:
    shifts = _shifts(score, scored)
    return [tuple(row) for row in best_shift(shifts)[0].tolist()]


def _shifts(score: Tensor, scored: Tensor) -> Shifts:
    shown = torch.where(scored, score.float(), -torch.inf)
    window = tuple((n - 1) // 2 for n in scored.shape)
    return Shifts(shown, scored.long().expand(shown.shape), window)


class Pool:
    """Maps of many samples added up, and the displacement that all of them share.

    It keeps the sums of :data:`PARTS` parts of the samples. One displacement is better than
    another where it is so in part after part, beyond what chance makes of that many (Student's t).
    There is an offset where its place is better than none in that sense, and nothing is known
    where places far apart are no worse than each other.

    Attributes:
        tolerance: the largest displacement, in positions along every axis.
        count: how many maps have been added that say anything.

    Trap: labels that are each off by something else have a mean that is off, by chance, a little;
    ``within`` of the result says how much would go unnoticed.

    >>> pool = Pool(1, 1)
    >>> for _ in range(4):
    ...     pool.add(torch.tensor([0.1, 0.2, 0.9]), torch.ones(3, dtype=torch.bool))
    >>> pool.offset().displacement
    (1,)
    """

    def __init__(self, tolerance: int, dims: int) -> None:
        shape = (2 * tolerance + 1,) * dims
        self.tolerance, self.count = tolerance, 0
        self._sums = torch.zeros(PARTS, *shape, dtype=torch.float64)
        self._scored = torch.zeros(shape, dtype=torch.int64)

    def add(self, score: Tensor, scored: Tensor) -> None:
        """A map from :func:`fit`; one that says nothing is left out."""
        if not bool((score != score.flatten()[0]).any()):
            return
        self._sums[self.count % PARTS] += score
        self._scored += scored
        self.count += 1

    def offset(self) -> Offset:
        """What all samples have in common, if it can be known."""
        if self.count < LEAST:
            some = _many(self.count, "sample")
            return self._unknown(f"{some} with something to compare, and {LEAST} are needed")
        # Where most samples have no score, the others would decide for them.
        scored = self._scored * 2 >= self.count
        mean = self._sums.sum(0) / self.count
        (top,) = _best(mean[None], scored)
        none = (0,) * len(top)
        alike = self._alike(top, scored)
        if self._at(alike, none):
            if max(map(abs, top)) > 1:
                return self._unknown(f"{place(top)} fits best, but not in sample after sample")
            top = none
        within, reach = _farthest(alike, top), _farthest(scored, none)
        vague = [2 * w > r for w, r in zip(within, reach, strict=True)]
        # A displacement along one axis may be known where labels say nothing of another, as lines.
        if any(v and (t or top == none) for v, t in zip(vague, top, strict=True)):
            far = _many(max(within), "position")
            return self._unknown(f"places {far} from the best one fit about as well")
        edge = max(map(abs, top)) == self.tolerance
        refined = subpixel(_shifts(mean[None], scored), torch.tensor([top]))[0].tolist()
        return Offset(self.tolerance, self.count, top, tuple(refined), within, edge=edge)

    def _unknown(self, reason: str) -> Offset:
        return Offset(self.tolerance, self.count, reason=reason)

    def _alike(self, top: tuple[int, ...], scored: Tensor) -> Tensor:
        """Which places are not surely worse than the best one, ``(*shifts)`` bool."""
        parts = min(PARTS, self.count)
        many = torch.tensor([len(range(i, self.count, PARTS)) for i in range(parts)])
        means = self._sums[:parts] / many.reshape(-1, *[1] * scored.ndim)
        alike = scored & ~_consistent(torch.stack([self._at(m, top) - m for m in means]))
        alike[tuple(t + self.tolerance for t in top)] = True
        return alike

    def _at(self, score: Tensor, displacement: Sequence[int]) -> Tensor:
        return score[tuple(d + self.tolerance for d in displacement)]


def _consistent(values: Tensor) -> Tensor:
    """Whether values, one per part along the first axis, are above 0 by more than chance."""
    parts = len(values)
    error = values.std(0) / math.sqrt(parts)
    # What differs by rounding only is alike.
    room = torch.finfo(torch.float32).eps * 16
    return values.mean(0) > error * float(special.stdtrit(parts - 1, SURE)) + room


def _farthest(places: Tensor, origin: Sequence[int]) -> tuple[int, ...]:
    """How far from a displacement, along every axis, the marked ones of a window reach."""
    found = zip(places.nonzero(as_tuple=True), places.shape, origin, strict=True)
    return tuple(int((index - (size - 1) // 2 - at).abs().max()) for index, size, at in found)


def part_of(size: Sequence[int]) -> tuple[int, ...]:
    """The size of the parts in which an image is searched.

    >>> part_of((4096, 3000))
    (2048, 1500)
    """
    part = list(size)
    while math.prod(part) > AT_ONCE:
        longest = part.index(max(part))
        part[longest] = -(-part[longest] // 2)
    return tuple(part)


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
