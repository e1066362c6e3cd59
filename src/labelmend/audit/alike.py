"""Which cases are nearly the same: images and labels compared by small copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelmend.types import DataSpec

CELLS = {1: 1024, 2: 32, 3: 10}
"""Cells along every axis of a small copy, by the number of axes."""
SAME_IMAGE = 0.995
"""Images whose small copies correlate so much are nearly the same."""
SAME_LABEL = 0.95
"""Labels whose small copies overlap (Dice) so much are nearly the same; in regression, those that
differ on average by less than one twentieth of their spread."""
_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Print:
    """Small copies of an image and its label.

    Attributes:
        content: what is the same where the bytes of two image files are.
        size: the shape of the image, ``(*space)``.
        image: ``(cells,)`` float32 with mean 0 and length 1; all 0 for one that is flat.
        label: ``(classes - 1, cells)`` uint8, what share of a cell a class has, of 255; or
            ``(channels, cells)`` float32.
    """

    content: str
    size: tuple[int, ...]
    image: np.ndarray
    label: np.ndarray


def take_print(
    content: str, image: np.ndarray, label: np.ndarray, valid: np.ndarray, spec: DataSpec
) -> Print:
    """Small copies of a sample.

    Args:
        content: as in :class:`Print`.
        image: ``(channels, *space)``.
        label: class indices ``(*space)``, or ``(channels, *space)`` float.
        valid: ``(*space)`` bool.
        spec: what the data set's files share.
    """
    small = shrink(image.mean(0, dtype=np.float64)).ravel()
    small -= small.mean()
    length = np.linalg.norm(small)
    flat = length <= 1e-9 * max(float(np.abs(image).max()), 1e-30) * np.sqrt(small.size)
    small = np.zeros_like(small) if flat else small / length
    if spec.task == "regression":
        parts = [shrink(np.where(valid, one, 0.0)).ravel() for one in label]
        seen = np.stack(parts).astype(np.float32)
    else:
        masks = [valid & (label == index) for index in range(1, len(spec.classes))]
        shares = [shrink(mask.astype(np.float32)).ravel() for mask in masks]
        seen = np.rint(255 * np.stack(shares)).astype(np.uint8)
    return Print(content, valid.shape, small.astype(np.float32), seen)


def shrink(array: np.ndarray) -> np.ndarray:
    """The means of an array ``(*space)`` over cells, of which there are few.

    >>> shrink(np.arange(4096.0)).shape, shrink(np.eye(3)).shape
    ((1024,), (3, 3))
    """
    for axis, length in enumerate(array.shape):
        cells = min(length, CELLS[array.ndim])
        edges = np.linspace(0, length, cells + 1).astype(int)
        sizes = np.diff(edges).reshape(-1, *[1] * (array.ndim - axis - 1))
        array = np.add.reduceat(array, edges[:-1], axis=axis) / sizes
    return array


def find_alike(prints: Sequence[Print]) -> dict[int, set[int]]:
    """For every case that has nearly identical ones, their numbers.

    Both image and label have to be nearly the same. Images of different sizes never are, and of
    flat ones only those whose files are the same.

    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 1, 1, "none", ".npy")
    >>> image, label = np.arange(9.0)[None], np.arange(9) > 4
    >>> one = take_print("x", image, label, label < 2, spec)
    >>> find_alike([one, take_print("y", image + 1, label, label < 2, spec)])
    {0: {1}, 1: {0}}
    """
    found: dict[int, set[int]] = defaultdict(set)
    of: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for number, one in enumerate(prints):
        of[one.content, one.size].append(number)
    keys = list(of)
    for a, b in _near([prints[of[key][0]] for key in keys]):
        for i in of[keys[a]]:
            for j in of[keys[b]]:
                if i != j and same_label(prints[i].label, prints[j].label):
                    found[i].add(j)
                    found[j].add(i)
    return dict(found)


def same_label(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two small copies of labels are nearly the same; two empty ones are.

    >>> same_label(np.uint8([[255, 0]]), np.uint8([[250, 0]]))
    True
    """
    if one.dtype != np.uint8:
        spread = max(float(np.abs(v - np.median(v)).mean()) for v in (one, other))
        return float(np.abs(one - other).mean()) <= (1 - SAME_LABEL) * spread
    total = int(one.sum(dtype=np.int64)) + int(other.sum(dtype=np.int64))
    return 2 * int(np.minimum(one, other).sum(dtype=np.int64)) >= SAME_LABEL * total


def _near(images: Sequence[Print]) -> list[tuple[int, int]]:
    """Pairs of images that are nearly the same, each image with itself among them."""
    sizes: Mapping[tuple[int, ...], list[int]] = defaultdict(list)
    for number, one in enumerate(images):
        sizes[one.size].append(number)
    pairs = []
    for numbers in sizes.values():
        stack = np.stack([images[number].image for number in numbers])
        for begin in range(0, len(numbers), _AT_ONCE):
            alike = stack[begin : begin + _AT_ONCE] @ stack.T >= SAME_IMAGE
            for row, column in np.argwhere(alike):
                if begin + row < column:
                    pairs.append((numbers[begin + row], numbers[column]))
    return [*((number, number) for number in range(len(images))), *pairs]
