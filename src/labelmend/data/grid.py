"""Where the positions of one grid lie among those of another, and moving values between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array

from labelmend.errors import ShapeError

Axis = tuple[int, float, float]
"""Positions wanted along an axis; position ``g`` lies at ``origin + step * g`` of the source."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the positions a network sees lie among those of the file.

    Position ``g`` of the grid is centred on position ``origin + step * g`` of the file, per space
    axis, both counted at the centres of cells. ``spacing`` is the file's; ``hop`` is the step
    between spectrogram frames, 1 where there are none.

    >>> Grid((8,), (4,), (0.5,), (2.0,), (1.5,)).grid_spacing
    (3.0,)
    """

    space: tuple[int, ...]
    size: tuple[int, ...]
    origin: tuple[float, ...]
    step: tuple[float, ...]
    spacing: tuple[float, ...] | None = None
    hop: int = 1

    @property
    def identity(self) -> bool:
        """Whether the grid is the file's own."""
        return self.space == self.size and set(self.step) == {1.0} and set(self.origin) == {0.0}

    @property
    def grid_spacing(self) -> tuple[float, ...] | None:
        """The distance between grid positions, in the unit of ``spacing``."""
        if self.spacing is None:
            return None
        return tuple(a * b for a, b in zip(self.spacing, self.step, strict=True))


def to_grid(array: np.ndarray, grid: Grid) -> np.ndarray:
    """Values ``(..., *grid.space)`` at the positions ``(..., *grid.size)`` of the grid.

    Cells are averaged where the grid is coarser and interpolated linearly where it is finer.
    Frames of a spectrogram are taken at their centres, never averaged over a hop.

    >>> to_grid(np.array([0.0, 2.0, 4.0, 6.0], np.float32), Grid((4,), (2,), (0.5,), (2.0,)))
    array([1., 5.], dtype=float32)
    """
    axes = list(zip(grid.size, grid.origin, grid.step, strict=True))
    return resample(array, axes, shrink=1 / grid.hop)


def from_grid(array: np.ndarray, grid: Grid) -> np.ndarray:
    """Values ``(..., *grid.size)`` at the file's positions ``(..., *grid.space)``.

    >>> from_grid(np.array([1.0, 5.0], np.float32), Grid((4,), (2,), (0.5,), (2.0,)))
    array([1., 2., 4., 5.], dtype=float32)
    """
    axes = [
        (n, -origin / step, 1 / step)
        for n, origin, step in zip(grid.space, grid.origin, grid.step, strict=True)
    ]
    return resample(array, axes)


def resample(array: np.ndarray, axes: Sequence[Axis], shrink: float = 1.0) -> np.ndarray:
    """Values ``(..., *space)`` float32 at other positions, axis by axis.

    A new position takes the mean of what a cell as wide as ``step * shrink``, at least 1, covers
    of the cells around it. At a step of 1 or less that is linear interpolation, above it the mean
    over the area, so nothing is skipped, and it is symmetric, so nothing is moved. Beyond the
    first and last position their values go on.

    >>> resample(np.array([0.0, 1.0], np.float32), [(4, -0.25, 0.5)])
    array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
    """
    lead = array.ndim - len(axes)
    growth = [m / array.shape[lead + a] for a, (m, _, _) in enumerate(axes)]
    for a in np.argsort(growth, kind="stable"):  # what shrinks comes first and saves memory
        size, origin, step = axes[a]
        length = array.shape[lead + a]
        if (size, origin, step) == (length, 0.0, 1.0):
            continue
        moved = np.moveaxis(array, lead + a, 0)
        flat = moved.reshape(length, -1)
        out = _shares(length, axes[a], max(1.0, step * shrink)) @ flat
        array = np.moveaxis(out.reshape(size, *moved.shape[1:]), 0, lead + a)
    return np.ascontiguousarray(array, dtype=np.float32)


def most_covering(label: np.ndarray, grid: Grid) -> np.ndarray:
    """Class indices ``(*grid.size)``: the class that covers most of each cell, lower when equal.

    A tie goes by class and never by place: rounding to one side would move every label by half a
    position at even factors.

    Raises:
        ShapeError: for negative class indices.

    >>> most_covering(np.array([0, 1, 2, 2]), Grid((4,), (2,), (0.5,), (2.0,)))
    array([0, 2])
    """
    if label.size and label.min() < 0:
        raise ShapeError(f"class indices of at least 0 are wanted, got {label.min()}")
    present = np.flatnonzero(np.bincount(label.ravel()))
    out = np.full(grid.size, present[0], dtype=np.int64)
    best = np.full(grid.size, -1.0, dtype=np.float32)
    for index in present:
        share = to_grid((label == index).astype(np.float32), grid)
        better = share > best + 1e-4  # more than rounding
        out[better], best[better] = index, share[better]
    return out


def _shares(length: int, axis: Axis, width: float) -> csr_array:
    """Sparse ``(size, length)``: what share of each new cell lies on which old one."""
    size, origin, step = axis
    centre = origin + step * np.arange(size)[:, None]
    first = np.floor(centre - width / 2 + 0.5)
    old = first + np.arange(math.ceil(width) + 1)
    left, right = (
        np.maximum(centre - width / 2, old - 0.5),
        np.minimum(centre + width / 2, old + 0.5),
    )
    share = (right - left) / width
    share[share < 1e-6] = 0  # rounding of the borders is no contribution
    share /= share.sum(1, keepdims=True)
    rows = np.broadcast_to(np.arange(size)[:, None], old.shape)
    columns = np.clip(old, 0, length - 1).astype(np.int64)
    used = share > 0
    matrix = coo_array(
        (share[used].astype(np.float32), (rows[used], columns[used])), shape=(size, length)
    )
    return matrix.tocsr()
