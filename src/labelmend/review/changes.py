"""Where a drawing changes a label, and to what."""

from __future__ import annotations

import math

import numpy as np

from labelmend.labels import shapes
from labelmend.review.ops import Box, Brush, Drawn, Ellipse

Region = tuple[slice, ...]


def find_change(label: np.ndarray, op: Drawn) -> tuple[Region, np.ndarray]:
    """The rectangle around a drawing, cut to the label, and the label's values there after it.

    The rectangle has one slice per axis of the label; where nothing is met it is empty.
    """
    plane = label if op.slice is None else label.take(op.slice.index, op.slice.axis)
    (rows, columns), mask = _rasterise((plane.shape[0], plane.shape[1]), op)
    values = plane[rows, columns].copy()
    values[mask] = op.class_index
    region = [rows, columns]
    if op.slice is not None:
        region.insert(op.slice.axis, slice(op.slice.index, op.slice.index + 1))
        values = np.expand_dims(values, op.slice.axis)
    return tuple(region), values


def tighten(region: Region, old: np.ndarray, new: np.ndarray) -> Region:
    """The smallest region within a region that holds all that differs; empty at its start."""
    differs = old != new
    limits = []
    for axis, whole in enumerate(region):
        others = tuple(a for a in range(differs.ndim) if a != axis)
        found = np.flatnonzero(differs.any(axis=others))
        if len(found) == 0:
            return tuple(slice(s.start, s.start) for s in region)
        limits.append(slice(whole.start + int(found[0]), whole.start + int(found[-1]) + 1))
    return tuple(limits)


def _rasterise(size: tuple[int, int], op: Drawn) -> tuple[tuple[slice, slice], np.ndarray]:
    if isinstance(op, Ellipse | Box):
        return _in_window(size, op)
    if isinstance(op, Brush):
        corners, margin = np.asarray(op.points), op.radius
        mask = shapes.scribble(size, corners, 2 * margin)
    else:
        rings = [np.asarray(ring) for ring in op.rings]
        corners, margin = np.concatenate(rings), 0.0
        mask = shapes.polygon(size, rings)
    lowest, highest = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    window = _window(size, (lowest[0], lowest[1]), (highest[0], highest[1]))
    rows, columns = tighten(window, mask[window], np.zeros((), dtype=bool))
    return (rows, columns), mask[rows, columns]


def _in_window(size: tuple[int, int], op: Ellipse | Box) -> tuple[tuple[slice, slice], np.ndarray]:
    """The shape in the rectangle that holds it; a small one in a large picture is quick.

    Whole numbers are taken off the coordinates, which rounds nothing: the window starts at or
    before the centre, or at 0.
    """
    sides = op.radii if isinstance(op, Ellipse) else op.sides
    reach = math.hypot(*sides)
    row, column = op.centre
    window = _window(size, (row - reach, column - reach), (row + reach, column + reach))
    small = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    centre = (row - window[0].start, column - window[1].start)
    draw = shapes.ellipse if isinstance(op, Ellipse) else shapes.box
    return window, draw(small, centre, sides, op.angle)


def _window(
    size: tuple[int, int], lowest: tuple[float, float], highest: tuple[float, float]
) -> tuple[slice, slice]:
    """The positions between two corners, and two more on each side, cut to a size."""
    starts = [min(max(math.floor(x) - 2, 0), n) for x, n in zip(lowest, size, strict=True)]
    stops = [min(max(math.ceil(x) + 3, 0), n) for x, n in zip(highest, size, strict=True)]
    return slice(starts[0], stops[0]), slice(starts[1], stops[1])
