"""Where a label belongs, and the label there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from labelmend.alignment.affine import shift_matrix, warp_affine
from labelmend.alignment.fields import warp_field
from labelmend.alignment.shifts import shift
from labelmend.alignment.velocity import after_matrix
from labelmend.data.grid import Grid, from_grid
from labelmend.types import CLEAR, IN_PLACE, MOVED, PARTLY


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where one label belongs.

    It moves as a whole, by ``displacement`` or ``matrix``, and is bent after that by ``field``,
    whose mean is 0. All of it is one move: the label is read between its positions once.

    Attributes:
        displacement: ``(dims,)`` float64, in positions; of the centre of a label that also turns.
            Whole numbers of a label that only shifts.
        confidence: as in :class:`labelmend.types.Alignment`.
        gain: likewise, in nats.
        reason: likewise.
        matrix: ``(dims, dims + 1)`` float64, from positions of the label to where they go, of a
            label that does more than shift.
        field: ``(dims, *space)`` float32, backward, in positions, of a label that is bent.
        bent_by: how far the field moves on average, as a root of mean squares, in positions.

    The trap: a field is as large as its label; :meth:`told` is without it, for telling only.
    """

    displacement: np.ndarray
    confidence: float
    gain: float
    reason: int
    matrix: np.ndarray | None = None
    field: np.ndarray | None = None
    bent_by: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether the label goes anywhere."""
        bends = self.field is not None or self.bent_by > 0
        return bends or self.matrix is not None or bool(self.displacement.any())

    @property
    def clear(self) -> bool:
        """Whether its place is known, along some directions at least."""
        return self.reason in CLEAR

    def less(self, offset: np.ndarray) -> Place:
        """Moved by so much less, for all labels together are to stay where they are."""
        if not self.clear or self.matrix is not None:
            return self
        if self.field is not None or self.bent_by > 0:
            return replace(self, displacement=self.displacement - offset)
        displacement = np.round(self.displacement - offset)
        reason = self.reason if self.reason == PARTLY else MOVED if displacement.any() else IN_PLACE
        return replace(self, displacement=displacement, reason=reason)

    def bent(self, field: np.ndarray, confidence: float, gain: float) -> Place:
        """The same bent by a field after it moved; what the field moves as a whole is made so.

        Args:
            field: ``(dims, *space)`` float32, backward, in positions.
            confidence: as above, of the place after that.
            gain: how much more likely that place is than this one, in nats.

        >>> field = np.float32([[1.0, 1.5, 2.0]])
        >>> place = Place(np.array([3.0]), 1.0, 9.0, MOVED).bent(field, 1.0, 4.0)
        >>> place.displacement, place.field, place.gain
        (array([4.5]), array([[-0.5,  0. ,  0.5]], dtype=float32), 13.0)
        """
        dims = len(self.displacement)
        mean = field.reshape(dims, -1).mean(1, dtype=np.float64)
        uneven = field - mean.astype(np.float32).reshape(-1, *[1] * dims)
        matrix = self.matrix
        if matrix is not None:
            matrix = matrix + np.pad(mean[:, None], ((0, 0), (dims, 0)))
        there, far = self.displacement + mean, _size(uneven)
        return Place(there, confidence, self.gain + gain, MOVED, matrix, uneven, far)

    def whole(self) -> Place:
        """The same without bending, by whole positions where it only shifts."""
        displacement = self.displacement
        if self.matrix is None:
            displacement = np.round(displacement) + 0.0
        return replace(self, displacement=displacement, field=None, bent_by=0.0)

    def told(self) -> Place:
        """The same without the field, which takes much memory; no label can be moved by it."""
        return replace(self, field=None)

    def total(self) -> np.ndarray:
        """All moves of a label that is bent as one field ``(dims, *space)``, backward."""
        if self.field is None:
            raise AssertionError("only a label that is bent moves by a field")
        there = torch.from_numpy(self.displacement if self.matrix is None else self.matrix)[None]
        matrix = shift_matrix(there) if self.matrix is None else there
        return after_matrix(matrix, torch.from_numpy(self.field)[None])[0].numpy()

    def in_file(self, grid: Grid) -> Place:
        """The same in positions of the file, from positions of the grid that a network sees.

        What only shifts does so by whole positions of the file. A field is read linearly between
        positions of the grid; beyond the outermost ones its values go on.

        >>> grid = Grid((8,), (4,), (0.5,), (2.0,))
        >>> Place(np.array([3.0]), 1.0, 9.0, MOVED).in_file(grid).displacement
        array([6.])
        """
        step, origin = np.array(grid.step), np.array(grid.origin)
        displacement, field, far = self.displacement * step, None, self.bent_by
        if self.field is not None:
            along = step.astype(np.float32).reshape(-1, *[1] * len(step))
            field = from_grid(self.field, grid) * along
            far = _size(field)
        if self.matrix is None:
            there = displacement if self.field is not None else np.round(displacement) + 0.0
            return replace(self, displacement=there, field=field, bent_by=far)
        turn = step[:, None] * self.matrix[:, :-1] / step
        shift = origin + step * self.matrix[:, -1] - turn @ origin
        matrix = np.concatenate([turn, shift[:, None]], 1)
        return replace(self, displacement=displacement, matrix=matrix, field=field, bent_by=far)


def moved_arrays(
    label: np.ndarray, valid: np.ndarray, place: Place
) -> tuple[np.ndarray, np.ndarray]:
    """A label and where it is known, moved: whole numbers by the nearest position, others linearly.

    Args:
        label: ``(*space)`` whole numbers, or ``(channels, *space)`` float.
        valid: ``(*space)`` bool.
        place: in positions of the label.

    Returns:
        The moved label, int64 or float as it was, and where it is known.

    >>> moved_arrays(np.array([7, 8]), np.array([True, True]), Place(np.array([1.0]), 1, 9, 1))
    (array([0, 7]), array([False,  True]))
    """
    if place.field is None and place.bent_by > 0:
        raise AssertionError("a bent label is moved by its field, which is not kept here")
    own = label if np.issubdtype(label.dtype, np.floating) else label.astype(np.int64, copy=False)
    given = torch.from_numpy(own)[None], torch.from_numpy(valid)[None]
    there: tuple[Tensor, Tensor]
    if place.field is not None:
        there = warp_field(*given, torch.from_numpy(place.total())[None])
    elif place.matrix is None:
        there = shift(*given, torch.from_numpy(place.displacement).round().long()[None])
    else:
        there = warp_affine(*given, torch.from_numpy(place.matrix)[None])
    return there[0][0].numpy(), there[1][0].numpy()


def mean_shift(places: Sequence[Place], dims: int) -> np.ndarray:
    """The mean displacement ``(dims,)`` of those labels whose place is clear.

    >>> clear, unsure = Place(np.array([2.0]), 1, 9, MOVED), Place(np.array([0.0]), 0, 0, 3)
    >>> mean_shift([clear, unsure], 1)
    array([2.])
    """
    known = [place.displacement for place in places if place.clear]
    return np.mean(known, axis=0) if known else np.zeros(dims)


def _size(field: np.ndarray) -> float:
    """How far a field moves about its mean, as a root of mean squares, in positions."""
    flat = field.reshape(len(field), -1).astype(np.float64)
    apart = flat - flat.mean(1, keepdims=True)
    return float(np.sqrt(np.square(apart).sum(0).mean()))
