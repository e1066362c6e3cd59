"""Images and labels that were just predicted, kept for minutes so that a page can show them."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np

from labelmend.errors import ShapeError
from labelmend.serve.answers import Prediction

MANY = 16
SIZE = 512 * 2**20
SECONDS = 900.0
_LOOKED_AT = 2_000_000
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")
Which = Literal["image", "label"]


def colour(index: int) -> str:
    """The colour of a class, as overlays have it; classes beyond the seventh use them again.

    Source: Okabe and Ito, Color Universal Design (2008).

    >>> colour(0), colour(1), colour(8)
    ('#808080', '#e69f00', '#e69f00')
    """
    return _COLOURS[(index - 1) % len(_COLOURS)] if index else "#808080"


@dataclass(frozen=True, slots=True)
class Look:
    """An image and its label, small enough to be kept.

    ``image`` is ``(1 or 3, *space)`` uint8, for recordings ``(1, *space)`` float32; ``label`` is
    ``(*space)`` uint8: class indices, from 255 on counted from 1 again; for regression the first
    channel from its least to its largest value, for recordings float32.
    """

    image: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, found: Prediction) -> Look:
        """What there is to see of a prediction."""
        image, label = found.raster.array, found.label
        if found.spec.dims == 1:
            image = image[:1].astype(np.float32)
        else:
            image = _as_grey(image if len(image) == 3 else image[:1])
        if found.spec.task != "regression":
            return cls(image, np.where(label > 0, (label - 1) % 254 + 1, 0).astype(np.uint8))
        first = label[0]
        return cls(image, first if found.spec.dims == 1 else _as_grey(first))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.image.nbytes + self.label.nbytes

    def png(self, which: Which, axis: int, index: int | None) -> bytes:
        """A slice as a PNG, ``(rows, columns)`` in grey or colours.

        Args:
            which: the image, or the label: one byte per position.
            axis: of a volume, across which; ignored for images.
            index: which slice; by default the middle one.

        Raises:
            ShapeError: when there is no such slice, or this is a recording.
        """
        from PIL import Image

        stack = self.image if which == "image" else self.label[None]
        if stack.ndim == 2:
            raise ShapeError("a recording has no slices; ask for its wave")
        if stack.ndim == 4:
            stack = _slice(stack, axis, index)
        plane = np.moveaxis(stack, 0, -1) if len(stack) == 3 else stack[0]
        stream = BytesIO()
        Image.fromarray(np.ascontiguousarray(plane)).save(stream, "PNG", compress_level=1)
        return stream.getvalue()

    def wave(self, which: Which, columns: int) -> dict[str, list[float]]:
        """The least and the largest value of a recording in each of at most so many columns.

        Raises:
            ShapeError: when this is no recording.
        """
        values = self.image[0] if which == "image" else self.label
        if values.ndim != 1:
            raise ShapeError("this is no recording; ask for slices of it")
        starts = np.unique(np.linspace(0, len(values), min(columns, len(values)) + 1).astype(int))
        low = np.minimum.reduceat(values, starts[:-1])
        high = np.maximum.reduceat(values, starts[:-1])
        return {"low": low.astype(float).tolist(), "high": high.astype(float).tolist()}


class Looks:
    """Keeps the last few looks under names that nobody can guess, and forgets them again.

    >>> looks = Looks(many=1)
    >>> old, new = (looks.keep(Look(np.zeros((1, 2)), np.zeros(2))) for _ in range(2))
    >>> looks.find(old) is None, looks.find(new) is None
    (True, False)
    """

    def __init__(
        self,
        *,
        many: int = MANY,
        size: int = SIZE,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most ``many`` of together ``size`` bytes, each for ``seconds``."""
        self._many = many
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Look]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, look: Look) -> str | None:
        """The name under which it is kept; None where it alone is too large."""
        if look.size > self._size:
            return None
        name = secrets.token_urlsafe(18)
        with self._lock:
            self._kept[name] = self._clock(), look
            self._forget()
        return name

    def find(self, name: str) -> Look | None:
        """What is kept under a name; None where nothing is, any more."""
        with self._lock:
            self._forget()
            found = self._kept.get(name)
            return None if found is None else found[1]

    def _forget(self) -> None:
        now = self._clock()
        while self._kept and (len(self._kept) > self._many or self._taken() > self._size):
            self._kept.popitem(last=False)
        for name in [n for n, (at, _) in self._kept.items() if now - at > self._seconds]:
            del self._kept[name]

    def _taken(self) -> int:
        return sum(look.size for _, look in self._kept.values())


def _slice(stack: np.ndarray, axis: int, index: int | None) -> np.ndarray:
    length = stack.shape[axis + 1]
    chosen = length // 2 if index is None else index
    if not 0 <= chosen < length:
        raise ShapeError(f"axis {axis} has slices 0 to {length - 1}, not {chosen}")
    return np.asarray(np.take(stack, chosen, axis + 1))


def _as_grey(image: np.ndarray) -> np.ndarray:
    """Values as uint8, the outer 1 % cut off; colours of 8 bits as they are."""
    if image.dtype == np.uint8 and image.ndim > 2 and len(image) == 3:
        return image
    flat = image.reshape(-1)
    looked_at = flat[:: math.ceil(flat.size / _LOOKED_AT)].astype(np.float64)
    low, high = np.percentile(looked_at, (1, 99))
    if low == high:
        low, high = float(looked_at.min()), float(looked_at.max())
    if low == high:
        return np.zeros(image.shape, np.uint8)
    scaled = (image.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.clip(scaled, 0, 255).round().astype(np.uint8))
