"""Shapes whose points count from the upper left corner of the image, as most tools do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from labelmend.errors import DataError
from labelmend.exchange.annotated import Covering, Part
from labelmend.labels import shapes
from labelmend.labels.outlines import Outline
from labelmend.types import Raster

LINE_WIDTH = 10.0
POINT_RADIUS = 5.0
"""What lines and points are drawn with where a format does not say; LabelMe's own choice."""

_LEAST_RADIUS = 1e-6


def inward(points: np.ndarray) -> np.ndarray:
    """(x, y) from the upper left corner → (row, column) from the centre of the first position.

    >>> inward(np.array([[0.0, 2.0]])).tolist()
    [[1.5, -0.5]]
    """
    swapped: np.ndarray = points[:, ::-1] - 0.5
    return swapped


def outward(ring: np.ndarray) -> np.ndarray:
    """:func:`inward` undone."""
    swapped: np.ndarray = ring[:, ::-1] + 0.5
    return swapped


def polygon_of(rings: Sequence[np.ndarray]) -> Covering:
    """What lies within rings of (x, y), by the even-odd rule."""
    return polygons_of([rings])


def polygons_of(groups: Sequence[Sequence[np.ndarray]]) -> Covering:
    """What lies within at least one of some polygons, each of them rings as :func:`polygon_of`."""
    return partial(_polygons, [[inward(ring) for ring in rings] for rings in groups])


def box_of(left: float, top: float, width: float, height: float, degrees: float = 0.0) -> Covering:
    """A rectangle, turned clockwise about its centre."""
    centre = (top + height / 2 - 0.5, left + width / 2 - 0.5)
    return partial(_box, centre, (height, width), -math.radians(degrees))


def ellipse_of(
    centre: tuple[float, float], radius_x: float, radius_y: float, degrees: float = 0.0
) -> Covering:
    """An ellipse about (x, y), turned clockwise; radii are along x and y before turning.

    Raises:
        DataError: for a radius that is not above 0.
    """
    if not min(radius_x, radius_y) >= _LEAST_RADIUS:
        raise DataError(
            f"its radii should be above 0, not {radius_x:g} and {radius_y:g}; draw it again"
        )
    place = (centre[1] - 0.5, centre[0] - 0.5)
    return partial(_ellipse, place, (radius_y, radius_x), -math.radians(degrees))


def line_of(points: np.ndarray, width: float = LINE_WIDTH) -> Covering:
    """A line through points (x, y)."""
    return partial(_line, inward(points), width)


def dots_of(points: np.ndarray, radius: float = POINT_RADIUS) -> Covering:
    """Dots about points (x, y)."""
    return partial(_dots, inward(points), radius)


def patch_of(mask: np.ndarray, top: int, left: int) -> Covering:
    """A mask that lies at a row and column of the image; what lies outside is cut off."""
    return partial(_patch, mask, top, left)


def cut_out(outline: Outline) -> tuple[np.ndarray, int, int]:
    """The mask of a part in its own rectangle, and the row and column where that begins."""
    low = outline.exterior.min(axis=0)
    rows, columns = (outline.exterior.max(axis=0) - low).astype(int).tolist()
    top, left = (low + 0.5).astype(int).tolist()
    rings = [ring - (top, left) for ring in outline.rings]
    return shapes.polygon((rows, columns), rings), top, left


def _size(image: Raster) -> tuple[int, int]:
    size = image.array.shape[1:]
    if len(size) != 2:
        raise DataError(f"is drawn on an image of two axes, and this one has {len(size)}")
    return size[0], size[1]


def _polygons(groups: list[list[np.ndarray]], image: Raster) -> Part:
    parts = [Part(*shapes.polygon_part(_size(image), rings)) for rings in groups]
    if len(parts) == 1:
        return parts[0]
    spans = [
        (min(here.start for here in along), max(here.stop for here in along))
        for along in zip(*(part.place for part in parts), strict=True)
    ]
    found = np.zeros([stop - start for start, stop in spans], dtype=bool)
    (top, _), (left, _) = spans
    for part in parts:
        rows, columns = part.place
        found[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= (
            part.mask
        )
    return Part(tuple(slice(*span) for span in spans), found)


def _box(
    centre: tuple[float, float], sides: tuple[float, float], angle: float, image: Raster
) -> np.ndarray:
    return shapes.box(_size(image), centre, sides, angle)


def _ellipse(
    centre: tuple[float, float], radii: tuple[float, float], angle: float, image: Raster
) -> np.ndarray:
    return shapes.ellipse(_size(image), centre, radii, angle)


def _line(points: np.ndarray, width: float, image: Raster) -> np.ndarray:
    return shapes.scribble(_size(image), points, width)


def _dots(points: np.ndarray, radius: float, image: Raster) -> np.ndarray:
    return shapes.dots(_size(image), points, radius)


def _patch(mask: np.ndarray, top: int, left: int, image: Raster) -> Part:
    rows, columns = _size(image)
    part = mask[max(0, -top) : max(0, rows - top), max(0, -left) : max(0, columns - left)]
    down, right = min(max(0, top), rows), min(max(0, left), columns)
    return Part((slice(down, down + part.shape[0]), slice(right, right + part.shape[1])), part)
