"""Shapes that people draw, as masks of positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from labelmend.errors import DataError

Places = Sequence[Sequence[float]] | Sequence[tuple[float, float]] | np.ndarray
"""Rows and columns of points, ``(n, 2)``; position (i, j) has its centre at (i, j)."""

ROUNDING = 1e-9
FARTHEST = 1e100
"""Nothing is drawn farther away than this; the square of it is still a number."""
BLOCK = 2**19
"""About how many crossings of lines with rows are computed at a time: bounds the memory."""


def ellipse(
    size: tuple[int, int],
    centre: tuple[float, float],
    radii: tuple[float, float],
    angle: float = 0.0,
) -> np.ndarray:
    """The positions whose centre lies inside or on an ellipse, ``(rows, columns)`` bool.

    Args:
        size: rows and columns.
        centre: row and column; position (0, 0) has its centre at (0, 0).
        radii: along the rows and along the columns, before turning.
        angle: radians, from the rows towards the columns.

    The trap: ``radii`` are half of what most drawing tools call width and height.

    >>> ellipse((3, 5), (1, 2), (1, 2)).astype(int)
    array([[0, 0, 1, 0, 0],
           [1, 1, 1, 1, 1],
           [0, 0, 1, 0, 0]])
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    down, right = rows - centre[0], columns - centre[1]
    along = down * np.cos(angle) + right * np.sin(angle)
    across = right * np.cos(angle) - down * np.sin(angle)
    inside: np.ndarray = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1.0 + 1e-9
    return inside


def circle(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """The positions whose centre lies inside or on a circle, ``(rows, columns)`` bool.

    On the border counts as inside (up to 10⁻⁹ of a position, against rounding), so a circle of
    radius 0 is at most one position.

    Raises:
        DataError: for a number that is not finite, or a negative radius.

    >>> circle((3, 4), (1, 1), 1).astype(int)
    array([[0, 1, 0, 0],
           [1, 1, 1, 0],
           [0, 1, 0, 0]])
    """
    return dots(size, [centre], radius)


def dots(size: tuple[int, int], places: Places, radius: float) -> np.ndarray:
    """The positions inside or on one of many circles of one radius, ``(rows, columns)`` bool.

    Args:
        size: rows and columns.
        places: ``(n, 2)`` rows and columns of the centres; none makes an empty mask.
        radius: in positions; the border belongs to it, as in :func:`circle`.

    Raises:
        DataError: for a number that is not finite, or a negative radius.

    >>> dots((1, 6), [(0, 0), (0, 4)], 1).astype(int)
    array([[1, 1, 0, 1, 1, 1]])
    """
    points = _points(places, "the places of dots")
    return _near(size, points, points, _length(radius, "the radius of a circle"))


def scribble(size: tuple[int, int], points: Places, width: float) -> np.ndarray:
    """The positions at most ``width / 2`` from a line through points, ``(rows, columns)`` bool.

    Ends and corners are round; one point is a dot, no point is an empty mask; the border belongs
    to it, as in :func:`circle`. Only the line's own rectangle is computed.

    The trap: a thin line through the gaps between the centres may meet no position at all; from
    width 1 on, a line is never interrupted.

    Raises:
        DataError: for a number that is not finite, or a negative width.

    >>> scribble((3, 5), [(0, 0), (2, 4)], 1).astype(int)
    array([[1, 1, 0, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 0, 1, 1]])
    """
    line = _points(points, "the points of a scribble")
    starts, stops = (line, line) if len(line) == 1 else (line[:-1], line[1:])
    return _near(size, starts, stops, _length(width, "the width of a scribble") / 2)


def box(
    size: tuple[int, int],
    centre: tuple[float, float],
    sides: tuple[float, float],
    angle: float = 0.0,
) -> np.ndarray:
    """The positions whose centre lies in a rectangle, turned or not, ``(rows, columns)`` bool.

    A centre on the first border (the upper and the left one, before turning) is inside, one on
    the last border outside (up to 10⁻⁹ of a position, against rounding). So boxes laid side by
    side share no position and leave none out, and whole sides give exactly as many positions.

    Args:
        size: rows and columns.
        centre: row and column.
        sides: whole lengths along the rows and along the columns, before turning.
        angle: radians, from the rows towards the columns, as for :func:`ellipse`.

    Raises:
        DataError: for a number that is not finite, or a negative side.

    >>> box((3, 5), (1, 2), (2, 3)).astype(int)
    array([[0, 1, 1, 1, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0]])
    """
    ((row, column),) = _points([centre], "the centre of a box")
    ((turn, _),) = _points([(angle, 0)], "the angle of a box")
    high, wide = (_length(side, "a side of a box") / 2 for side in sides)
    down, right = np.ogrid[: size[0], : size[1]]
    down, right = down - row, right - column
    along = down * np.cos(turn) + right * np.sin(turn) + ROUNDING
    across = right * np.cos(turn) - down * np.sin(turn) + ROUNDING
    inside: np.ndarray = (along >= -high) & (along < high) & (across >= -wide) & (across < wide)
    return inside


def polygon(size: tuple[int, int], rings: Sequence[Places]) -> np.ndarray:
    """The positions whose centre lies within rings by the even-odd rule, ``(rows, columns)`` bool.

    A ring within a ring is a hole, one within that an island; a ring that crosses itself has
    what an odd number of its turns surrounds. Of a centre exactly on the border, a border above
    or to the left of the inside belongs to it, one below or to the right does not: polygons that
    share an edge share no position and leave none out. Where an edge passes a centre by less than
    the last digit of its coordinates, it may count as passing through it.

    Args:
        size: rows and columns.
        rings: each ``(n, 2)`` rows and columns of the corners, in order, closed or not. Fewer
            than three corners surround nothing.

    Raises:
        DataError: for corners that are not pairs of finite numbers.

    Source: the crossing count of Shimrat, "Algorithm 112", CACM 5 (1962). Own code, since
    skimage.draw counts a border differently on its four sides, takes no holes and asks every
    position about every corner, and Pillow draws the border.

    >>> hole = [(0.5, 0.5), (0.5, 1.5), (1.5, 1.5), (1.5, 0.5)]
    >>> polygon((3, 4), [[(-1, -1), (-1, 2.5), (9, 2.5), (9, -1)], hole]).astype(int)
    array([[1, 1, 1, 0],
           [1, 0, 1, 0],
           [1, 1, 1, 0]])
    """
    mask = np.zeros(size, dtype=bool)
    place, part = polygon_part(size, rings)
    mask[place] = part
    return mask


def polygon_part(
    size: tuple[int, int], rings: Sequence[Places]
) -> tuple[tuple[slice, slice], np.ndarray]:
    """:func:`polygon` without what lies around it: rows and columns, and their part of the mask.

    However large the image is, only what the polygon spans is computed and kept. The trap: where
    the polygon lies outside of the image, the part is empty.

    Raises:
        DataError: as :func:`polygon`.

    >>> polygon_part((90, 90), [[(1.5, 1.5), (1.5, 3.5), (3.5, 3.5), (3.5, 1.5)]])[1].sum()
    np.int64(4)
    """
    corners = [_points(ring, "the corners of a polygon") for ring in rings]
    starts = np.concatenate([np.empty((0, 2)), *corners])
    stops = np.concatenate([np.empty((0, 2)), *(np.roll(ring, -1, axis=0) for ring in corners)])
    top, bottom, left, right = _window(size, starts, 0.0)
    # both polygons at an edge compute it from the same end, so that they round alike
    swap = (starts[:, 0] > stops[:, 0])[:, None]
    upper, lower = np.where(swap, stops, starts), np.where(swap, starts, stops)
    slope = lower - upper
    turns = np.zeros((bottom - top) * (right - left + 1), dtype=np.uint8)
    first, stop = _whole(np.stack([upper[:, 0], lower[:, 0]]), top, bottom)
    for edge, row in _rows_met(first, stop):
        column = upper[edge, 1] + (row - upper[edge, 0]) * slope[edge, 1] / slope[edge, 0]
        place = _whole(column, left, right) - left
        np.add.at(turns, (row - top) * (right - left + 1) + place, np.uint8(1))  # wraps: even
    crossed = np.add.accumulate(
        turns.reshape(bottom - top, right - left + 1)[:, :-1], axis=1, dtype=np.uint8
    )
    return (slice(top, bottom), slice(left, right)), (crossed & 1).astype(bool)


def interval(length: int, start: float, stop: float) -> np.ndarray:
    """The positions from ``start`` up to, not including, ``stop``: ``(length,)`` bool.

    A stop that is not after the start gives an empty mask; what lies outside is cut off.

    Raises:
        DataError: for a number that is not finite.

    >>> interval(5, 1, 3).astype(int)
    array([0, 1, 1, 0, 0])
    """
    _points([(start, stop)], "the ends of an interval")
    places = np.arange(length)
    inside: np.ndarray = (places >= start) & (places < stop)
    return inside


def in_volume(
    size: tuple[int, int, int], axis: int, slices: Mapping[int, np.ndarray]
) -> np.ndarray:
    """Masks of single slices, as one mask of a volume: bool, shaped ``size``.

    Args:
        size: the three sides of the volume.
        axis: the axis along which ``slices`` are numbered: 0, 1 or 2.
        slices: for each slice that has one, a mask over the remaining two axes in their order.
            Numbers outside of the volume are cut off; -1 is outside, not the last slice.

    Raises:
        DataError: for another axis, or a mask of another size than a slice.

    >>> in_volume((3, 1, 2), 0, {1: np.array([[True, False]])})[:, 0].astype(int)
    array([[0, 0],
           [1, 0],
           [0, 0]])
    """
    if axis not in (0, 1, 2):
        raise DataError(f"a volume has the axes 0, 1 and 2, not {axis}; name one of these")
    mask = np.zeros(size, dtype=bool)
    along = np.moveaxis(mask, axis, 0)
    for index, drawn in slices.items():
        if np.shape(drawn) != along.shape[1:]:
            raise DataError(
                f"slice {index} along axis {axis} of a volume {_by(size)} needs a mask of "
                f"{_by(along.shape[1:])} positions, not {_by(np.shape(drawn))}; draw it in that "
                "size"
            )
        if 0 <= index < len(along):
            along[index] = drawn
    return mask


def _near(
    size: tuple[int, int], starts: np.ndarray, stops: np.ndarray, radius: float
) -> np.ndarray:
    """The positions at most ``radius`` from one of many straight lines.

    In every row the positions near one line are one stretch, since they are a convex shape; so
    only its two ends are computed, however wide it is.
    """
    mask = np.zeros(size, dtype=bool)
    top, bottom, left, right = _window(size, np.concatenate([starts, stops]), radius)
    swap = (starts[:, 0] > stops[:, 0])[:, None]
    upper, lower = np.where(swap, stops, starts), np.where(swap, starts, stops)
    reach = radius + ROUNDING
    ends = np.zeros((bottom - top) * (right - left + 1), dtype=np.int32)
    first = _whole(upper[:, 0] - reach, top, bottom)
    last = _whole(np.floor(lower[:, 0] + reach) + 1, top, bottom)
    for line, row in _rows_met(first, last):
        low, high = _stretch(row - upper[line, 0], (lower - upper)[line], reach)
        here = (row - top) * (right - left + 1) - left
        begin = _whole(upper[line, 1] + low, left, right)
        end = _whole(np.floor(upper[line, 1] + high) + 1, left, right)
        np.add.at(ends, here + begin, np.int32(1))
        np.add.at(ends, here + end, np.int32(-1))
    covered = np.add.accumulate(ends.reshape(bottom - top, right - left + 1)[:, :-1], axis=1)
    mask[top:bottom, left:right] = covered > 0
    return mask


def _stretch(down: np.ndarray, way: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """From where to where columns are within ``reach`` of lines, seen from their upper ends.

    A point ``t`` (0 to 1) of a line is ``down - t * rows`` above the row; there a circle about it
    reaches ``sqrt(reach² - that²)`` to either side. Each end of the stretch is the extreme over
    ``t``, which lies where the border is parallel to the line, or at the nearest ``t`` allowed.
    """
    rows, columns = way.T
    level = rows == 0
    scale = np.where(level, 1.0, rows)
    slant = np.divide(columns, np.hypot(rows, columns), out=np.zeros_like(rows), where=~level)
    lowest = np.where(level, 0.0, np.clip((down - reach) / scale, 0, 1))
    highest = np.where(level, 1.0, np.clip((down + reach) / scale, 0, 1))
    sides = []
    for sign in (-1.0, 1.0):
        best = np.where(level, sign * columns > 0, (down + sign * slant * reach) / scale)
        at = np.clip(best, lowest, highest)
        above = down - at * rows
        sides.append(at * columns + sign * np.sqrt(np.maximum(reach**2 - above**2, 0)))
    return sides[0], sides[1]


def _rows_met(first: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of (which line, row) for the rows ``first <= row < stop`` of each, in blocks."""
    counts = np.maximum(stop - first, 0)
    blocks = np.cumsum(counts) // BLOCK
    for lines in np.split(np.arange(len(counts)), np.flatnonzero(np.diff(blocks)) + 1):
        which = np.repeat(lines, counts[lines])
        before = np.repeat(np.cumsum(counts[lines]) - counts[lines], counts[lines])
        yield which, np.arange(len(which)) - before + first[which]


def _window(size: tuple[int, int], points: np.ndarray, margin: float) -> tuple[int, int, int, int]:
    """First row, row after the last, first column, column after the last that may be met."""
    if len(points) == 0:
        return 0, 0, 0, 0
    limits = [
        _whole(
            np.array([points[:, a].min() - margin - 1, points[:, a].max() + margin + 2]),
            0,
            size[a],
        )
        for a in (0, 1)
    ]
    return int(limits[0][0]), int(limits[0][1]), int(limits[1][0]), int(limits[1][1])


def _whole(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Rounded up to whole numbers from ``low`` to ``high``."""
    whole: np.ndarray = np.clip(np.ceil(values), low, high).astype(np.int64)
    return whole


def _points(points: Places, what: str) -> np.ndarray:
    try:
        found = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be pairs of numbers; got {_short(points)}") from error
    if found.size == 0:
        return np.empty((0, 2))
    if found.ndim != 2 or found.shape[1] != 2:
        raise DataError(
            f"{what} must be pairs of numbers (row, column); got an array of {_by(found.shape)}"
        )
    if not (np.abs(found) <= FARTHEST).all():
        raise DataError(f"{what} must be finite numbers; got {_short(points)}")
    return found


def _length(value: float, what: str) -> float:
    if not 0 <= value <= FARTHEST:
        raise DataError(f"{what} must be a finite number that is not negative; got {value!r}")
    return float(value)


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(n) for n in size)


def _short(points: object) -> str:
    text = repr(points).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."
