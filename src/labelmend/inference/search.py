"""Where whole labels belong, by what a run's network predicts for whole images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.choice import shift_aligner, transform_aligner
from labelmend.alignment.correlation import Places
from labelmend.alignment.placement import edge_length
from labelmend.alignment.score_maps import Shifts, added
from labelmend.alignment.scores import REGRESSION_SCORES
from labelmend.alignment.transform_search import TransformAligner
from labelmend.data.grid import Grid
from labelmend.data.patches import regions
from labelmend.errors import SettingsError, unknown
from labelmend.inference.offsets import part_of
from labelmend.runs import Run
from labelmend.types import CLEAR, IN_PLACE, MOVED, PARTLY, Sample

Transform = Literal["shift", "rigid", "similarity", "affine"]
"""How a label may move."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where one label belongs.

    Attributes:
        displacement: ``(dims,)`` float64, in positions; of the centre of a label that also turns.
        confidence: as in :class:`labelmend.types.Alignment`.
        gain: likewise, in nats.
        reason: likewise.
        matrix: ``(dims, dims + 1)`` float64, from positions of the label to where they go, of a
            label that does more than shift.
    """

    displacement: np.ndarray
    confidence: float
    gain: float
    reason: int
    matrix: np.ndarray | None = None

    @property
    def moves(self) -> bool:
        """Whether the label goes anywhere."""
        return self.matrix is not None or bool(self.displacement.any())

    @property
    def clear(self) -> bool:
        """Whether its place is known, along some directions at least."""
        return self.reason in CLEAR

    def less(self, offset: np.ndarray) -> Place:
        """Moved by so much less, for all labels together are to stay where they are."""
        if not self.clear or self.matrix is not None:
            return self
        displacement = np.round(self.displacement - offset)
        reason = self.reason if self.reason == PARTLY else MOVED if displacement.any() else IN_PLACE
        return replace(self, displacement=displacement, reason=reason)

    def in_file(self, grid: Grid) -> Place:
        """The same in positions of the file, from positions of the grid that a network sees.

        What only shifts does so by whole positions of the file.

        >>> grid = Grid((8,), (4,), (0.5,), (2.0,))
        >>> Place(np.array([3.0]), 1.0, 9.0, MOVED).in_file(grid).displacement
        array([6.])
        """
        step, origin = np.array(grid.step), np.array(grid.origin)
        displacement = self.displacement * step
        if self.matrix is None:
            return replace(self, displacement=np.round(displacement) + 0.0)
        turn = step[:, None] * self.matrix[:, :-1] / step
        shift = origin + step * self.matrix[:, -1] - turn @ origin
        matrix = np.concatenate([turn, shift[:, None]], 1)
        return replace(self, displacement=displacement, matrix=matrix)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What one label, or several that move alike, say of where they belong.

    Attributes:
        likely: ``(1, *shifts)`` float64, how likely every displacement is, in nats.
        edges: ``(1,)``, how much edge that rests on.
    """

    likely: Shifts
    edges: Tensor

    def __add__(self, other: Evidence) -> Evidence:
        score = torch.cat([self.likely.score, other.likely.score])
        overlap = torch.cat([self.likely.overlap, other.likely.overlap])
        both = added(Shifts(score, overlap, self.likely.window), torch.zeros(2, dtype=torch.int64))
        likely = Shifts(both.score[:1], both.overlap[:1], both.window)
        return Evidence(likely, self.edges + other.edges)


@dataclass(frozen=True, slots=True)
class Search:
    """Finds where the weak labels of a run belong, as its training did.

    Attributes:
        shifts: what looks for shifts.
        turns: what looks for more than shifts, where labels may do more.
        per: what moves as one: ``sample``, ``annotator``, ``group`` or ``set``.
        centred: whether the mean shift of all labels is held at zero.
        device: where it computes.
    """

    shifts: ShiftAligner
    turns: TransformAligner | None
    per: str
    centred: bool
    device: torch.device

    def whose(self, sample: Sample) -> str:
        """The name of what a sample moves together with."""
        if self.per == "sample":
            return sample.id
        return "" if self.per == "set" else str(getattr(sample, self.per))

    def evidence(self, seen: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Evidence:
        """What a label says of its shift; a large one is compared in parts, which are added.

        Args:
            seen: ``(scores, *space)``, what the network says.
            label: class indices ``(*space)``, or ``(channels, *space)`` float.
            valid: ``(*space)`` bool.
        """
        total: Evidence | None = None
        for region in regions(valid.shape, part_of(valid.shape), 0.0):
            given = self._given(seen, label, valid, region.slices)
            edges = edge_length(given[1], given[2])
            found = self.shifts.likely(*given, edges)
            score = found.score.cpu().double()
            one = Evidence(Shifts(score, found.overlap.cpu(), found.window), edges.cpu())
            total = one if total is None else total + one
        if total is None:
            raise AssertionError("regions() covers every image with at least one region")
        return total

    def decide(self, evidence: Evidence) -> Place:
        """Where labels of that evidence belong, in positions of what was compared."""
        found = self.shifts.decide(evidence.likely, evidence.edges)
        displacement = found.displacement[0].double().numpy()
        sure, gain = float(found.confidence[0]), float(found.gain[0])
        return Place(displacement, sure, gain, int(found.reason[0]))

    def find(self, seen: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Place:
        """Where a label by itself belongs; shapes as for :meth:`evidence`."""
        if self.turns is None:
            return self.decide(self.evidence(seen, label, valid))
        found = self.turns.find(*self._given(seen, label, valid, ()))
        displacement = found.displacement[0].double().cpu().numpy()
        matrix = found.matrix[0].double().cpu().numpy() if bool(found.turned[0]) else None
        sure, gain = float(found.confidence[0]), float(found.gain[0])
        return Place(displacement, sure, gain, int(found.reason[0]), matrix)

    def _given(
        self, seen: np.ndarray, label: np.ndarray, valid: np.ndarray, cut: Places
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is compared of a part, as a batch of one."""
        every: Places = (..., *cut)
        claimed = torch.from_numpy(label[every].copy())[None].to(self.device)
        return (
            torch.from_numpy(seen[every].copy())[None].to(self.device),
            claimed if claimed.is_floating_point() else claimed.long(),
            torch.from_numpy(valid[every].copy())[None].to(self.device),
        )


def make_search(run: Run, transform: Transform | None, device: torch.device) -> Search:
    """The search of a run's settings, or with another transform; a shift where it has none.

    Raises:
        SettingsError: for an unknown transform, one that groups of labels cannot share, or a score
            that these labels cannot have.
    """
    chosen = run.settings.align
    if transform is not None and transform not in get_args(Transform):
        raise unknown("transform", transform, get_args(Transform))
    kind = transform or ("shift" if chosen.transform == "none" else chosen.transform)
    if kind != "shift" and chosen.per != "sample":
        raise SettingsError(
            f"{run.path}: align.per = {chosen.per!r} moves many labels by one shift, and "
            f"{kind} is none; take --align shift"
        )
    if run.data.spec.task == "regression" and chosen.score not in REGRESSION_SCORES:
        raise SettingsError(
            f"{run.path}: align.score = {chosen.score!r} compares classes, and these labels are "
            "continuous values; train with another score"
        )
    options, window = chosen.model_dump(), chosen.window_in(run.facts["patch"])
    shifts = shift_aligner(window, options)
    if kind == "shift":
        centred = chosen.is_centred(anchored=_anchored(run))
        return Search(shifts, None, chosen.per, centred, device)
    return Search(shifts, transform_aligner(kind, window, options), "sample", False, device)


def mean_shift(places: Sequence[Place], dims: int) -> np.ndarray:
    """The mean displacement ``(dims,)`` of those labels whose place is clear.

    >>> clear, unsure = Place(np.array([2.0]), 1, 9, MOVED), Place(np.array([0.0]), 0, 0, 3)
    >>> mean_shift([clear, unsure], 1)
    array([2.])
    """
    known = [place.displacement for place in places if place.clear]
    return np.mean(known, axis=0) if known else np.zeros(dims)


def _anchored(run: Run) -> bool:
    """Whether strong labels said in training where labels belong."""
    return bool(run.data.of("train", "strong")) and run.settings.batch.strong_share != 0
