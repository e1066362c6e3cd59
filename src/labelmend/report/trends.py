"""Where a noisy curve is going, and how sure a mean is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from labelmend.report.story import Curve

LEAST_RECORDS = 40
"""With fewer recorded steps nothing is said about where a loss is going."""


def trend(curve: Curve) -> Literal["falling", "rising", "level", "unknown"]:
    """Where a noisy curve is going in its last quarter.

    ``rising`` compares with the lowest stretch of the curve, ``falling`` with the third quarter;
    either has to be beyond three standard errors and a few percent.

    >>> steps = tuple(range(100))
    >>> trend(Curve(steps, tuple(1 - s / 100 for s in steps))), trend(Curve(steps, (0.5,) * 100))
    ('falling', 'level')
    """
    if len(curve) < LEAST_RECORDS:
        return "unknown"
    _, _, third, last = quarters(curve)
    mean, error = statistics.fmean(last), standard_error(last)
    lowest = lowest_stretch(curve)
    height = max(statistics.fmean(_eighths(curve)[0]) - lowest, 0)
    if mean - lowest > max(0.25 * abs(lowest), 0.1 * height, 4 * error):
        return "rising"
    fall = statistics.fmean(third) - mean
    noise = math.hypot(error, standard_error(third))
    if fall > max(3 * noise, 0.05 * abs(statistics.fmean(third))):
        return "falling"
    return "level"


def quarters(curve: Curve) -> list[Sequence[float]]:
    """The values of the first quarter of the records, the second, and so on.

    >>> quarters(Curve((1, 2, 3, 4), (0.4, 0.3, 0.2, 0.1)))
    [(0.4,), (0.3,), (0.2,), (0.1,)]
    """
    n = len(curve)
    return [curve.values[n * i // 4 : n * (i + 1) // 4] for i in range(4)]


def _eighths(curve: Curve) -> list[Sequence[float]]:
    n = len(curve)
    return [curve.values[n * i // 8 : n * (i + 1) // 8] for i in range(8)]


def lowest_stretch(curve: Curve) -> float:
    """The lowest mean of an eighth of the records."""
    return min(statistics.fmean(part) for part in _eighths(curve))


def change_after(curve: Curve, step: int) -> float | None:
    """Mean after a step minus mean of as many records before it."""
    after = [v for s, v in zip(curve.steps, curve.values, strict=True) if s > step]
    before = [v for s, v in zip(curve.steps, curve.values, strict=True) if s <= step]
    before = before[-len(after) :] if after else []
    return statistics.fmean(after) - statistics.fmean(before) if after and before else None


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; infinite for a single value.

    >>> standard_error([1.0, 3.0])
    1.0
    """
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
