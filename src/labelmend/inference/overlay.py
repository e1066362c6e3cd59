"""Pictures of predictions: the outlines of every class over the image."""

from __future__ import annotations

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


class Overlay:
    """Gathers what a picture needs from strips of any size, then draws it.

    Of a volume the middle slice along the first axis is shown. What is kept has at most
    :data:`LONGEST` positions a side.

    >>> overlay = Overlay((4, 6))
    >>> overlay.add(0, np.arange(24.0).reshape(1, 4, 6), np.eye(4, 6, dtype=int))
    >>> overlay.draw().shape
    (4, 6, 3)
    """

    def __init__(self, size: tuple[int, ...]) -> None:
        self._middle = size[0] // 2 if len(size) == 3 else None
        self._step = -(-max(size[-2:]) // LONGEST)
        self._images: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def add(self, start: int, image: np.ndarray, label: np.ndarray) -> None:
        """A strip of the image ``(channels, n, *rest)`` and of class indices ``(n, *rest)``."""
        step, middle = self._step, self._middle
        if middle is not None:
            if start <= middle < start + len(label):
                self._images.append(image[:, middle - start, ::step, ::step].copy())
                self._labels.append(label[middle - start, ::step, ::step].copy())
            return
        first = -start % step
        self._images.append(image[:, first::step, ::step].copy())
        self._labels.append(label[first::step, ::step].copy())

    def draw(self) -> np.ndarray:
        """The picture, ``(rows, columns, 3)`` uint8."""
        from skimage.segmentation import find_boundaries

        label = np.concatenate(self._labels)
        picture = _grey_or_colours(np.concatenate(self._images, axis=1))
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
