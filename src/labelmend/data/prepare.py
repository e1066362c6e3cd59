"""Bring images to the numbers and the grid a network sees, and predictions back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from scipy import ndimage
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from labelmend.data.grid import Grid, from_grid, most_covering, resample, to_grid
from labelmend.errors import DataError, NonFiniteError, SettingsError, ShapeError
from labelmend.types import Raster

Normalise = Literal["zscore", "percentile", "set", "none"]
Denoise = Literal["none", "gaussian", "median"]


@dataclass(frozen=True, slots=True)
class Preparation:
    """The input computer of seed B7 as plain values, the same in training and prediction.

    Order: de-noise, resample to ``spacing`` or ``size``, spectrogram, normalise. Grids are laid so
    that both cover the same extent (cells, not corners), hence no offset at any factor; the true
    spacing of a grid can differ from the wished one by half a position over the whole extent.

    ``mean`` and ``deviation`` hold one number per channel for ``normalise="set"``
    (see :func:`measure`). ``percentile`` clips to 0..1; where both percentiles are equal it uses
    the extremes. Channels without any variation become 0.

    Raises:
        SettingsError: for values that cannot be used.

    >>> raster = Raster(np.array([[2.0, 4.0, 6.0, 8.0]]))
    >>> image, grid = Preparation(normalise="none", size=(2,)).image(raster)
    >>> image.tolist(), grid.step
    ([[3.0, 7.0]], (2.0,))
    """

    normalise: Normalise = "zscore"
    percentiles: tuple[float, float] = (1.0, 99.0)
    denoise: Denoise = "none"
    denoise_size: float = 1.0
    spacing: tuple[float, ...] | None = None
    size: tuple[int, ...] | None = None
    spectrogram: bool = False
    window: int = 512
    hop: int = 128
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_settings(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preparation:
        """A preparation from the plain values of ``dataclasses.asdict``, lists for tuples.

        >>> Preparation.from_json({"size": [32, 32]}).size
        (32, 32)
        """
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**plain)

    def channels(self, in_channels: int) -> int:
        """How many channels a network sees for images of ``in_channels``.

        >>> Preparation(spectrogram=True, window=512).channels(1)
        257
        """
        return in_channels * (self.window // 2 + 1) if self.spectrogram else in_channels

    def grid(self, space: Sequence[int], spacing: Sequence[float] | None = None) -> Grid:
        """The grid for a file of these positions, without reading it.

        Raises:
            SettingsError: when settings and number of axes do not fit.
            DataError: when a spacing is wished for and the file does not say its own.
        """
        space = tuple(space)
        size = self._size(space, spacing)
        step = tuple(n / m for n, m in zip(space, size, strict=True))
        origin = tuple((s - 1) / 2 for s in step)
        hop = 1
        if self.spectrogram:
            if len(space) != 1:
                raise SettingsError(
                    "input.spectrogram wants recordings with one axis (time), "
                    f"not positions of shape {space}"
                )
            hop = self.hop
            # frame f is centred on sample f * hop of the (resampled) recording
            size, step = ((size[0] - 1) // hop + 1,), (step[0] * hop,)
        return Grid(space, size, origin, step, None if spacing is None else tuple(spacing), hop)

    def image(self, raster: Raster) -> tuple[np.ndarray, Grid]:
        """The image ``(channels, *grid.size)`` float32 as a network sees it, and its grid.

        Raises:
            NonFiniteError: for NaN or infinity, naming the first place.
            DataError, SettingsError: when file and settings do not fit.

        Trap: float64 and 32-bit integers are rounded to float32.
        """
        array, grid = self._on_grid(raster)
        out = self._normalised(array)
        _check_finite(out, "prepared image")
        return out, grid

    def label(
        self, label: np.ndarray, valid: np.ndarray, grid: Grid
    ) -> tuple[np.ndarray, np.ndarray]:
        """Label and valid ``(*grid.size)`` on the grid of their image.

        Class indices (integer, ``(*space)``) go to the class that covers most of a grid cell,
        the lower one when equal: nearest, without the half-position offset that nearest has at
        even factors. Floating labels ``(channels, *space)`` are interpolated. Frames of a
        spectrogram take the label at their centre. A grid position is valid only when every
        position that contributed to it was.

        Raises:
            ShapeError: when label or valid are not of the image's positions.

        Trap: an object smaller than half a grid cell disappears; choose the grid accordingly.

        >>> grid = Preparation(size=(2,)).grid((4,))
        >>> Preparation().label(np.array([0, 1, 1, 1]), np.array([True, True, True, False]), grid)
        (array([0, 1]), array([ True, False]))
        """
        floating = label.dtype.kind == "f"
        if label.shape[int(floating) :] != grid.space or valid.shape != grid.space:
            raise ShapeError(
                f"label and valid of {grid.space} positions are wanted, "
                f"got {label.shape} and {valid.shape}"
            )
        if grid.identity:
            return label, valid
        known = to_grid((~valid).astype(np.float32), grid) == 0
        if floating:
            # what nobody vouches for may be anything, also NaN, and must not leak
            return to_grid(np.where(valid, label, 0).astype(np.float32), grid), known
        return most_covering(label, grid), known

    def restore(self, scores: np.ndarray, grid: Grid) -> np.ndarray:
        """Scores ``(classes, *grid.size)`` at the file's positions ``(classes, *grid.space)``.

        Linear between grid positions (averaged where the grid was finer), the nearest beyond the
        outermost; unchanged when the grid is the file's own.

        Raises:
            ShapeError: when the scores are not on this grid.

        Trap: restore scores or probabilities, then decide; class indices would be averaged.
        """
        if scores.shape[1:] != grid.size:
            raise ShapeError(f"scores on {grid.size} positions are wanted, got {scores.shape[1:]}")
        if grid.identity:
            return scores
        return from_grid(scores.astype(np.float32, copy=False), grid)

    def _size(self, space: tuple[int, ...], spacing: Sequence[float] | None) -> tuple[int, ...]:
        wish = self.size if self.spacing is None else self.spacing
        if wish is None:
            return space
        if len(wish) != len(space):
            name = "size" if self.spacing is None else "spacing"
            raise SettingsError(f"input.{name} wants {len(space)} numbers, got {wish}")
        if self.spacing is None:
            return tuple(int(n) for n in wish)
        if spacing is None:
            raise DataError(
                "input.spacing wants files that say their spacing, and this one does not; "
                "use input.size or state the spacing in data.toml"
            )
        own = zip(space, spacing, self.spacing, strict=True)
        return tuple(max(1, math.floor(n * a / b + 0.5)) for n, a, b in own)

    def _on_grid(self, raster: Raster) -> tuple[np.ndarray, Grid]:
        if raster.array.dtype.kind not in "buif":
            raise DataError(f"an image of real numbers is wanted, got {raster.array.dtype}")
        grid = self.grid(raster.array.shape[1:], raster.spacing)
        with np.errstate(over="ignore"):  # float64 beyond float32 is named just below
            array = raster.array.astype(np.float32)
        _check_finite(array, "image")
        array = self._denoised(array)
        if self.spectrogram:
            samples = self._size(grid.space, raster.spacing)[0]
            waveform = resample(array, [(samples, grid.origin[0], grid.step[0] / grid.hop)])
            return self._spectrum(waveform), grid
        return (array if grid.identity else to_grid(array, grid)), grid

    def _denoised(self, array: np.ndarray) -> np.ndarray:
        if self.denoise == "none":
            return array
        axes = tuple(range(1, array.ndim))
        if self.denoise == "gaussian":
            smooth = ndimage.gaussian_filter(
                array, self.denoise_size, axes=axes, mode="nearest", output=np.float32
            )
        else:
            width = 2 * max(1, round(self.denoise_size)) + 1
            smooth = ndimage.median_filter(array, width, axes=axes, mode="nearest")
        return np.asarray(smooth)

    def _spectrum(self, array: np.ndarray) -> np.ndarray:
        """Log-magnitude frames ``(channels * bins, frames)``, 100 dB below the peak at the least.

        A floor relative to the file's peak keeps the picture the same at any recording volume.
        """
        length = array.shape[1]
        frames = (length - 1) // self.hop + 1
        short = max(0, self.window - length)
        array = np.pad(array, ((0, 0), (0, short)))
        transform = ShortTimeFFT(hann(self.window, sym=False), self.hop, 1.0, scale_to="magnitude")
        out = np.empty((len(array), self.window // 2 + 1, frames), np.float32)
        for begin in range(0, frames, 4096):  # in pieces: complex numbers take four times as much
            end = min(frames, begin + 4096)
            out[:, :, begin:end] = np.abs(transform.stft(array, begin, end))
        floor = max(float(out.max()) * 1e-5, 1e-12)
        return np.log(np.maximum(out, floor)).reshape(-1, frames)

    def _normalised(self, array: np.ndarray) -> np.ndarray:
        if self.normalise == "none":
            return array
        if self.normalise == "set":
            mean, deviation = self._of_set(len(array))
        else:
            find = _moments if self.normalise == "zscore" else self._percentile_range
            mean, deviation = zip(*(find(channel) for channel in array), strict=True)
        out = np.empty_like(array)
        for channel, centre, width, target in zip(array, mean, deviation, out, strict=True):
            # in float64, one channel at a time: offsets can be large against what varies
            target[:] = (channel.astype(np.float64) - centre) / width if width > 0 else 0
        return np.clip(out, 0, 1, out=out) if self.normalise == "percentile" else out

    def _of_set(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self.mean is None or self.deviation is None:
            raise SettingsError(
                "input.normalise = 'set' wants the mean and deviation of the training set; "
                "get them from measure()"
            )
        if len(self.mean) != channels:
            raise DataError(
                f"the set was measured with {len(self.mean)} channels, this image has {channels}"
            )
        return self.mean, self.deviation

    def _percentile_range(self, channel: np.ndarray) -> tuple[float, float]:
        low, high = (float(v) for v in np.percentile(channel, self.percentiles))
        if low == high:
            low, high = float(channel.min()), float(channel.max())
        return low, high - low


def measure(preparation: Preparation, rasters: Iterable[Raster]) -> Preparation:
    """The preparation with mean and deviation per channel over all positions of all rasters.

    One raster in memory at a time, in float64 (Chan, Golub and LeVeque 1979). Any other
    normalisation than ``"set"`` needs no measuring: it is returned as it is, nothing is read.

    Raises:
        DataError: without a raster, or when channels differ.

    Trap: measure the training samples only; others would leak into training.

    >>> rasters = [Raster(np.array([[0.0, 2.0]])), Raster(np.array([[4.0]]))]
    >>> measured = measure(Preparation(normalise="set"), rasters)
    >>> measured.mean, round(measured.deviation[0], 4)
    ((2.0,), 1.633)
    """
    if preparation.normalise != "set":
        return preparation
    found = moments(preparation._on_grid(raster)[0] for raster in rasters)
    if found is None:
        raise DataError("at least one image is wanted to measure the set, got none")
    return replace(preparation, mean=found[0], deviation=found[1])


def moments(
    arrays: Iterable[np.ndarray],
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation per channel over all positions of ``(channels, *space)``; None of none.

    Raises:
        DataError: when channels differ.

    >>> moments([np.array([[0.0, 2.0]]), np.array([[4.0]])])[0]
    (2.0,)
    """
    total, mean, squares = 0, np.zeros(0), np.zeros(0)
    for each in arrays:
        array = each.astype(np.float64).reshape(len(each), -1)
        if total and len(array) != len(mean):
            raise DataError(f"images of {len(mean)} channels are wanted, got {len(array)}")
        if not array.size:
            continue
        here, n = array.mean(1), array.shape[1]
        spread = ((array - here[:, None]) ** 2).sum(1)
        if not total:
            total, mean, squares = n, here, spread
            continue
        apart = here - mean
        squares = squares + spread + apart**2 * (total * n / (total + n))
        total += n
        mean = mean + apart * (n / total)
    if not total:
        return None
    return tuple(mean.tolist()), tuple(np.sqrt(squares / total).tolist())


def _moments(channel: np.ndarray) -> tuple[float, float]:
    if channel.min() == channel.max():  # rounding must not become a deviation
        return float(channel.flat[0]), 0.0
    return float(channel.mean(dtype=np.float64)), float(channel.std(dtype=np.float64))


def _check_finite(array: np.ndarray, what: str) -> None:
    finite = np.isfinite(array)
    if finite.all():
        return
    where = tuple(int(i) for i in np.unravel_index(int(finite.argmin()), array.shape))
    raise NonFiniteError(
        f"numbers are wanted, but the {what} holds {array[where]} at channel {where[0]}, "
        f"position {where[1:]}; repair the file or leave the sample out"
    )


def _check_settings(chosen: Preparation) -> None:
    for name, kind in (("normalise", Normalise), ("denoise", Denoise)):
        if getattr(chosen, name) not in get_args(kind):
            wanted = ", ".join(get_args(kind))
            raise SettingsError(f"input.{name} is one of {wanted}, not {getattr(chosen, name)!r}")
    low, high = chosen.percentiles
    checks = {
        "percentiles wants two numbers from 0 to 100 in order": 0 <= low < high <= 100,
        "denoise_size wants a number above 0": 0 < chosen.denoise_size < math.inf,
        "spacing wants numbers above 0": min(chosen.spacing or (1,)) > 0,
        "size wants at least 1 position per axis": min(chosen.size or (1,)) >= 1,
        "spacing and size exclude each other; keep one": not (chosen.spacing and chosen.size),
        "window wants at least 2 samples": chosen.window >= 2,
        "hop wants at least 1 sample and at most window": 1 <= chosen.hop <= chosen.window,
    }
    for wish, kept in checks.items():
        if not kept:
            raise SettingsError(f"input.{wish}")
