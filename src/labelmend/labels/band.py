"""How far from its border a rough shape is not to be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from labelmend.errors import DataError


def uncertain_band(
    mask: np.ndarray, width: float, *, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """The positions near the border of a mask, inside and outside of it: bool, shaped like it.

    A position is near when one of the other kind is at most ``width`` away, from centre to
    centre: with 1 to under √2, those on either side of every edge of the border; below 1, none.
    Where a mask meets the end of the image there is no border.

    Args:
        mask: bool, any number of axes; not changed.
        width: in positions, or in the unit of ``spacing``. At a straight border, a whole number
            is how many positions are uncertain on either side.
        spacing: the distance between positions along every axis.

    Raises:
        DataError: for a width below 0, or another number of distances than axes.

    >>> uncertain_band(np.array([0, 0, 0, 1, 1, 1], dtype=bool), 2).astype(int)
    array([0, 1, 1, 1, 1, 0])
    """
    mask = np.asarray(mask, dtype=bool)
    if not 0 <= width < math.inf:
        raise DataError(f"the width of a band must be 0 or more positions, not {width!r}")
    steps = (1.0,) * mask.ndim if spacing is None else tuple(spacing)
    if len(steps) != mask.ndim or not all(0 < step < math.inf for step in steps):
        raise DataError(
            f"spacing is one distance above 0 per axis, here {mask.ndim}, not {tuple(steps)}"
        )
    if mask.all() or not mask.any():
        return np.zeros(mask.shape, dtype=bool)
    apart = ndimage.distance_transform_edt(mask, sampling=steps)
    apart += ndimage.distance_transform_edt(~mask, sampling=steps)
    near: np.ndarray = apart <= width * (1 + 1e-9)
    return near


def surely(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A label out of what is surely inside and what surely outside, and where it is known.

    Args:
        inside: bool, any shape.
        outside: bool, the same shape; what lies in neither is not known.

    Returns:
        The label, class indices 0 and 1, int64; and where it is known, bool.

    Raises:
        DataError: when the shapes differ, or a position is said to be both.

    >>> index, known = surely(np.array([True, False, False]), np.array([False, False, True]))
    >>> index.tolist(), known.tolist()
    ([1, 0, 0], [True, False, True])
    """
    inside, outside = np.asarray(inside, dtype=bool), np.asarray(outside, dtype=bool)
    if inside.shape != outside.shape:
        raise DataError(
            f"what is inside ({inside.shape}) and what is outside ({outside.shape}) must be drawn "
            "in one size"
        )
    both = int((inside & outside).sum())
    if both:
        raise DataError(
            f"{both} position{'s are' if both > 1 else ' is'} surely inside and surely outside; "
            "draw one of the two smaller"
        )
    return inside.astype(np.int64), inside | outside
