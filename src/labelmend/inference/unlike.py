"""New images that lie otherwise than any that a network learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from labelmend.files.volumes import orientation
from labelmend.types import DataSet

if TYPE_CHECKING:
    from labelmend.inference.predictor import Predictor

FARTHER = 1.5
"""Positions farther apart than any learned from, or closer, by more than this factor are said."""


class Unlike:
    """Gathers what is unlike of many files, to be said in a sentence for each kind.

    >>> from labelmend.types import DataSpec
    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 3, 1, "none", ".nii.gz")
    >>> unlike = Unlike(DataSet("data", spec, (), orientations=("RAS",)), resampled=False)
    >>> unlike.look("new.nii.gz", np.diag([-1.0, 1, 1, 1]), None)
    >>> unlike.look("other.nii.gz", np.eye(4), None)
    >>> unlike.said()[0].split(";")[0]
    'new.nii.gz lies in orientation LAS, and the network learned from RAS'
    """

    def __init__(self, data: DataSet, *, resampled: bool) -> None:
        self._orientations = data.orientations
        self._spacings = () if resampled else data.spacings
        self._turned: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._apart: list[str] = []

    @classmethod
    def of(cls, predictor: Predictor) -> Unlike:
        """What is unlike the images that a predictor's network learned from."""
        resampled = predictor.preparation.spacing is not None
        return cls(predictor.run.data, resampled=resampled)

    def look(self, source: str, affine: np.ndarray | None, spacing: Sequence[float] | None) -> None:
        """One more file: its name, the affine of a volume, and how far apart positions lie."""
        if affine is not None and self._orientations:
            code = orientation(affine)
            if code not in self._orientations:
                self._turned[code] += 1
                self._first.setdefault(code, source)
        if spacing is not None and self._spacings and len(spacing) == len(self._spacings[0]):
            low, high = (np.array(each) for each in self._spacings)
            here = np.array(spacing)
            if (here * FARTHER < low).any() or (here > high * FARTHER).any():
                self._apart.append(source)

    def said(self) -> list[str]:
        """A sentence for every orientation that was not learned from, and one for distances."""
        known = " and ".join(self._orientations)
        told = [
            f"{say_lie(self._first[code], many)} in orientation {code}, and the network learned "
            f"from {known}; predictions may be wrong there: bring images into one of these, as "
            "nibabel.as_closest_canonical does for RAS"
            for code, many in self._turned.most_common()
        ]
        if self._apart:
            span = _span(self._spacings)
            told.append(
                f"{say_lie(self._apart[0], len(self._apart))} on a grid unlike those the network "
                f"learned from, whose positions are {span} apart; predictions may be wrong there: "
                "train with input.spacing, and every image is brought to one"
            )
        return told


def say_lie(first: str, many: int) -> str:
    """The beginning of a sentence on where so many files lie.

    >>> say_lie("a.nii", 3)
    '3 files (first: a.nii) lie'
    """
    return f"{first} lies" if many == 1 else f"{many} files (first: {first}) lie"


def _span(spacings: Sequence[Sequence[float]]) -> str:
    pairs = zip(*spacings, strict=True)
    return " x ".join(f"{a:.4g}" if a == b else f"{a:.4g} to {b:.4g}" for a, b in pairs)
