"""Predict images that do not fit into memory: strips in, strips out, the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from labelmend.data.patches import count
from labelmend.data.whole import predict_strips
from labelmend.errors import NonFiniteError
from labelmend.files.tiled import StripImage
from labelmend.inference.predictor import Predictor
from labelmend.inference.statistics import Fixed, fix_statistics
from labelmend.types import Raster, Region

GIB = 2**30
_STRIP = 2**22
"""Values that are read at once where nothing else says how many."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Neighbouring positions of the first axis, all of the others.

    ``image`` is ``(channels, n, *rest)`` as stored, ``scores`` ``(scores, n, *rest)`` float32,
    and ``start`` the first of the ``n`` positions.
    """

    start: int
    image: np.ndarray
    scores: np.ndarray


def memory_in_one(
    predictor: Predictor,
    shape: tuple[int, ...],
    itemsize: int,
    spacing: Sequence[float] | None = None,
) -> int:
    """About how many bytes it takes to predict an image ``(channels, *space)`` in memory.

    The trap: without its ``spacing`` what a run with ``input.spacing`` makes of it is not counted.

    >>> from types import SimpleNamespace
    >>> from labelmend.data.prepare import Preparation
    >>> plain, fine = (SimpleNamespace(outputs=2, preparation=p) for p in
    ...                (Preparation(), Preparation(size=(2000, 2000))))
    >>> memory_in_one(plain, (1, 1000, 1000), 1), memory_in_one(fine, (1, 1000, 1000), 1)
    (25000000, 89000000)
    """
    preparation, channels = predictor.preparation, shape[0]
    # the file's numbers, float32 twice (as read, as prepared); scores; indices
    per_position = channels * (itemsize + 8) + 4 * predictor.outputs + 8
    need = prod(shape[1:]) * per_position
    if preparation.spacing is not None and spacing is None:
        return need
    grid = preparation.grid(shape[1:], spacing)
    if grid.identity and not preparation.spectrogram:
        return need
    # float32 twice (on the network's grid, as normalised there); scores before they are restored
    seen = 8 * preparation.channels(channels) + 4 * predictor.outputs
    return need + prod(grid.size) * seen


def memory_in_strips(predictor: Predictor, shape: tuple[int, ...], itemsize: int) -> int:
    """About how many bytes it takes to predict an image strip by strip, without the network."""
    depth = min(shape[1], predictor.patch[0]) + 2 * _margin(predictor)
    scores = 8 * predictor.outputs + 16
    return prod(shape[2:]) * depth * (shape[0] * (2 * itemsize + 24) + scores)


def why_not(predictor: Predictor, image: StripImage | Raster) -> str:
    """Why an image cannot be predicted strip by strip, in words; nothing where it can.

    Raises:
        DataError, SettingsError: when it cannot be predicted at all.
    """
    preparation, spec = predictor.preparation, predictor.spec
    shape = image.array.shape if isinstance(image, Raster) else image.shape
    if preparation.spectrogram:
        return "a spectrogram is made of a whole recording"
    if not preparation.grid(shape[1:], image.spacing).identity:
        return "the network sees images at another spacing or size, which needs the whole image"
    if spec.task == "regression" and len(spec.classes) > 1:
        return "labels of several channels are written as a whole"
    return ""


def windows(predictor: Predictor, image: StripImage) -> int:
    """How many patches the image is predicted in."""
    return count(image.shape[1:], predictor.patch, predictor.run.settings.input.overlap)


def predict_in_strips(
    predictor: Predictor,
    image: StripImage,
    again: StripImage,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Strip]:
    """What :meth:`Predictor.scores` gives for the image in memory, strip by strip.

    Equal to the last bit where images are not normalised by mean and deviation, and to rounding
    of these where they are. The image is read once more for its statistics, where it needs some;
    de-noising sees beyond the strip. Memory: ``patch[0]`` positions of the first axis times all
    of the others. The trap: a generator; it does its work as strips are asked for.

    Args:
        predictor: for which :func:`why_not` has nothing to say.
        image: what is predicted.
        again: the same file, opened once more; the strips' own numbers are read from it.
        progress: told how many patches of how many are done.

    Raises:
        NonFiniteError: for NaN or infinity in the image, or in what the network makes of it.
        DataError: when the file turns out to be damaged.
    """
    bands = _Bands(predictor, image, _fixed(predictor, image))
    found = predict_strips(
        predictor.network,
        bands.read,
        image.shape[1:],
        patch=predictor.patch,
        overlap=predictor.run.settings.input.overlap,
        multiple=predictor.multiple,
        progress=progress,
    )
    for start, scores in found:
        if not np.isfinite(scores).all():
            raise NonFiniteError(
                f"the network of {predictor.run.path} (step {predictor.step}) yields NaN or "
                "infinity for this image; look for values far beyond those of the training images"
            )
        yield Strip(start, again.read(start, start + scores.shape[1]), scores)


def cut(image: np.ndarray, scores: np.ndarray) -> Iterator[Strip]:
    """An image and its scores in memory as strips, views of moderate size."""
    rows = max(1, _STRIP // prod(image.shape[2:]))
    for start in range(0, image.shape[1], rows):
        stop = start + rows
        yield Strip(start, image[:, start:stop], scores[:, start:stop])


class _Bands:
    """Gives patches of the prepared image; one band of it is held, which patches share."""

    def __init__(self, predictor: Predictor, image: StripImage, fixed: Fixed) -> None:
        self._device = predictor.device
        self._margin = _margin(predictor)
        self._image = image
        self._fixed = fixed
        self._rows = (-1, -1)
        self._band = torch.empty(0)

    def read(self, place: Region) -> Tensor:
        """``(channels, *place.size)`` on the device that predicts."""
        rows = (place.start[0], place.start[0] + place.size[0])
        if rows != self._rows:
            strip = _with_margin(self._image, *rows, self._margin, self._fixed.prepare)
            self._band, self._rows = torch.from_numpy(strip), rows
        cut = (slice(None), slice(None), *place.slices[1:])
        return self._band[cut].to(self._device)


def _fixed(predictor: Predictor, image: StripImage) -> Fixed:
    """The preparation with the statistics of the whole image."""
    bare = replace(predictor.preparation, normalise="none", spacing=None, size=None)
    rows = max(1, _STRIP // (image.shape[0] * prod(image.shape[2:])))
    margin, length = _margin(predictor), image.shape[1]

    def strips() -> Iterator[np.ndarray]:
        for start in range(0, length, rows):
            stop = min(start + rows, length)
            yield _with_margin(image, start, stop, margin, lambda a: bare.image(Raster(a))[0])

    return fix_statistics(predictor.preparation, strips)


def _with_margin(
    image: StripImage,
    start: int,
    stop: int,
    margin: int,
    prepare: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    first, last = max(0, start - margin), min(image.shape[1], stop + margin)
    prepared = prepare(image.read(first, last))
    return np.ascontiguousarray(prepared[:, start - first : stop - first])


def _margin(predictor: Predictor) -> int:
    """How many positions beyond its own a de-noised one depends on."""
    preparation = predictor.preparation
    if preparation.denoise == "none":
        return 0
    if preparation.denoise == "median":
        return max(1, round(preparation.denoise_size))
    return int(4 * preparation.denoise_size + 0.5)  # where scipy ends its bell
