"""The border of a mask: rings around its positions, or the ends of its stretches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from labelmend.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """The border of one connected part of a mask.

    Attributes:
        exterior: ``(n, 2)`` float64 corners (row, column) around it, clockwise on a screen whose
            rows run downwards; not closed: the first corner is not said again.
        holes: the same around each of its holes, the other way round.
    """

    exterior: np.ndarray
    holes: tuple[np.ndarray, ...] = ()

    @property
    def rings(self) -> tuple[np.ndarray, ...]:
        """All rings, the exterior first: what :func:`~labelmend.labels.shapes.polygon` takes."""
        return (self.exterior, *self.holes)


def find_outlines(mask: np.ndarray) -> list[Outline]:
    """One outline for each part of a mask, along the borders of its positions.

    A part is what hangs together over edges of positions; positions that meet only at a corner
    are two parts. What an island in a hole surrounds is an outline of its own. Parts are in the
    order of their first position (row by row), and so are the holes of a part. A ring has a
    point only where it turns, begins at its upper left corner, and never meets the same point
    twice, so that it is a valid polygon elsewhere; two rings may touch at a point.

    :func:`~labelmend.labels.shapes.polygon` of all rings gives the mask back, bit for bit.

    Args:
        mask: ``(rows, columns)``, bool; position (i, j) reaches from i - 0.5 to i + 0.5.

    Raises:
        DataError: for a mask that has not two axes.

    >>> [outline] = find_outlines(np.array([[0, 1, 1]], dtype=bool))
    >>> outline.exterior.tolist()
    [[-0.5, 0.5], [-0.5, 2.5], [0.5, 2.5], [0.5, 0.5]]
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim != 2:
        raise DataError(
            f"outlines are of a mask with rows and columns, not with {mask.ndim} axes; take a "
            "slice of a volume"
        )
    parts, number = ndimage.label(np.pad(mask, 1))
    at, following = _corners(parts)
    order, begins = _walk(following)
    rings = np.split(at[order] - 0.5, begins[1:]) if number else []
    corner = at[order[begins]]
    inner, above = parts[corner[:, 0] + 1, corner[:, 1] + 1], parts[corner[:, 0], corner[:, 1] + 1]
    exteriors: dict[int, np.ndarray] = {}
    holes: dict[int, list[np.ndarray]] = {}
    # what lies below the first corner is the part itself, or the hole with the part above it
    for ring, part, around in zip(rings, inner.tolist(), above.tolist(), strict=True):
        if part:
            exteriors[part] = ring
        else:
            holes.setdefault(around, []).append(ring)
    return [Outline(ring, tuple(holes.get(part, ()))) for part, ring in exteriors.items()]


def _corners(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the border turns, ``(n, 2)``, and the number of the corner that follows each.

    Row by row every other stretch between two corners is border, and column by column too; so
    each corner has one neighbour in its row and one in its column.
    """
    first, right = parts[:-1, :-1], parts[:-1, 1:]
    below, last = parts[1:, :-1], parts[1:, 1:]
    odd = (first > 0) ^ (right > 0) ^ (below > 0) ^ (last > 0)
    falling = (first > 0) & (last > 0) & (right == 0) & (below == 0)
    rising = (right > 0) & (below > 0) & (first == 0) & (last == 0)
    points = np.nonzero(odd | falling | rising)
    # where two opposite ones of four positions are set, two corners lie on one point, the one
    # linked to the left first; they go around the set positions if those are of two parts, and
    # else around the others, so that no ring meets a point twice
    double = (falling | rising)[points]
    crossed = np.where(falling, first == last, rising & (right != below))[points]
    point = np.repeat(np.arange(len(double)), 1 + double)
    second = np.concatenate([[False], point[1:] == point[:-1]])[: len(point)]
    rows, columns = points[0][point], points[1][point]
    lower = double[point] & (second ^ crossed[point])
    down = np.argsort((columns * len(parts) + rows) * 2 + lower)
    following = np.empty(len(point), dtype=np.int64)
    _link(following, np.arange(len(point)), last[rows, columns] > 0)
    _link(following, down, below[rows, columns] > 0)
    return np.stack([rows, columns], axis=1), following


def _link(following: np.ndarray, order: np.ndarray, forward: np.ndarray) -> None:
    """Link every other pair of corners along rows or columns, the inside to the right hand."""
    here, there = order[0::2], order[1::2]
    onward = forward[here]
    following[here[onward]] = there[onward]
    following[there[~onward]] = here[~onward]


def _walk(following: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners ring by ring, and where in that list each ring begins."""
    links = following.tolist()  # single look-ups are faster in a list
    order: list[int] = []
    begins: list[int] = []
    for start, link in enumerate(links):
        if link < 0:
            continue
        begins.append(len(order))
        here = start
        while (following_one := links[here]) >= 0:
            order.append(here)
            links[here] = -1
            here = following_one
    return np.array(order, dtype=np.int64), np.array(begins, dtype=np.int64)


def find_intervals(mask: np.ndarray) -> list[tuple[int, int]]:
    """The stretches of a mask of one axis, in order: where each starts and the place after it.

    :func:`~labelmend.labels.shapes.interval` of each, together, gives the mask back.

    Raises:
        DataError: for a mask of more than one axis.

    >>> find_intervals(np.array([1, 1, 0, 1], dtype=bool))
    [(0, 2), (3, 4)]
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim != 1:
        raise DataError(
            f"intervals are of a mask of one axis, not of {mask.ndim}; find_outlines takes two"
        )
    changes = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return list(zip(changes[0::2].tolist(), changes[1::2].tolist(), strict=True))
