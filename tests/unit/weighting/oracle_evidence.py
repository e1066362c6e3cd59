"""The slow and obvious way: plain numbers, one sample after the other, by the definitions."""

from __future__ import annotations

import math
import statistics


def from_loss(losses):
    """How usual every loss is, by medians of plain lists."""
    middle = statistics.median_low(losses)
    spread = 1.4826 * statistics.median_low([abs(x - middle) for x in losses])
    if spread == 0:
        return [1.0 if x <= middle else -1.0 for x in losses]
    return [_bounded(1 - (x - middle) / (3 * spread)) for x in losses]


def from_fit(disagreements):
    """1 at the median fit, 0 at 80 % of it, -1 at 60 %; fainter under a median fit of a half."""
    fits = [1 - x for x in disagreements]
    return [_fitting(x, statistics.median_high(fits)) for x in fits]


def _fitting(fit, middle):
    return _bounded((fit / middle - 0.8) / 0.2) * min(2 * middle, 1) if middle else 0.0


def from_both(similarities, disagreements, agreement):
    """A share of the similarity in its mean magnitude, the rest the fit."""
    return _together(_scaled(similarities), from_fit(disagreements), agreement)


def from_alike(similarities, disagreements, agreement, features, strange):
    """The same, what the nearest nine have in common aside as far as an image is strange."""
    scaled, fits = _scaled(similarities), [1 - x for x in disagreements]
    middle = statistics.median_low(scaled)
    similar, fitting = [], []
    for one, value in enumerate(scaled):
        others = [k for k in range(len(scaled)) if k != one] or [one]
        others.sort(key=lambda k, one=one: math.dist(features[k], features[one]))
        near = others[:9]
        common = statistics.median_low([scaled[k] for k in near]) - middle
        similar.append(_bounded(value - strange[one] * common))
        worse = min(_upper([fits[k] for k in near]) / (_upper(fits) or 1), 1)
        fitting.append(_fitting(fits[one], statistics.median_high(fits) * worse ** strange[one]))
    return _together(similar, fitting, agreement)


def _upper(values):
    """The upper quartile; of two, the lower."""
    return sorted(values)[math.floor(0.75 * (len(values) - 1))]


def _scaled(similarities):
    scale = statistics.fmean(abs(x) for x in similarities) or 1.0
    return [_bounded(x / scale) for x in similarities]


def _together(similar, fitting, agreement):
    share = max(agreement, 1 / 3)
    return [share * s + (1 - share) * f for s, f in zip(similar, fitting, strict=True)]


def _bounded(x):
    return min(max(x, -1.0), 1.0)
