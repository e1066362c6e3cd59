"""What is known of one label that may be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labelmend.types import Sample

Remark = Literal["", "empty", "missed", "nothing", "unsaid"]
"""What no figure says: the label is empty and the prediction is not; the other way round; both
are; or no position of the label is valid."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against one label.

    Attributes:
        sample: the label, with its image.
        disagreement: 0 where prediction and label are the same, up to 1 where they have nothing in
            common: 1 - mean Dice of the foreground classes, in regression the mean absolute error
            over itself plus the usual spread of labels. None where there is nothing to compare.
        remark: what the figure does not say.
        others: how far it is, in the same measure, from the other labels of its image, in the
            median; from the strong ones alone where there are any. None where there is none.
        fellows: how many labels these are.
        weight: the latest one; None where labels have none: strong ones, and held-out ones.
        average: the mean of its weight over all looks; None where nobody judged it.
        began: its weight before the first look.
        highest: the largest weight there can be.
        loss: its own when it was last judged; None likewise.
        displacement: where it belongs, in positions of the file; all 0 where it is in place, None
            where that is not clear.
        confidence: how probable it is that this place is right; None likewise.
        explained: how much of the disagreement goes away in that place; below 0 where it grows.
    """

    sample: Sample
    disagreement: float | None = None
    remark: Remark = ""
    others: float | None = None
    fellows: int = 0
    weight: float | None = None
    average: float | None = None
    began: float | None = None
    highest: float = 1.0
    loss: float | None = None
    displacement: tuple[float, ...] | None = None
    confidence: float | None = None
    explained: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether its place is known, and another one than it has."""
        return self.displacement is not None and any(self.displacement)
