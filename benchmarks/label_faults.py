"""Ways in which labels go wrong, made on purpose, so that the truth is known.

Labels are arrays of class indices ``(*space)``, 0 is background, of one, two or three dimensions.
Rough ones (``ellipses``, ``boxes``) draw every connected region of a class anew, and return a label
of the same shape. Those that move a label want it larger than what they return by
:data:`displacements.MARGIN` on every side, so that what moves in from outside is real; they also
return by how much it moved in the mean, ``(dims,)`` in positions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import label as regions_of

from displacements import MARGIN, deformation, moved

Rough = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Move = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]

SIZE = (0.75, 1.4)
"""How much too small or too large a quick hand draws, along each axis alike."""
BESIDE = 1.5
"""Deviation of the centre of what a quick hand draws, in positions along each axis."""
SHIFT, ANGLE, LARGEST = {1: 8, 2: 8, 3: 4}, 10.0, {1: 6.0, 2: 6.0, 3: 3.0}
"""The largest shift along each axis by dimensions, rotation in degrees, length of a deformation by
dimensions: one of 6 positions folds the small volumes we have nearly always."""


def ellipses(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every region as the solid ellipse of its second moments, not quite there nor that large."""
    places = np.stack(np.indices(label.shape), axis=-1)
    out = np.zeros_like(label)
    for value, region in regions(label):
        points = np.argwhere(region).astype(float)
        spread = np.atleast_2d(np.cov(points, rowvar=False)) if len(points) > 1 else 0.0
        # 1/12 is the spread of a single position, so that no ellipse is thinner than one.
        spread = spread + np.eye(label.ndim) / 12
        centre = points.mean(axis=0) + rng.normal(0, BESIDE, label.ndim)
        away = places - centre
        # A solid ellipse of half-axes a has the covariance a^2 / (dims + 2).
        far = np.einsum("...i,ij,...j->...", away, np.linalg.inv(spread), away)
        out[far <= (label.ndim + 2) * rng.uniform(*SIZE) ** 2] = value
    return out


def boxes(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every region as the box around it, each side off by a position or two."""
    out = np.zeros_like(label)
    for value, region in regions(label):
        ends = [(p.min(), p.max() + 1) for p in np.nonzero(region)]
        off = np.rint(rng.normal(0, 1, (label.ndim, 2))).astype(int)
        box = [
            slice(max(int(a + i), 0), max(int(b + j), 0))
            for (a, b), (i, j) in zip(ends, off, strict=True)
        ]
        out[tuple(box)] = value
    return out


def shifted(label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Moved by up to :data:`SHIFT` positions along each axis; needs the margin."""
    most = SHIFT[label.ndim]
    by = rng.integers(-most, most + 1, label.ndim)
    return _moved(label, np.zeros(_with_axes(label)) + by.reshape(-1, *[1] * label.ndim))


def turned(label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turned in the plane of the last two axes by up to :data:`ANGLE`; needs the margin."""
    angle = np.deg2rad(rng.uniform(-ANGLE, ANGLE))
    space = _with_axes(label)[1:]
    field = np.zeros((label.ndim, *space))
    rows, columns = (np.indices(space)[a] - (space[a] - 1) / 2 for a in (-2, -1))
    field[-2] = rows - (np.cos(angle) * rows - np.sin(angle) * columns)
    field[-1] = columns - (np.sin(angle) * rows + np.cos(angle) * columns)
    return _moved(label, field)


def deformed(label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bent smoothly, by :data:`LARGEST` positions at most; needs the margin."""
    seed, largest = [int(rng.integers(2**31))], LARGEST[label.ndim]
    return _moved(label, deformation(_with_axes(label)[1:], seed, largest))


def inner(label: np.ndarray) -> np.ndarray:
    """A label without its margin."""
    return label[(slice(MARGIN, -MARGIN),) * label.ndim]


def regions(label: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Every connected region of every class above 0, as its class and a mask ``(*space)``."""
    found: list[tuple[int, np.ndarray]] = []
    for value in np.unique(label[label > 0]).tolist():
        numbered, many = regions_of(label == value)
        found += [(value, numbered == n + 1) for n in range(many)]
    return found


def swapped(labels: list[np.ndarray], share: float, rng: np.random.Generator) -> np.ndarray:
    """Give a share of the labels to the wrong images, in place; ``(labels,)`` bool, which."""
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    taken = [labels[place] for place in chosen]
    for place, other in zip(chosen, taken[1:] + taken[:1], strict=True):
        labels[place] = other
    return np.isin(np.arange(len(labels)), chosen)


def _with_axes(label: np.ndarray) -> tuple[int, ...]:
    return (label.ndim, *[n - 2 * MARGIN for n in label.shape])


def _moved(label: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = field.mean(axis=tuple(range(1, field.ndim)))
    return moved(label, field, order=0).astype(label.dtype), mean
