"""Pictures of predictions: the outlines of every class over the image."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np

LONGEST = 2048
"""Positions of a picture's longer side; of larger images every second, third, … is shown."""

_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
"""Seven that can be told apart by most eyes (Okabe and Ito 2008); classes beyond use them again."""


def slicing_axis(spacing: Sequence[float], scanner: bool) -> int:
    """The axis across which slices of a volume are shown.

    The one with the largest spacing, for slices were taken across it; else the third of a scanner's
    volume and the first of any other.

    >>> slicing_axis((0.8, 0.8, 3.0), True), slicing_axis((1.0, 1.0, 1.0), False)
    (2, 0)
    """
    coarsest = int(np.argmax(spacing))
    if spacing[coarsest] > 1.2 * sorted(spacing)[1]:
        return coarsest
    return 2 if scanner else 0


class Overlay:
    """Gathers what a picture needs from strips of any size, then draws it.

    Of a volume the middle slice along :func:`slicing_axis` is shown; a scanner's with its second
    axis upwards. What is kept has at most :data:`LONGEST` positions a side.

    >>> overlay = Overlay((4, 6))
    >>> overlay.add(0, np.arange(24.0).reshape(1, 4, 6), np.eye(4, 6, dtype=int))
    >>> overlay.draw().shape
    (4, 6, 3)
    """

    def __init__(
        self,
        size: tuple[int, ...],
        spacing: Sequence[float] | None = None,
        *,
        scanner: bool = False,
    ) -> None:
        self._axis = slicing_axis(spacing or (1.0,) * 3, scanner) if len(size) == 3 else None
        self._upright = scanner and self._axis is not None
        self._middle = 0 if self._axis is None else size[self._axis] // 2
        shown = [n for axis, n in enumerate(size) if axis != self._axis]
        self._step = -(-max(shown) // LONGEST)
        self._images: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def add(self, start: int, image: np.ndarray, label: np.ndarray) -> None:
        """A strip of the image ``(channels, n, *rest)`` and of class indices ``(n, *rest)``."""
        step, axis, first = self._step, self._axis, -start % self._step
        if axis == 0:
            place, first = self._middle - start, 0
            if not 0 <= place < len(label):
                return
            image, label = image[:, place], label[place]
        elif axis is not None:
            image, label = image.take(self._middle, axis + 1), label.take(self._middle, axis)
        self._images.append(image[:, first::step, ::step].copy())
        self._labels.append(label[first::step, ::step].copy())

    def draw(self) -> np.ndarray:
        """The picture, ``(rows, columns, 3)`` uint8."""
        from skimage.segmentation import find_boundaries

        label = np.concatenate(self._labels)
        image = np.concatenate(self._images, axis=1)
        if self._upright:
            label, image = (each.swapaxes(-1, -2)[..., ::-1, :] for each in (label, image))
        picture = _grey_or_colours(image)
        border = find_boundaries(label, mode="inner") & (label > 0)
        colours = np.asarray(_COLOURS, np.uint8)
        picture[border] = colours[(label[border] - 1) % len(colours)]
        return picture

    def to_png(self) -> bytes:
        """The picture as the bytes of a PNG."""
        from PIL import Image

        stream = BytesIO()
        Image.fromarray(self.draw()).save(stream, "PNG")
        return stream.getvalue()


def _grey_or_colours(image: np.ndarray) -> np.ndarray:
    """Three channels as red, green and blue, else the first as grey; the outer 1 % cut off."""
    shown = image if len(image) == 3 else image[[0, 0, 0]]
    values = shown.astype(np.float64)
    low, high = np.percentile(values, (1, 99))
    if low == high:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.moveaxis((np.clip(scaled, 0, 1) * 255).round().astype(np.uint8), 0, -1).copy()
