"""Labels put out of place in known ways: shifted, smoothly deformed, or both.

A field is backward, in positions, ``(dims, *space)``: ``moved(p) = label(p - field(p))``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

SHIFT, LARGEST = 8, 6.0
MARGIN = 16
"""What a larger image must have around a label on every side, for what moves in from there."""
INNER = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
"""A 2-D array without that margin."""
FAULTS = {
    "true": (0, 0.0),
    "shift": (SHIFT, 0.0),
    "deformation": (0, LARGEST),
    "both": (SHIFT, LARGEST),
}
"""The largest shift along each axis and the largest length of the deformation, in positions."""


def field_of(fault: str, space: Sequence[int], seed: Sequence[int]) -> np.ndarray:
    """The field of one label; ``both`` of a seed is its ``deformation`` and its ``shift``."""
    shift, largest = FAULTS[fault]
    by = np.random.default_rng([*seed, 1]).integers(-shift, shift + 1, len(space))
    whole = by.reshape(-1, *[1] * len(space)) + np.zeros((len(space), *space))
    return whole + deformation(space, [*seed, 2], largest) if largest else whole


def deformation(space: Sequence[int], seed: Sequence[int], largest: float) -> np.ndarray:
    """A smooth random field of mean 0 without folds, half the shortest side from hill to hill."""
    rng = np.random.default_rng(seed)
    # Noise smoothed by a Gaussian of deviation s has its mean wave number at about 1 / s.
    smooth = min(space) / 2 / (2 * np.pi)
    around = int(4 * smooth)
    inner = (slice(None), *[slice(around, around + n) for n in space])
    while True:
        noise = rng.normal(size=(len(space), *[n + 2 * around for n in space]))
        field = gaussian_filter(noise, (0, *[smooth] * len(space)))[inner]
        field -= field.mean(tuple(range(1, field.ndim)), keepdims=True)
        field *= largest / np.linalg.norm(field, axis=0).max()
        if least_determinant(field) > 0.1:
            return field


def least_determinant(field: np.ndarray) -> float:
    """The least Jacobian determinant of ``p - field(p)``; it folds where that is below 0."""
    dims = len(field)
    slopes = np.stack([np.stack(np.gradient(part)) for part in field])
    matrices = np.moveaxis(np.eye(dims).reshape(dims, dims, *[1] * dims) - slopes, (0, 1), (-2, -1))
    return float(np.linalg.det(matrices).min())


def moved(array: np.ndarray, field: np.ndarray, *, order: int) -> np.ndarray:
    """What a field makes of an array that is larger than it by the margin on every side.

    Classes are moved with order 0, continuous values with order 1.
    """
    space = field.shape[1:]
    here = np.indices(space) + MARGIN - field
    return map_coordinates(array, here, order=order, mode="nearest")
