"""The mean, deviation and percentiles of an image that does not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from labelmend.data.prepare import Preparation
from labelmend.types import Raster

Strips = Callable[[], Iterable[np.ndarray]]
"""The image once more from the beginning, ``(channels, n, *rest)`` per strip."""

_HALF = 1 << 16


@dataclass(frozen=True, slots=True)
class Fixed:
    """A preparation with its statistics taken, so that every strip is prepared as the whole is.

    ``clip`` says that values go from 0 to 1, as percentiles make them.
    """

    preparation: Preparation
    clip: bool = False

    def prepare(self, strip: np.ndarray) -> np.ndarray:
        """A strip ``(channels, n, *rest)`` as the network sees it, float32.

        Raises:
            NonFiniteError: for NaN or infinity.
        """
        prepared, _ = self.preparation.image(Raster(strip))
        return np.clip(prepared, 0, 1, out=prepared) if self.clip else prepared


def fix_statistics(preparation: Preparation, strips: Strips) -> Fixed:
    """The preparation of a whole image whose strips are read one at a time.

    Mean and percentiles are those of the whole in memory: means to the last bit for whole
    numbers, deviations to some 1e-14 of themselves, percentiles to the last bit for all images
    (Munro and Paterson 1980: order statistics in several readings). Each percentile takes two
    readings, mean and deviation one, the other normalisations none.

    Args:
        preparation: on the file's own grid, without spectrogram.
        strips: called for every reading; strips already as the normalisation should see them,
            float32, de-noised.

    >>> image = np.array([[[1, 2], [3, 6]]], np.float32)
    >>> strips = lambda: (image[:, :1], image[:, 1:])
    >>> fixed = fix_statistics(Preparation(normalise="zscore"), strips)
    >>> fixed.preparation.mean, round(fixed.preparation.deviation[0], 4)
    ((3.0,), 1.8708)
    """
    plain = replace(preparation, spacing=None, size=None)
    if preparation.normalise not in ("zscore", "percentile"):
        return Fixed(plain)
    find = _moments if preparation.normalise == "zscore" else _percentiles(preparation.percentiles)
    mean, deviation = zip(*find(strips), strict=True)
    known = replace(plain, normalise="set", mean=mean, deviation=deviation)
    return Fixed(known, clip=preparation.normalise == "percentile")


def _moments(strips: Strips) -> Iterator[tuple[float, float]]:
    """Per channel; strips are joined as Chan, Golub and LeVeque (1979) do."""
    total = 0
    sums = squares = np.zeros(0)
    low, high = np.inf, -np.inf
    for strip in strips():
        flat = strip.reshape(len(strip), -1).astype(np.float64)
        low, high = np.minimum(low, flat.min(1)), np.maximum(high, flat.max(1))
        n, here = flat.shape[1], flat.sum(1)
        spread = ((flat - (here / n)[:, None]) ** 2).sum(1)
        if total:
            apart = here / n - sums / total
            sums, squares = sums + here, squares + spread + apart**2 * (total * n / (total + n))
        else:
            sums, squares = here, spread
        total += n
    # what does not vary at all must not get a deviation by rounding
    mean = np.where(low == high, low, sums / total)
    deviation = np.where(low == high, 0.0, np.sqrt(squares / total))
    for pair in zip(mean, deviation, strict=True):
        yield float(pair[0]), float(pair[1])


def _percentiles(wanted: tuple[float, float]) -> Callable[[Strips], Iterator[tuple[float, float]]]:
    """Low and range per channel, as numpy's percentiles of the whole would give them."""

    def find(strips: Strips) -> Iterator[tuple[float, float]]:
        coarse = _count(strips, lambda keys, _channel: [keys >> 16])
        total = int(coarse[0][0].sum())
        places = np.asarray(wanted) / 100 * (total - 1)
        below = np.floor(places).astype(np.int64)
        ranks = np.stack([below, np.minimum(below + 1, total - 1)])
        ends = np.array([[0], [total - 1]])
        ranks = np.concatenate([ranks, np.broadcast_to(ends, (2, 2))])
        for values in _ranked(strips, [c[0] for c in coarse], ranks):
            low, high = _between(values[0], values[1], places - below)
            if low == high:
                low, high = float(values[2, 0]), float(values[3, 0])
            yield float(low), float(high) - float(low)

    return find


def _ranked(strips: Strips, coarse: list[np.ndarray], ranks: np.ndarray) -> Iterator[np.ndarray]:
    """The values of these ranks, per channel float32 shaped like ``ranks``."""
    upto = [np.cumsum(counts) for counts in coarse]
    halves = [np.searchsorted(steps, ranks, side="right") for steps in upto]
    wanted = [np.unique(half) for half in halves]

    def fine(keys: np.ndarray, channel: int) -> list[np.ndarray]:
        return [keys[keys >> 16 == half] & (_HALF - 1) for half in wanted[channel]]

    counted = _count(strips, fine)
    for channel, half in enumerate(halves):
        keys = np.empty(ranks.shape, np.uint32)
        for place, rank in np.ndenumerate(ranks):
            number = int(half[place])
            before = upto[channel][number] - coarse[channel][number]
            steps = np.cumsum(counted[channel][int(np.searchsorted(wanted[channel], number))])
            low = int(np.searchsorted(steps, rank - before, side="right"))
            keys[place] = number << 16 | low
        yield _value(keys)


def _count(
    strips: Strips, parts: Callable[[np.ndarray, int], list[np.ndarray]]
) -> list[list[np.ndarray]]:
    """How often each of 65536 numbers occurs, per channel and part."""
    counts: list[list[np.ndarray]] = []
    for strip in strips():
        for channel, values in enumerate(strip):
            found = parts(_key(values.ravel()), channel)
            new = [np.bincount(part, minlength=_HALF) for part in found]
            if channel == len(counts):
                counts.append(new)
            else:
                counts[channel] = [a + b for a, b in zip(counts[channel], new, strict=True)]
    return counts


def _key(values: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of the float32 values; -0 counts as 0."""
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _value(keys: np.ndarray) -> np.ndarray:
    """:func:`_key` undone."""
    bits = np.where(keys >> 31, keys & np.uint32(2**31 - 1), ~keys)
    return bits.astype(np.uint32).view(np.float32)


def _between(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Linear between neighbours, rounded as numpy rounds."""
    apart = high - low
    near_high = high - apart * (1 - share)
    return np.asarray(np.where(share >= 0.5, near_high, low + apart * share))
