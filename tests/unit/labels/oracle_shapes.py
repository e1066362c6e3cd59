"""Slow and obvious twins of the shapes: one position at a time, in fractions where they decide."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np

NEAR = 1e-9


def each(size, belongs):
    """A mask of the positions that belong."""
    mask = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            mask[row, column] = belongs(row, column)
    return mask


def circle(size, centre, radius):
    return each(
        size,
        lambda r, c: math.hypot(r - centre[0], c - centre[1]) <= radius + NEAR,
    )


def box(size, centre, sides, angle=0.0):
    def inside(row, column):
        down, right = row - centre[0], column - centre[1]
        along = down * math.cos(angle) + right * math.sin(angle) + NEAR
        across = right * math.cos(angle) - down * math.sin(angle) + NEAR
        halves = sides[0] / 2, sides[1] / 2
        return -halves[0] <= along < halves[0] and -halves[1] <= across < halves[1]

    return each(size, inside)


def polygon(size, rings):
    """Odd number of borders at or to the left of the centre; an edge has its upper end only."""

    def inside(row, column):
        crossed = 0
        for ring in rings:
            corners = [(Fraction(r), Fraction(c)) for r, c in ring]
            for one, other in zip(corners, corners[1:] + corners[:1], strict=True):
                (r0, c0), (r1, c1) = sorted([one, other])
                if r0 <= row < r1:
                    crossed += c0 + (row - r0) * (c1 - c0) / (r1 - r0) <= column
        return crossed % 2 == 1

    return each(size, inside)


def scribble(size, points, width):
    pairs = list(pairwise(points)) or [(p, p) for p in points]

    def inside(row, column):
        return any(_distance(row, column, *one, *other) <= width / 2 + NEAR for one, other in pairs)

    return each(size, inside)


def _distance(row, column, r0, c0, r1, c1):
    length = (r1 - r0) ** 2 + (c1 - c0) ** 2
    t = 0.0
    if length > 0:
        t = ((row - r0) * (r1 - r0) + (column - c0) * (c1 - c0)) / length
        t = min(max(t, 0.0), 1.0)
    return math.hypot(row - r0 - t * (r1 - r0), column - c0 - t * (c1 - c0))
