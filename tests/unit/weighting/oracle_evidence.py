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
    middle = statistics.median_high(fits)
    if middle == 0:
        return [0.0] * len(fits)
    return [_bounded((x / middle - 0.8) / 0.2) * min(2 * middle, 1) for x in fits]


def from_both(similarities, disagreements, agreement):
    """A share of the similarity in its mean magnitude, the rest the fit."""
    return _together(_scaled(similarities), disagreements, agreement)


def from_alike(similarities, disagreements, agreement, features, strange):
    """The same, each similarity less what those of the nearest nine have more than all."""
    scaled = _scaled(similarities)
    middle = statistics.median_low(scaled)
    left = []
    for one, value in enumerate(scaled):
        others = [k for k in range(len(scaled)) if k != one] or [one]
        others.sort(key=lambda k, one=one: math.dist(features[k], features[one]))
        near = statistics.median_low([scaled[k] for k in others[:9]])
        left.append(_bounded(value - strange[one] * (near - middle)))
    return _together(left, disagreements, agreement)


def _scaled(similarities):
    scale = statistics.fmean(abs(x) for x in similarities) or 1.0
    return [_bounded(x / scale) for x in similarities]


def _together(similar, disagreements, agreement):
    share = max(agreement, 1 / 3)
    pairs = zip(similar, from_fit(disagreements), strict=True)
    return [share * one + (1 - share) * fit for one, fit in pairs]


def _bounded(x):
    return min(max(x, -1.0), 1.0)
