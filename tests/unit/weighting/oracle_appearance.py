"""The slow and obvious way: one number after the other."""

from __future__ import annotations

import math

import numpy as np


def appearance(image):
    """Of one image ``(channels, *space)``: every level of every channel, then the roughness."""
    levels = [[quantile(sorted(c.ravel()), n / 100) for c in image] for n in range(2, 99, 8)]
    rough = []
    for channel in image:
        axes = [np.abs(np.diff(channel, axis=axis)) for axis in range(channel.ndim)]
        rough.append(sum(float(np.mean(step)) for step in axes if step.size))
    return [*(value for level in levels for value in level), *rough]


def quantile(ordered, share):
    """Linear between the two nearest."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
