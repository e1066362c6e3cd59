"""What a run recorded of putting labels in place, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labelmend.inference.fixed import drift
from labelmend.report.gather import curve
from labelmend.report.story import Curve
from labelmend.runs import Run
from labelmend.types import CLEAR, REASONS, Sample

_CLEAR = tuple(REASONS[code] for code in CLEAR)


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """Where the training found one weak label to belong.

    ``displacement`` is in positions and the axes of the image as the network sees it, smoothed
    over looks; ``reason`` is that of the latest look.
    """

    sample: Sample
    displacement: tuple[float, ...]
    confidence: float
    reason: str

    @property
    def far(self) -> float:
        """The length of its displacement."""
        return math.hypot(*self.displacement)

    @property
    def clear(self) -> bool:
        """Whether its place was clear when it was last looked at."""
        return self.reason in _CLEAR

    @property
    def moves(self) -> bool:
        """Whether the label goes anywhere, by whole positions."""
        return any(round(v) for v in self.displacement)


@dataclass(frozen=True, slots=True)
class Bending:
    """How bending labels went, after they were put in place as a whole.

    Attributes:
        after: the search that came before it; ``none`` where there was none.
        start: the steps before it began; None where the run does not say.
        reach: the largest displacement of a field, in positions.
        bent: share of weak labels of a step that were bent.
        bent_by: how far the fields of weak labels move about their means, in positions.
        removed: share of what weak labels and predictions differ by that bending explains.
        removed_strong: the same of strong labels, which are in place and are not bent.
    """

    after: str
    start: int | None
    reach: float
    bent: Curve = field(default_factory=Curve)
    bent_by: Curve = field(default_factory=Curve)
    removed: Curve = field(default_factory=Curve)
    removed_strong: Curve = field(default_factory=Curve)


@dataclass(frozen=True, slots=True)
class Placings:
    """How putting labels in place went.

    Attributes:
        transform: how labels could move.
        per: what moved as one.
        start: the steps before the first label moved; None where the run does not say.
        window: the largest shift that was looked for.
        rows: the weak training labels that were looked at.
        moved: share of weak labels of a step that moved.
        unclear: share of those whose place was not clear.
        drift: how far the network would like strong labels moved, along every axis.
        drifted: the same at the end of training; None where it was never recorded.
        bending: how labels were bent after that; None where none was to be.
    """

    transform: str
    per: str
    start: int | None
    window: int
    rows: tuple[PlaceRow, ...] = ()
    moved: Curve = field(default_factory=Curve)
    unclear: Curve = field(default_factory=Curve)
    drift: tuple[Curve, ...] = ()
    drifted: tuple[float, ...] | None = None
    bending: Bending | None = None


def gather_places(run: Run) -> Placings | None:
    """What was recorded; None where no label was to move."""
    chosen = run.settings.align
    if chosen.transform == "none" or not run.weak:
        return None
    train, dims = run.metrics("train"), run.data.spec.dims
    samples = {sample.id: sample for sample in run.data.samples}
    last = drift(train)
    curves = tuple(curve(train, f"drift_{axis}") for axis in range(dims))
    return Placings(
        chosen.transform,
        chosen.per,
        chosen.start,
        chosen.window_in(run.facts["patch"]),
        tuple(_row(row, samples[row["id"]], dims) for row in run.places()),
        curve(train, "moved"),
        curve(train, "unclear"),
        curves if all(len(one) for one in curves) else (),
        None if last is None else tuple(last.tolist()),
        _bending(run, train),
    )


def _bending(run: Run, train: Sequence[Mapping[str, Any]]) -> Bending | None:
    chosen = run.settings.align
    if chosen.transform != "warp":
        return None
    names = ("bent", "bent_by", "removed", "removed_strong")
    reach = chosen.filled(run.facts["patch"])["warp"]["reach"]
    curves = (curve(train, name) for name in names)
    return Bending(chosen.warp.after, chosen.warp.start, reach, *curves)


def _row(row: Mapping[str, Any], sample: Sample, dims: int) -> PlaceRow:
    displacement = tuple(float(row[f"displacement_{axis}"]) for axis in range(dims))
    return PlaceRow(sample, displacement, float(row["confidence"]), row["reason"])
