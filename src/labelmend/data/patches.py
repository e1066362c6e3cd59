"""Cut arrays into overlapping patches and join what was predicted for them again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import product, zip_longest
from typing import Literal, get_args

import numpy as np

from labelmend.errors import SettingsError, ShapeError
from labelmend.types import Region

Blend = Literal["mean", "linear", "hann", "gaussian"]
"""How much each position of a patch counts where patches overlap."""


def regions(size: Sequence[int], patch: Sequence[int], overlap: float = 0.5) -> list[Region]:
    """The regions that cover ``size`` with patches, in C order (last axis fastest).

    Neighbours share at least ``overlap`` of a patch. The last region of an axis is shifted
    inward, so all have one size; a patch longer than the axis is cut to it.

    Args:
        size: positions per space axis.
        patch: positions per space axis of one patch.
        overlap: share of a patch in [0, 1).

    Raises:
        SettingsError: for a patch below 1, of another number of axes, or a wrong overlap.
        ShapeError: for an axis without positions.

    Trap: regions are of the clipped size; a network that wants more positions must be padded.

    >>> [r.start for r in regions((10,), (4,), 0.5)]
    [(0,), (2,), (4,), (6,)]
    >>> regions((3, 5), (8, 5))
    [Region(start=(0, 0), size=(3, 5))]
    """
    axes = [_starts(*axis) for axis in _axes(size, patch, overlap)]
    clipped = tuple(min(n, p) for n, p in zip(size, patch, strict=True))
    return [Region(start, clipped) for start in product(*axes)]


def count(size: Sequence[int], patch: Sequence[int], overlap: float = 0.5) -> int:
    """How many regions :func:`regions` returns, without making them.

    Raises:
        SettingsError, ShapeError: as :func:`regions`.

    >>> count((1000, 1000, 300), (96, 96, 96), 0.5)
    2400
    """
    return math.prod(-(-(n - p) // stride) + 1 for n, p, stride in _axes(size, patch, overlap))


def split(array: np.ndarray, places: Iterable[Region]) -> list[np.ndarray]:
    """The patches of ``array`` ``(channels, *space)`` at every region, as views.

    Raises:
        ShapeError: for a region that is not inside the array.

    Trap: nothing is copied, so writing into a patch writes into ``array``.

    >>> [p.tolist() for p in split(np.arange(4)[None], regions((4,), (2,), 0))]
    [[[0, 1]], [[2, 3]]]
    """
    patches = []
    for region in places:
        _check_inside(region, array.shape[1:])
        patches.append(array[(slice(None), *region.slices)])
    return patches


def join(
    patches: Iterable[np.ndarray],
    places: Iterable[Region],
    size: Sequence[int],
    blend: Blend = "hann",
) -> np.ndarray:
    """The array ``(channels, *size)`` float32 that ``patches`` were cut from.

    Where patches overlap, their mean weighted by ``blend``. ``join(split(x))`` is ``x`` to the
    last bit for every size, patch, overlap and blend, because a patch that agrees changes nothing.

    Raises:
        ShapeError: when patches and regions do not fit, or a position is never covered.
        SettingsError: for an unknown blend.

    >>> places = regions((7,), (3,), 0.5)
    >>> join(split(np.ones((1, 7)), places), places, (7,)).tolist()
    [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    """
    joiner: Joiner | None = None
    for patch, region in zip_longest(patches, places):
        if patch is None or region is None:
            raise ShapeError("as many patches as regions are wanted; one of them ended first")
        joiner = joiner or Joiner(patch.shape[0], size, blend)
        joiner.add(patch, region)
    if joiner is None:
        raise ShapeError("at least one patch is wanted to join, got none")
    return joiner.result()


class Joiner:
    """Joins patches one at a time, in memory for one array and its weights (both float32).

    A running weighted mean (West 1979) rather than two sums: the first patch to cover a position
    sets it, later ones move it by their share of the weight. No division at the end, no darkened
    border, and patches that agree leave every bit as it was.

    >>> joiner = Joiner(channels=1, size=(3,), blend="mean")
    >>> joiner.add(np.array([[1.0, 1.0]]), Region((0,), (2,)))
    >>> joiner.add(np.array([[3.0, 3.0]]), Region((1,), (2,)))
    >>> joiner.result().tolist()
    [[1.0, 2.0, 3.0]]
    """

    def __init__(self, channels: int, size: Sequence[int], blend: Blend = "hann") -> None:
        if blend not in get_args(Blend):
            raise SettingsError(f"blend is one of {', '.join(get_args(Blend))}, not {blend!r}")
        self._blend: Blend = blend
        self._mean = np.zeros((channels, *size), dtype=np.float32)
        self._weight = np.zeros(tuple(size), dtype=np.float32)

    def add(self, patch: np.ndarray, region: Region) -> None:
        """Lay ``patch`` ``(channels, *region.size)`` over what is there.

        Raises:
            ShapeError: when the patch does not fit the region or the region the array.
        """
        _check_inside(region, self._weight.shape)
        wanted = (self._mean.shape[0], *region.size)
        if patch.shape != wanted:
            raise ShapeError(f"a patch of shape {wanted} is wanted here, got {patch.shape}")
        weight = self._weight[region.slices]
        mean = self._mean[(slice(None), *region.slices)]
        window = blend_window(region.size, self._blend)
        weight += window
        # window / weight is exactly 1 for the first patch, so it is stored as it came
        mean += (patch.astype(np.float32, copy=False) - mean) * (window / weight)

    def result(self) -> np.ndarray:
        """The joined array ``(channels, *size)``; adding more patches changes it.

        Raises:
            ShapeError: when a position was never covered, naming the first.
        """
        bare = self._weight == 0
        if bare.any():
            where = tuple(int(i) for i in np.unravel_index(int(bare.argmax()), bare.shape))
            raise ShapeError(f"patches must cover every position; {where} was never covered")
        return self._mean


def _axes(size: Sequence[int], patch: Sequence[int], overlap: float) -> list[tuple[int, int, int]]:
    """Length, clipped patch and stride of every axis."""
    if len(size) != len(patch):
        raise SettingsError(
            f"patch wants {len(size)} numbers for {tuple(size)}, got {tuple(patch)}"
        )
    if not 0 <= overlap < 1:
        raise SettingsError(f"overlap is at least 0 and below 1, not {overlap}")
    if min(patch, default=0) < 1:
        raise SettingsError(f"patch wants at least 1 position per axis, got {tuple(patch)}")
    if min(size, default=0) < 1:
        raise ShapeError(f"every axis wants at least 1 position, got {tuple(size)}")
    clipped = [min(n, p) for n, p in zip(size, patch, strict=True)]
    # the small addend keeps 10 * 0.7 from being 6.999...
    strides = [max(1, p - math.ceil(p * overlap - 1e-9)) for p in clipped]
    return list(zip(size, clipped, strides, strict=True))


def _starts(length: int, patch: int, stride: int) -> list[int]:
    return [*range(0, length - patch, stride), length - patch]


def _check_inside(region: Region, size: Sequence[int]) -> None:
    fits = len(region.size) == len(size) and all(
        a >= 0 and n > 0 and a + n <= m
        for a, n, m in zip(region.start, region.size, size, strict=True)
    )
    if not fits:
        raise ShapeError(f"{region} is not inside an array of size {tuple(size)}")


@lru_cache(maxsize=4)
def blend_window(size: tuple[int, ...], blend: Blend) -> np.ndarray:
    """The weight of every position of a patch: above 0 everywhere, 1 at most."""
    window = np.ones((), dtype=np.float64)
    for n in size:
        window = window[..., None] * _profile(n, blend)
    # nothing may round to 0, or a corner that only one patch covers would count as uncovered
    out = np.maximum(window, np.finfo(np.float32).tiny).astype(np.float32)
    out.setflags(write=False)
    return out


def _profile(n: int, blend: Blend) -> np.ndarray:
    centre = (np.arange(n) + 0.5) / n  # positions are cells; their centres never touch 0 or 1
    if blend == "linear":
        return np.asarray(1 - np.abs(2 * centre - 1))
    if blend == "hann":
        return np.asarray(np.sin(np.pi * centre) ** 2)
    if blend == "gaussian":
        return np.asarray(np.exp(-0.5 * ((centre - 0.5) / 0.125) ** 2))
    return np.ones(n)
