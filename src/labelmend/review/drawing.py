"""Arrays as what a page can show: pictures, small pictures, envelopes and spectrograms."""

from __future__ import annotations

import colorsys
import io
import math

import numpy as np
from PIL import Image
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann
from skimage.segmentation import find_boundaries

from labelmend.errors import ShapeError

SMALL = 160
"""Longest side of a small picture, in its pixels."""
LABEL, PREDICTION = (230, 159, 0), (64, 196, 255)
"""What outlines of labels and of predictions are drawn in, on small pictures."""
UNKNOWN = 255
"""What stands for an unknown class where a position is one byte."""
MOST_COLUMNS = 4096
_LOOKED_AT = 2_000_000
_WINDOW = 512
_FRAMES = 1024
_BLOCK = 64
_LANE = 9
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def colour(index: int) -> str:
    """The colour of a class; the first ones differ also for those who see few colours.

    Source of the first seven: Okabe and Ito, Color Universal Design (2008).

    >>> colour(0), colour(1), colour(8)
    ('#808080', '#e69f00', '#e34d4d')
    """
    if index == 0:
        return "#808080"
    if index <= len(_COLOURS):
        return _COLOURS[index - 1]
    hue = (index - len(_COLOURS) - 1) * 0.618034 % 1.0
    red, green, blue = (round(255 * v) for v in colorsys.hls_to_rgb(hue, 0.595, 0.728))
    return f"#{red:02x}{green:02x}{blue:02x}"


def as_bytes(label: np.ndarray) -> np.ndarray:
    """Class indices with -1 for unknown as uint8 with 255 for it.

    >>> as_bytes(np.array([-1, 0, 3], np.int16))
    array([255,   0,   3], dtype=uint8)
    """
    return np.where(label < 0, UNKNOWN, label).astype(np.uint8)


def suggest_contrast(image: np.ndarray) -> tuple[float, float]:
    """The values of an image ``(channels, *space)`` that become black and white.

    Colours of 8 bits as they are; else the 0.5 and 99.5 percent of what is shown, of large images
    by part of their positions.

    >>> suggest_contrast(np.linspace(0, 1, 1001)[None])
    (0.005, 0.995)
    """
    if image.dtype == np.uint8 and len(image) == 3:
        return 0.0, 255.0
    shown = (image[:3] if len(image) == 3 else image[:1]).ravel()
    values = shown[:: math.ceil(shown.size / _LOOKED_AT)].astype(np.float64)
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def as_pixels(
    plane: np.ndarray, limits: tuple[float, float], channel: int | None = None
) -> np.ndarray:
    """A plane ``(channels, rows, columns)`` as ``(rows, columns)`` or ``(rows, columns, 3)`` uint8.

    Args:
        plane: real numbers.
        limits: the values that become black and white.
        channel: which channel to show in grey; by default three are colours, of any other number
            the first is shown.

    >>> as_pixels(np.array([[[0.0, 1.0, 2.0]]]), (0.0, 1.0))
    array([[  0, 255, 255]], dtype=uint8)
    """
    if channel is not None:
        plane = plane[channel : channel + 1]
    shown = plane if len(plane) == 3 else plane[:1]
    if shown.dtype.kind in "ui" and shown.dtype.itemsize <= 2:
        kinds = np.iinfo(shown.dtype)  # few numbers: each is looked up, in a third of the time
        table = _grey_levels(np.arange(kinds.min, kinds.max + 1), limits)
        pixels = table.take(shown.astype(np.intp) - kinds.min)
    else:
        pixels = _grey_levels(shown, limits)
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]


def _grey_levels(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    with np.errstate(over="ignore"):  # beyond what numbers hold is white or black all the same
        scaled = (values.astype(np.float64) - low) / (high - low) * 255
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def as_grey(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Continuous values, NaN where unknown, as uint8: 0 to 254, and 255 for unknown.

    >>> as_grey(np.array([0.0, 0.5, 1.0, np.nan]), (0.0, 1.0))
    array([  0, 127, 254, 255], dtype=uint8)
    """
    low, high = limits
    with np.errstate(over="ignore"):
        scaled = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 254
    return np.where(np.isnan(values), UNKNOWN, np.rint(np.nan_to_num(scaled))).astype(np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    """8-bit pixels ``(rows, columns)`` or ``(rows, columns, 3)`` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


# ---------------------------------------------------------------------------- small pictures


def draw_plane(pixels: np.ndarray, label: np.ndarray, prediction: np.ndarray | None) -> np.ndarray:
    """A small picture ``(rows, columns, 3)`` with the outlines of a label and of a prediction.

    Args:
        pixels: ``(rows, columns)`` or ``(rows, columns, 3)`` uint8.
        label: class indices ``(rows, columns)``, -1 unknown.
        prediction: likewise; None draws none.
    """
    small = shrink(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1))
    for claimed, ink in ((label, LABEL), (prediction, PREDICTION)):
        if claimed is not None:
            small[find_boundaries(_nearest(claimed, small.shape[:2]), mode="inner")] = ink
    return small


def draw_recording(
    signal: np.ndarray, label: np.ndarray, prediction: np.ndarray | None
) -> np.ndarray:
    """A small picture ``(rows, columns, 3)`` of a recording over a strip for its label, and one
    for the prediction.

    Args:
        signal: ``(length,)``.
        label: class indices ``(length,)``, -1 unknown.
        prediction: likewise; None draws none.
    """
    lanes = [draw_wave(signal, 64 - 2 * _LANE)]
    for claimed in (label, prediction):
        if claimed is not None:
            lanes.append(np.repeat(_paint(_nearest(claimed[None], (1, SMALL))), _LANE, 0))
    return np.concatenate(lanes)


def draw_wave(signal: np.ndarray, height: int) -> np.ndarray:
    """A signal ``(length,)`` as bright columns on a dark ground, ``(height, 160, 3)`` uint8."""
    low, high = envelope(signal[None], 0, len(signal), SMALL)
    low, high = np.resize(low[0], SMALL), np.resize(high[0], SMALL)
    if len(signal) < SMALL:
        low = high = signal[np.arange(SMALL) * len(signal) // SMALL].astype(np.float64)
    bottom, top = float(low.min()), float(high.max())
    scale = (height - 1) / (top - bottom) if top > bottom else 0.0
    down = np.arange(height)[:, None]
    lit = (down >= np.floor((top - high) * scale)) & (down <= np.ceil((top - low) * scale))
    return np.repeat(np.where(lit, 220, 24).astype(np.uint8)[..., None], 3, -1)


def shrink(pixels: np.ndarray, longest: int = SMALL) -> np.ndarray:
    """Pixels ``(rows, columns[, 3])`` no longer than ``longest``; tiny ones are enlarged."""
    rows, columns = pixels.shape[:2]
    side = max(rows, columns)
    scale = longest // side if side <= longest else longest / side
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, how)
    return np.array(picture)


def _nearest(array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The array at the centres of as many cells."""
    rows, columns = (
        ((np.arange(m) + 0.5) * n / m).astype(int) for m, n in zip(size, array.shape, strict=True)
    )
    taken: np.ndarray = array[np.ix_(rows, columns)]
    return taken


def _paint(label: np.ndarray) -> np.ndarray:
    """Class indices as colours, unknown as black."""
    shades = [[int(colour(i)[k : k + 2], 16) for k in (1, 3, 5)] for i in range(UNKNOWN)]
    painted: np.ndarray = np.array([*shades, [0, 0, 0]], np.uint8)[as_bytes(label)]
    return painted


# ------------------------------------------------------------------------------- recordings


def envelope(
    signal: np.ndarray, start: int, stop: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest values of a part of a signal, column by column.

    Args:
        signal: ``(channels, length)``.
        start: first position.
        stop: end of the part, not in it.
        columns: how many columns; no more than there are positions come back.

    Returns:
        Two arrays ``(channels, columns)`` float64.

    Raises:
        ShapeError: when the part is empty or reaches outside.

    >>> envelope(np.array([[3, 1, 4, 1]]), 0, 4, 2)
    (array([[1., 1.]]), array([[3., 4.]]))
    """
    check_part(signal.shape[-1], start, stop)
    if not 1 <= columns <= MOST_COLUMNS:
        raise ShapeError(f"1 to {MOST_COLUMNS} columns are drawn, not {columns}")
    part, number = signal[:, start:stop], min(columns, stop - start)
    first = np.arange(number) * (stop - start) // number
    low, high = (how.reduceat(part, first, axis=1) for how in (np.minimum, np.maximum))
    return low.astype(np.float64), high.astype(np.float64)


def check_part(length: int, start: int, stop: int) -> None:
    """Refuse a part of a recording that is empty or reaches outside.

    Raises:
        ShapeError: saying what there is.
    """
    if not 0 <= start < stop <= length:
        raise ShapeError(f"a part of the positions 0 to {length} is wanted, not {start} to {stop}")


def draw_spectrogram(signal: np.ndarray, spacing: float) -> np.ndarray:
    """The power of a signal over time (columns) and frequency (rows, low ones at the bottom).

    Args:
        signal: ``(length,)``.
        spacing: seconds between positions.

    Returns:
        uint8 pixels, at most 1024 columns, 80 dB from black to white. Columns cover the signal
        from end to end evenly; each is the mean of the windows in it.

    Source: the short-time Fourier transform of scipy.signal, Hann windows.
    """
    window = max(2, min(_WINDOW, len(signal) // 4))
    hop = max(1, min(window // 2, math.ceil(len(signal) / _FRAMES)))
    transform = ShortTimeFFT(hann(window, sym=False), hop, fs=1 / spacing)
    frames = max(1, math.ceil(len(signal) / hop))
    columns = min(frames, _FRAMES)
    edges = np.arange(columns + 1) * frames // columns
    values = (signal - signal.mean(dtype=np.float64)).astype(np.float32)
    power = np.empty((window // 2 + 1, columns))
    for first in range(0, columns, _BLOCK):  # so that long recordings need little memory
        own = edges[first : first + _BLOCK + 1]
        found = transform.spectrogram(values, p0=int(own[0]), p1=int(own[-1]))
        sums = np.add.reduceat(found, own[:-1] - own[0], axis=1)
        power[:, first : first + len(own) - 1] = sums / np.diff(own)
    strength = 10 * np.log10(power + 1e-20)
    top = float(strength.max())
    return as_pixels(strength[None, ::-1], (top - 80, top))
