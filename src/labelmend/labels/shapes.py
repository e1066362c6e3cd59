"""Shapes that people draw, as masks of positions."""

from __future__ import annotations

import numpy as np


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
