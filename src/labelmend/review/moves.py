"""A whole label turned and displaced, every position taking the nearest one's class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

TIE = 1e-6
"""Halfway between two positions, up to this, is nearer to the later one, on every machine."""


def move(
    label: np.ndarray,
    displacement: Sequence[float],
    angle: float = 0.0,
    *,
    axis: int | None = None,
    centre: tuple[float, float] | None = None,
    outside: int = 0,
) -> np.ndarray:
    """A label turned about a centre, then displaced: a new array ``(*space)``.

    A displacement of (1, 0) moves it one row down. Position ``p`` of the result is what was at
    the position nearest to ``turned back(p - centre - displacement) + centre``.

    Args:
        label: class indices, one to three axes.
        displacement: one number per axis, in positions.
        angle: radians, from the first remaining axis towards the second, as
            :func:`labelmend.labels.shapes.ellipse`; pictures, and volumes about ``axis``.
        axis: the axis that a volume is turned about; ``None`` for pictures.
        centre: row and column to turn about; by default the centre of mass.
        outside: the class of what comes from outside.

    The centre of mass is that of all positions above class 0, or of the whole array where there
    are none. Without a turn the displacement is rounded to whole positions, halves downwards.

    A trap: turning to and fro does not give the old label back, since positions are lost.

    >>> move(np.array([[1, 2], [3, 0]], np.int16), (1, 0), outside=-1)
    array([[-1, -1],
           [ 1,  2]], dtype=int16)
    """
    sources = [_nearest(np.arange(n) - d) for n, d in zip(label.shape, displacement, strict=True)]
    if not angle:
        return _displaced(label, sources, outside)
    first, second = (a for a in range(label.ndim) if a != axis)
    about = _centre(label, (first, second)) if centre is None else centre
    turned = _turned_back(label, displacement, angle, (first, second), about)
    inside = _within(turned[0], label.shape[first]) & _within(turned[1], label.shape[second])
    flat = np.where(inside, turned[0] * label.shape[second] + turned[1], 0)
    planes = label[None] if axis is None else np.moveaxis(label, axis, 0)
    result = np.full_like(planes, outside)
    along = np.zeros(1, np.int64) if axis is None else sources[axis]
    for place, source in enumerate(along):
        if 0 <= source < len(planes):
            result[place] = np.where(inside, planes[source].reshape(-1)[flat], outside)
    return np.ascontiguousarray(result[0] if axis is None else np.moveaxis(result, 0, axis))


def _displaced(label: np.ndarray, sources: Sequence[np.ndarray], outside: int) -> np.ndarray:
    result = np.full_like(label, outside, order="C")
    kept = [_within(source, n) for source, n in zip(sources, label.shape, strict=True)]
    result[np.ix_(*kept)] = label[np.ix_(*(s[k] for s, k in zip(sources, kept, strict=True)))]
    return result


def _turned_back(
    label: np.ndarray,
    displacement: Sequence[float],
    angle: float,
    plane: tuple[int, int],
    centre: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Where each position of a plane comes from: its nearest row and column, each of a plane."""
    (row, column), cos, sin = centre, math.cos(angle), math.sin(angle)
    down = (np.arange(label.shape[plane[0]]) - displacement[plane[0]] - row)[:, None]
    right = (np.arange(label.shape[plane[1]]) - displacement[plane[1]] - column)[None, :]
    return (
        _nearest(cos * down + sin * right + row),
        _nearest(cos * right - sin * down + column),
    )


def _centre(label: np.ndarray, plane: tuple[int, int]) -> tuple[float, float]:
    """The centre of mass in a plane; sums of whole numbers, so that no machine differs."""
    found = []
    for axis in plane:
        others = tuple(a for a in range(label.ndim) if a != axis)
        counts = np.count_nonzero(label > 0, axis=others)
        total = int(counts.sum())
        mean = int(counts @ np.arange(len(counts))) / total if total else (len(counts) - 1) / 2
        found.append(mean)
    return found[0], found[1]


def _nearest(places: np.ndarray) -> np.ndarray:
    nearest: np.ndarray = np.floor(places + (0.5 + TIE)).astype(np.int64)
    return nearest


def _within(places: np.ndarray, length: int) -> np.ndarray:
    inside: np.ndarray = (places >= 0) & (places < length)
    return inside
