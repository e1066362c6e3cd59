"""From a mask back to a shape: the ellipse, box or polygon that fits it best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labelmend.errors import DataError
from labelmend.labels.outlines import find_outlines


@dataclass(frozen=True, slots=True)
class Ellipse:
    """What :func:`~labelmend.labels.shapes.ellipse` takes beside the size of the image.

    ``centre`` is row and column, ``radii`` are along the rows and the columns before turning,
    and ``angle`` is in radians from the rows towards the columns, at most a quarter of π.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float


@dataclass(frozen=True, slots=True)
class Box:
    """What :func:`~labelmend.labels.shapes.box` takes beside the size of the image.

    ``sides`` are whole lengths along the rows and the columns before turning; ``centre`` and
    ``angle`` as for :class:`Ellipse`.
    """

    centre: tuple[float, float]
    sides: tuple[float, float]
    angle: float


def best_ellipse(mask: np.ndarray) -> Ellipse:
    """The ellipse with the centre, the direction and the proportions of a mask, and its area.

    Centre, direction and proportions are those of the ellipse of the same first and second
    moments, every position counting as a square; its size is such that its area is the number of
    positions. Of drawn ellipses with radii of 4 and more, half come back to 0.05 of a position,
    99 in 100 to 0.25.

    Args:
        mask: ``(rows, columns)`` bool. The trap: all of it, so for one of several parts take
            that part first.

    Raises:
        DataError: for a mask without any position, or of other axes.

    Source: M. R. Teague, "Image analysis via the general theory of moments", JOSA 70 (1980).

    >>> best_ellipse(np.ones((3, 3), dtype=bool)).centre
    (1.0, 1.0)
    """
    places = _places(mask, "an ellipse")
    centre = places.mean(0)
    apart = places - centre
    (down, mixed), (_, right) = apart.T @ apart / len(places) + np.eye(2) / 12
    angle = _upright(0.5 * math.atan2(2 * mixed, down - right))
    # variance along a direction is a quarter of the squared radius there
    spread = [d @ np.array([[down, mixed], [mixed, right]]) @ d for d in _axes(angle)]
    scale = math.sqrt(len(places) / (math.pi * math.sqrt(spread[0] * spread[1])))
    radii = tuple(scale * math.sqrt(along) for along in spread)
    return Ellipse((float(centre[0]), float(centre[1])), (radii[0], radii[1]), angle)


def best_box(mask: np.ndarray, *, turned: bool = True) -> Box:
    """The smallest box around a mask: no centre of a position is nearer than 1/2 to a border.

    Args:
        mask: ``(rows, columns)`` bool, all of which is surrounded.
        turned: whether the box may be turned; of equal boxes the least turned is taken. Without,
            it is the bounding box, and :func:`~labelmend.labels.shapes.box` of a mask that is
            one gives it back bit for bit.

    A trap: of a drawn box that is turned, sides come back up to about 1 too long, since its
    positions nearly touch its borders.

    Raises:
        DataError: for a mask without any position, or of other axes.

    >>> best_box(np.ones((2, 5), dtype=bool))
    Box(centre=(0.5, 2.0), sides=(2.0, 5.0), angle=0.0)
    """
    places = _places(mask, "a box")
    if not turned:
        return _around(places, 0.0)
    hull = _hull(places)
    edges = np.roll(hull, -1, axis=0) - hull
    angles = {_upright(math.atan2(right, down)) for down, right in edges.tolist()}
    boxes = [_around(hull, angle) for angle in angles]
    return min(boxes, key=lambda b: (round(b.sides[0] * b.sides[1], 6), abs(b.angle), b.angle))


def best_polygon(mask: np.ndarray, tolerance: float = 1.0) -> list[np.ndarray]:
    """Rings with few corners around a mask, for :func:`~labelmend.labels.shapes.polygon`.

    Every corner of the true outline, or the middle of every edge of a position along it, is at
    most ``tolerance`` from its ring: whichever of the two takes fewer corners. The first gives
    upright boxes back, the second straight slanted borders. So what gets another value lies
    near the border. A part or hole too small for that keeps all its corners: none vanishes.

    Args:
        mask: ``(rows, columns)`` bool.
        tolerance: in positions; 0 keeps every corner, and the mask comes back bit for bit.

    Returns:
        ``(n, 2)`` rows and columns per ring, not closed: for each part in order its exterior and
        then its holes. None for an empty mask.

    Raises:
        DataError: for a mask of other axes, or a tolerance below 0.

    Source: D. Douglas, T. Peucker, "Algorithms for the reduction of the number of points
    required to represent a digitized line", Cartographica 10 (1973).

    >>> [ring] = best_polygon(np.ones((4, 4), dtype=bool))
    >>> len(ring)
    4
    """
    if not 0 <= tolerance < math.inf:
        raise DataError(f"the tolerance must be 0 or more positions, not {tolerance!r}")
    return [_simpler(r, tolerance) for outline in find_outlines(mask) for r in outline.rings]


def _simpler(ring: np.ndarray, tolerance: float) -> np.ndarray:
    from skimage.measure import approximate_polygon  # late: who draws only does not wait for it

    if tolerance == 0:
        return ring
    found = []
    for points in (ring, _middles(ring)):
        closed = np.concatenate([points, points[:1]])
        found.append(approximate_polygon(closed, tolerance)[:-1])
    fewest: np.ndarray = min((f for f in found if len(f) >= 3), key=len, default=ring)
    return fewest


def _middles(ring: np.ndarray) -> np.ndarray:
    """The middles of the edges of positions along a ring; they follow a slanted line closer."""
    ways = np.roll(ring, -1, axis=0) - ring
    lengths = np.abs(ways).sum(1)
    counts = lengths.astype(np.int64)
    which = np.repeat(np.arange(len(ring)), counts)
    along = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + 0.5
    middles: np.ndarray = ring[which] + along[:, None] * (ways / lengths[:, None])[which]
    return middles


def _hull(places: np.ndarray) -> np.ndarray:
    """The corners of the convex hull in order; both ends where all lies on one line."""
    from scipy.spatial import ConvexHull, QhullError

    ends = np.flatnonzero(np.diff(places[:, 0], prepend=-1, append=-1))
    outer = np.unique(np.concatenate([places[ends[:-1]], places[ends[1:] - 1]]), axis=0)
    try:
        corners: np.ndarray = outer[ConvexHull(outer).vertices]
    except QhullError:  # fewer than three, or in one line
        return outer[[0, -1]]
    return corners


def _around(places: np.ndarray, angle: float) -> Box:
    axes = np.array(_axes(angle))
    reach = places @ axes.T
    low, high = reach.min(0) - 0.5, reach.max(0) + 0.5
    centre = (low + high) / 2 @ axes
    sides = high - low
    return Box((float(centre[0]), float(centre[1])), (float(sides[0]), float(sides[1])), angle)


def _axes(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The directions of rows and of columns after turning."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([cosine, sine]), np.array([-sine, cosine])


def _upright(angle: float) -> float:
    """The same directions turned by right angles until the angle is at most a quarter of π."""
    turned = angle - round(angle / (math.pi / 2)) * (math.pi / 2)
    return 0.0 if abs(turned) < 1e-12 else turned


def _places(mask: np.ndarray, what: str) -> np.ndarray:
    mask = np.asarray(mask, dtype=bool)
    if mask.ndim != 2:
        raise DataError(
            f"{what} is fitted to a mask with rows and columns, not with {mask.ndim} axes; "
            "take a slice of a volume"
        )
    places: np.ndarray = np.argwhere(mask).astype(np.float64)
    if len(places) == 0:
        raise DataError(f"{what} cannot be fitted to a mask without any position; draw something")
    return places
