"""Labels by machine: which positions of an image look like a thing, by brightness alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import fft, ndimage, signal

from labelmend.errors import DataError, SettingsError, ShapeError, unknown

Method = Literal["otsu", "li", "yen", "triangle", "watershed"]
Side = Literal["brighter", "darker"]

METHODS: tuple[Method, ...] = get_args(Method)
"""The methods by name; a number is the threshold itself."""

SIDES: tuple[Side, ...] = get_args(Side)
"""The sides by name."""

SMOOTH, SMOOTH_RECORDING = 1.0, 16.0
"""By how many positions images and recordings are smoothed, where nobody says."""


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What a machine proposes for one image.

    Attributes:
        label: class indices ``(*space)`` int64, 0 and 1.
        side: whether the thing is the brighter or the darker part.
    """

    label: np.ndarray
    side: Side


def propose_label(
    image: np.ndarray,
    by: Method | float,
    *,
    side: Side | None = None,
    channel: int | None = None,
    smooth: float | None = None,
) -> Proposal:
    """A label of two classes, the thing being the brighter or the darker part of an image.

    Args:
        image: ``(channels, *space)`` of one to three space axes, any type of real numbers.
        by: a method: ``otsu``, ``li``, ``yen`` and ``triangle`` choose a threshold by the
            histogram, ``watershed`` floods the steepness of the image from what is surely bright
            and surely dark, so that the border lies where it is steepest; or the threshold.
        side: which part is the thing; by default the smaller one, the brighter of equal ones.
        channel: the channel to look at, from 0; by default the mean of all.
        smooth: standard deviation, in positions, of the Gaussian that the image is smoothed with
            before; by default 1, none where a number is the threshold, and 16 for recordings.

    Of a recording (one space axis) the envelope is looked at: how far it swings about its median.

    Raises:
        DataError: when the image holds one value throughout, so that only a number can divide it,
            NaN, infinity, or numbers too large to compute with.
        SettingsError: for a method, a side or a channel that does not exist.
        ShapeError: for an array without a channel axis and space, or without positions.

    The trap: the smaller part is a guess per image; give ``side`` for images in which things may
    cover more than half. Another: an array of two axes is a recording of several channels; a
    picture ``(rows, columns)`` needs its channel axis, ``image[None]``.

    >>> image = np.zeros((1, 8, 8)); image[0, 2:5, 2:5] = 9
    >>> found = propose_label(image, "otsu")
    >>> found.side, int(found.label.sum())
    ('brighter', 9)
    """
    if side is not None:
        check_side(side)
    bright = brighter_part(image, by, channel=channel, smooth=smooth)
    chosen = side or smaller_side([float(bright.mean())])
    return Proposal((bright == (chosen == "brighter")).astype(np.int64), chosen)


def check_side(side: str) -> None:
    """Refuse a word that is no side.

    Raises:
        SettingsError: offering the nearest one.

    >>> check_side("Darker")
    Traceback (most recent call last):
        ...
    labelmend.errors.SettingsError: unknown side 'Darker'; did you mean 'darker'?
    """
    if side not in SIDES:
        raise unknown("side", side, SIDES)


def brighter_part(
    image: np.ndarray,
    by: Method | float,
    *,
    channel: int | None = None,
    smooth: float | None = None,
) -> np.ndarray:
    """The positions above the threshold, ``(*space)`` bool; see :func:`propose_label`.

    Raises:
        DataError, SettingsError, ShapeError: as :func:`propose_label`.

    >>> brighter_part(np.array([[[1.0, 5.0]]]), 3, smooth=0)
    array([[False,  True]])
    """
    if isinstance(by, str) and by not in METHODS:
        raise unknown("method", by, METHODS, " A number is the threshold itself.")
    if not isinstance(by, str) and not math.isfinite(by):
        raise SettingsError(f"a threshold is a finite number, not {by!r}")
    if not 2 <= image.ndim <= 4 or image.size == 0:
        raise ShapeError(
            "an image (channels, *space) with one to three space axes is wanted, not "
            f"{image.shape}; of one channel without its axis it is image[None]"
        )
    if smooth is None:
        usual = SMOOTH if isinstance(by, str) else 0.0
        smooth = SMOOTH_RECORDING if image.ndim == 2 else usual
    grey = _grey(image, channel, smooth)
    if not isinstance(by, str):
        above: np.ndarray = grey > by
        return above
    low, high = float(grey.min()), float(grey.max())
    if low == high:
        raise DataError(
            f"is {low:g} throughout, so there is nothing to divide by {by}; leave it out, or give "
            "a number as the threshold"
        )
    # between 0 and 1, where no method meets numbers that it cannot hold
    grey = (grey - low) / (high - low)
    return _flooded(grey) if by == "watershed" else grey > _threshold(grey, by)


def smaller_side(shares: Sequence[float]) -> Side:
    """Which side is the smaller one of many images, by the shares of their brighter parts.

    >>> smaller_side([0.1, 0.2, 0.6]), smaller_side([0.5]), smaller_side([0.9])
    ('brighter', 'brighter', 'darker')
    """
    return "brighter" if math.fsum(shares) <= len(shares) / 2 else "darker"


def _grey(image: np.ndarray, channel: int | None, sigma: float) -> np.ndarray:
    if channel is not None and not 0 <= channel < len(image):
        raise SettingsError(
            f"there is no channel {channel}: the image has {len(image)}, counted from 0"
        )
    if not 0 <= sigma < math.inf:
        raise SettingsError(f"smoothing takes 0 or more positions, not {sigma!r}")
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = np.asarray(image if channel is None else image[channel : channel + 1], np.float64)
        if not np.isfinite(wanted).all():
            what = "NaN" if np.isnan(wanted).any() else "infinity"
            raise DataError(f"holds {what}; repair it or leave it out")
        grey = np.mean([_envelope(w) for w in wanted] if image.ndim == 2 else wanted, axis=0)
        smoothed: np.ndarray = ndimage.gaussian_filter(grey, sigma) if sigma else grey
        if not np.isfinite([smoothed.min(), smoothed.max(), np.ptp(smoothed)]).all():
            raise DataError("holds numbers too large to compute with; scale them down")
    return smoothed


def _envelope(recording: np.ndarray) -> np.ndarray:
    """How far a recording swings about its median, ``(length,)``."""
    swing = recording - np.median(recording)
    length = len(swing)
    # a length that is a large prime would take the transform minutes
    analytic = signal.hilbert(swing, fft.next_fast_len(length))
    envelope: np.ndarray = np.abs(analytic[:length])
    return envelope


def _threshold(grey: np.ndarray, by: str) -> float:
    from skimage import filters  # late: who draws only does not wait for it

    methods = {
        "otsu": filters.threshold_otsu,
        "li": filters.threshold_li,
        "yen": filters.threshold_yen,
        "triangle": filters.threshold_triangle,
    }
    return float(methods[by](grey))


def _flooded(grey: np.ndarray) -> np.ndarray:
    """Bright and dark basins: from beyond the medians of both parts up to the steepest places."""
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    bright = grey > _threshold(grey, "otsu")
    surely = np.zeros(grey.shape, dtype=np.int32)
    surely[grey <= np.median(grey[~bright])] = 1
    surely[grey >= np.median(grey[bright])] = 2
    flooded: np.ndarray = watershed(sobel(grey), surely) == 2
    return flooded
