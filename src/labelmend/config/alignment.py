"""Settings of how labels are put in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from labelmend.config.sections import Section

FitScore = Literal[
    "normalised",
    "cross_entropy",
    "binary_cross_entropy",
    "dice",
    "dice_ce",
    "focal",
    "l1",
    "l2",
    "mutual_information",
    "correlation",
    "phase",
]
"""What :mod:`labelmend.alignment.scores` knows, said again here: settings need no torch."""


CELLS = 48
"""Cells that a grid has at least along every axis, where positions are enough."""

WINDOW = 16
"""The largest shift looked for where nobody says and a patch is at least four times as long."""


class WarpSettings(Section):
    """The network that bends labels after a search has put them in place (``--align warp``)."""

    after: Literal["none", "shift", "rigid", "similarity", "affine"] = Field(
        "affine", description="the search that comes before it"
    )
    start: int | None = Field(
        None, ge=0, description="training steps before the first label is bent; by default twice "
        "align.start"
    )  # fmt: skip
    turns: Literal["together", "step", "epoch"] = Field(
        "together", description="when it and the predicting network learn, each with the other "
        "fixed: both in every step, or in turn by step or by epoch"
    )  # fmt: skip
    moves: Literal["label", "prediction"] = Field(
        "label", description="what is bent: the label to the prediction, or the other way round"
    )
    diffeomorphic: bool = Field(
        True, description="whether it says velocities, whose fields do not fold"
    )
    reach: float | None = Field(
        None, gt=0, description="largest displacement of a field, in positions; by default half "
        "the window"
    )  # fmt: skip
    grid: int | None = Field(
        None, ge=1, description="positions to a cell of the grid it works on; by default 1 to 4, "
        "by the size of the patch"
    )  # fmt: skip
    width: int = Field(8, ge=1, description="channels of its first level")
    depth: int = Field(3, ge=1, le=8, description="how often its grid is halved")
    smooth: float = Field(1.0, ge=0, description="weight of slopes of a field")
    bend: float = Field(1.0, ge=0, description="weight of bends of a field")
    small: float = Field(0.01, ge=0, description="weight of the size of a field")
    folds: float = Field(10.0, ge=0, description="weight of folds, where they can occur")

    def filled(self, patch: Sequence[int], window: int) -> dict[str, Any]:
        """All of them as plain values, with what follows from the patch and the window."""
        reach = self.reach or max(window / 2, 1.0)
        return {**self.model_dump(), "grid": self.grid_in(patch), "reach": reach}

    def grid_in(self, patch: Sequence[int]) -> int:
        """Positions to a cell in patches of this size.

        >>> [WarpSettings().grid_in((n, n)) for n in (32, 96, 256, 512)]
        [1, 2, 4, 4]
        """
        cells = min(patch) // CELLS
        return self.grid or max(1, min(4, 1 << max(cells.bit_length() - 1, 0)))


class AlignSettings(Section):
    """Labels put where predictions say they belong, before they are learned from (seed B)."""

    transform: Literal["none", "shift", "rigid", "similarity", "affine", "warp"] = Field(
        "none", description="how weak labels may move: labelmend train --align; strong ones stay"
    )
    window: int | None = Field(
        None, ge=1, description="largest shift in positions; by default 16, at most a quarter of "
        "the patch"
    )  # fmt: skip
    score: FitScore = Field(
        "normalised", description="how the fit of a label is measured at every place"
    )
    per: Literal["sample", "annotator", "group", "set"] = Field(
        "sample", description="what is moved by one shift of its own"
    )
    start: int | None = Field(
        None, ge=0, description="training steps before the first label moves; by default 100, or "
        "an eighth of a short run"
    )  # fmt: skip
    prior: float | None = Field(
        None, gt=0, description="how far labels are thought to be off, in positions; by default "
        "half the window"
    )  # fmt: skip
    confidence: float = Field(
        0.95, gt=0, le=1, description="probability of being right that it takes to move a label"
    )
    near: float | None = Field(
        None, ge=0, description="what counts as right, in positions; by default a sixteenth of the "
        "window, but 1 at least"
    )  # fmt: skip
    margin: float = Field(
        3.0, ge=0, description="how much likelier the new place must be, in nats; 3 is 20 times"
    )
    grain: float = Field(
        10.0, gt=0, description="positions along an edge over which errors of predictions hang "
        "together"
    )  # fmt: skip
    keep: float = Field(
        0.5, ge=0, lt=1, description="share of a label's remembered shift that a new look leaves"
    )
    centred: bool | None = Field(
        None, description="hold the mean shift of all labels at zero; by default only where there "
        "are no strong labels beside them"
    )  # fmt: skip
    angle: float = Field(10.0, ge=0, le=180, description="largest rotation, in degrees")
    stretch: float = Field(0.1, ge=0, lt=1, description="largest relative change of size")
    shear: float = Field(0.1, ge=0, lt=1, description="largest slope of a shear")
    warp: WarpSettings = Field(default_factory=WarpSettings)

    def window_in(self, patch: Sequence[int]) -> int:
        """The largest shift that is looked for in patches of this size, in positions.

        >>> AlignSettings().window_in((40, 96)), AlignSettings(window=30).window_in((40, 96))
        (10, 30)
        """
        return max(1, min(WINDOW, min(patch) // 4)) if self.window is None else self.window

    def filled(self, patch: Sequence[int]) -> dict[str, Any]:
        """All of them as plain values, with what follows from the size of the patches."""
        window = self.window_in(patch)
        warp = self.warp.filled(patch, window)
        return {**self.model_dump(), "window": window, "warp": warp}

    def is_centred(self, *, anchored: bool) -> bool:
        """Whether the mean shift of all labels is held at zero.

        >>> AlignSettings().is_centred(anchored=False), AlignSettings().is_centred(anchored=True)
        (True, False)
        """
        return not anchored if self.centred is None else self.centred

    @model_validator(mode="after")
    def _only_shifts(self) -> AlignSettings:
        if self.transform in ("none", "shift"):
            return self
        if self.per != "sample":
            raise ValueError(
                f"align.per = {self.per!r} moves many labels by one shift; take "
                "align.transform = 'shift', or align.per = 'sample'"
            )
        if self.centred and self.transform != "warp":
            raise ValueError("align.centred is of shifts; take align.transform = 'shift'")
        return self
