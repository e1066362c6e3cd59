"""Every object of a label counted and measured once, also where the label comes in strips."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from scipy import ndimage

from labelmend.errors import DataError

MOST_OBJECTS = 1_000_000
"""More pieces than this in one label are no objects but noise."""

LARGEST_SHAPE = 2**22
"""Positions of an object's box up to which its outline and hull are measured."""


@dataclass(frozen=True, slots=True)
class Object:
    """A connected piece of one class, in positions; one stretch of it where there is one axis.

    Attributes:
        index: the class index.
        size: how many positions it has.
        centroid: its mean position per axis.
        begin: the first position per axis.
        end: the last position per axis, and one.
        means: the mean of the image there, per channel.
        confidence: the mean probability that the network gives to its class there.
        perimeter: the length of its outline (Benkrid and Crookes 2000); None where there are not
            two axes, or where the object is too large.
        eccentricity: of the ellipse with its second moments, 0 for a circle, towards 1 for a line.
        solidity: its share of its convex hull.
        uncertainty: how undecided the network is there, where somebody asked for it.
        disagreement: how far two networks disagree there, likewise.
    """

    index: int
    size: int
    centroid: tuple[float, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    means: tuple[float, ...]
    confidence: float
    perimeter: float | None = None
    eccentricity: float | None = None
    solidity: float | None = None
    uncertainty: float | None = None
    disagreement: float | None = None

    @property
    def extent(self) -> float:
        """Its share of its box."""
        return self.size / float(np.prod(np.subtract(self.end, self.begin)))


class Collector:
    """Finds the objects of a label that comes in strips along its first axis.

    Positions of one class that touch, also at a corner, are one object; class 0 is the background
    and none. Objects across the border between strips are counted once; how the label is cut
    changes nothing but the last digits of means. Memory: the objects, and the pieces of those that
    the last row touches.

    >>> label = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [1, 0, 0, 2]])
    >>> collector = Collector()
    >>> for row in label:
    ...     image, sure = np.ones((1, 1, 4)), np.ones((1, 4))
    ...     collector.add(row[None], image, sure)
    >>> [(each.index, each.size, each.begin) for each in collector.finish()]
    [(1, 2, (0, 0)), (1, 1, (2, 0)), (2, 3, (0, 3))]
    """

    def __init__(self, smallest: int = 1) -> None:
        """``smallest``: objects of fewer positions are left out."""
        self._smallest = smallest
        self._done: list[Object] = []
        self._open: dict[int, _Piece] = {}
        self._edge: np.ndarray | None = None
        self._edge_label = np.empty(0)
        self._start = 0
        self.counts = np.zeros(1, np.int64)
        """Positions per class index so far."""
        self.unsure = np.zeros(0)
        """The sums of uncertainty and, of two networks, disagreement, over all positions so far."""

    def add(
        self,
        label: np.ndarray,
        image: np.ndarray,
        confidence: np.ndarray,
        unsure: Sequence[np.ndarray] = (),
    ) -> None:
        """The next strip: class indices ``(n, *rest)``, image ``(channels, n, *rest)``, how
        probable each position's class is, ``(n, *rest)``, and, where they are wanted, how uncertain
        it is and how far two networks disagree, likewise.

        Raises:
            DataError: when there are more objects than anybody could want.
        """
        from skimage.measure import label as connect

        found = connect(label, background=0, connectivity=label.ndim)
        boxes = ndimage.find_objects(found)
        sums = [confidence, *unsure]
        pieces = [
            _piece(found[box] == number, box, (label, image, sums), self._start)
            for number, box in enumerate(boxes, 1)
        ]
        self._count(label)
        added = np.array([each.sum(dtype=np.float64) for each in unsure])
        self.unsure = self.unsure + added if len(self.unsure) else added
        last = self._join(found, label, pieces)
        self._edge, self._edge_label = last, label[-1]
        self._start += len(label)
        if len(self._done) + len(self._open) > MOST_OBJECTS:
            raise DataError(
                f"its prediction falls into more than {MOST_OBJECTS:,} pieces, which is noise and "
                "no objects; leave small ones out with --smallest, or train longer"
            )

    def finish(self) -> list[Object]:
        """All objects, by class, then by where their boxes begin."""
        for piece in self._open.values():
            self._close(piece)
        self._open, self._edge = {}, None
        return sorted(self._done, key=lambda each: (each.index, each.begin, each.end, each.size))

    def _count(self, label: np.ndarray) -> None:
        counts = np.bincount(label.ravel(), minlength=len(self.counts))
        counts[: len(self.counts)] += self.counts
        self.counts = counts

    def _join(self, found: np.ndarray, label: np.ndarray, pieces: list[_Piece]) -> np.ndarray:
        """Put pieces together with those that they touch; the numbers along the last row."""
        groups = _Groups()
        for old, new in self._touching(found[0], label[0]):
            groups.join(("open", old), ("new", new))
        touched = {int(n) for n in np.unique(found[-1]) if n}
        left: dict[int, _Piece] = {}
        numbers = np.zeros(len(pieces) + 1, np.int64)
        members: dict[object, list[_Piece]] = defaultdict(list)
        reached: dict[object, list[int]] = defaultdict(list)
        for key, piece in self._open.items():
            members[groups.of(("open", key))].append(piece)
        for number, piece in enumerate(pieces, 1):
            group = groups.of(("new", number))
            members[group].append(piece)
            if number in touched:
                reached[group].append(number)
        for name, (group, parts) in enumerate(members.items(), 1):
            whole = parts[0] if len(parts) == 1 else _joined(parts)
            if group in reached:
                left[name] = whole
                numbers[reached[group]] = name
            else:
                self._close(whole)
        self._open = left
        return np.asarray(numbers[found[-1]])

    def _touching(self, first: np.ndarray, label: np.ndarray) -> Iterator[tuple[int, int]]:
        """Pairs of an open piece and one of the new strip that touch, corners too."""
        if self._edge is None:
            return
        pairs: set[tuple[int, int]] = set()
        for offset in product((-1, 0, 1), repeat=first.ndim):
            here = tuple(
                slice(max(0, d), n + min(0, d)) for d, n in zip(offset, first.shape, strict=True)
            )
            there = tuple(
                slice(max(0, -d), n + min(0, -d)) for d, n in zip(offset, first.shape, strict=True)
            )
            same = (label[here] == self._edge_label[there]) & (label[here] != 0)
            both = np.stack([self._edge[there][same], first[here][same]], -1)
            pairs.update(map(tuple, np.unique(both.reshape(-1, 2), axis=0).tolist()))
        yield from sorted(pairs)

    def _close(self, piece: _Piece) -> None:
        if piece.size >= self._smallest:
            self._done.append(piece.measured())


@dataclass(slots=True)
class _Piece:
    """A part of an object: sums over its positions, and where they are."""

    index: int
    size: int
    places: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    values: np.ndarray
    sure: np.ndarray
    """Sums of confidence and, where they are known, of uncertainty and disagreement."""
    masks: list[tuple[np.ndarray, np.ndarray]] | None = field(default_factory=list)

    def measured(self) -> Object:
        size = self.size
        shape: tuple[float | None, ...] = (None, None, None)
        if self.masks is not None:
            shape = _shape(self._mask())
        return Object(
            self.index,
            size,
            tuple((self.places / size).tolist()),
            tuple(self.begin.tolist()),
            tuple(self.end.tolist()),
            tuple((self.values / size).tolist()),
            float(self.sure[0] / size),
            *shape,
            *(self.sure[1:] / size).tolist(),
        )

    def _mask(self) -> np.ndarray:
        mask = np.zeros(tuple(self.end - self.begin), bool)
        for begin, part in self.masks or ():
            place = begin - self.begin
            mask[tuple(slice(a, a + n) for a, n in zip(place, part.shape, strict=True))] |= part
        return mask


def _piece(
    mask: np.ndarray,
    box: tuple[slice, ...],
    arrays: tuple[np.ndarray, np.ndarray, Sequence[np.ndarray]],
    start: int,
) -> _Piece:
    label, image, sums = arrays
    where = np.nonzero(mask)
    begin = np.array([side.start for side in box], np.int64)
    begin[0] += start
    places = np.array([axis.sum() for axis in where], np.float64) + begin * float(len(where[0]))
    values = np.stack([channel[box][mask] for channel in image])
    return _Piece(
        int(label[box][mask][0]),
        len(where[0]),
        places,
        begin,
        begin + mask.shape,
        values.sum(1, dtype=np.float64),
        np.array([each[box][where].sum(dtype=np.float64) for each in sums]),
        [(begin, mask)] if mask.ndim == 2 and mask.size <= LARGEST_SHAPE else None,
    )


def _joined(parts: Sequence[_Piece]) -> _Piece:
    begin = np.min([part.begin for part in parts], axis=0)
    end = np.max([part.end for part in parts], axis=0)
    masks: list[tuple[np.ndarray, np.ndarray]] | None = []
    for part in parts:
        masks = None if masks is None or part.masks is None else masks + part.masks
    if float(np.prod(end - begin)) > LARGEST_SHAPE:
        masks = None
    return _Piece(
        parts[0].index,
        sum(part.size for part in parts),
        np.sum([part.places for part in parts], axis=0),
        begin,
        end,
        np.sum([part.values for part in parts], axis=0),
        np.sum([part.sure for part in parts], axis=0),
        masks,
    )


def _shape(mask: np.ndarray) -> tuple[float, float, float]:
    """Perimeter, eccentricity and solidity of a mask with two axes."""
    from skimage.measure import perimeter
    from skimage.morphology import convex_hull_image

    size = int(mask.sum())
    hull = size if min(mask.shape) == 1 else int(convex_hull_image(mask).sum())
    spread = np.linalg.eigvalsh(np.cov(np.nonzero(mask), bias=True)) if size > 1 else (0.0, 0.0)
    narrow, wide = max(0.0, float(spread[0])), float(spread[1])
    eccentricity = math.sqrt(max(0.0, 1 - narrow / wide)) if wide > 0 else 0.0
    return float(perimeter(mask)), eccentricity, size / hull


class _Groups:
    """Which of several things belong together, by pairs of them (Galler and Fischer 1964)."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def of(self, thing: object) -> object:
        """The one that stands for all that belong together with this."""
        while (parent := self._parent.get(thing, thing)) != thing:
            self._parent[thing] = self._parent.get(parent, parent)
            thing = parent
        return thing

    def join(self, one: object, other: object) -> None:
        """They belong together."""
        self._parent[self.of(one)] = self.of(other)
