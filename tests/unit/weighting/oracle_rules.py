"""The slow and obvious way: try every way in which weights can stand at a limit."""

from __future__ import annotations

import itertools

import numpy as np


def nearest(weight, highest, band):
    """The nearest point of the box whose mean is in the band, by trying all faces of it."""
    weight = np.asarray(weight, float)
    inside = np.clip(weight, 0, highest)
    if band is None or band[0] <= inside.mean() <= band[1]:
        return inside
    ends = [found for mean in band for found in _on_plane(weight, highest, mean)]
    return min(ends, key=lambda found: ((found - weight) ** 2).sum())


def _on_plane(weight, highest, mean):
    """Every weight is at 0, at the highest, or moved as far as all others that are at neither."""
    for stands in itertools.product(("low", "high", "between"), repeat=len(weight)):
        between = np.array([s == "between" for s in stands])
        found = np.where([s == "high" for s in stands], highest, 0.0)
        missing = mean * len(weight) - found[~between].sum()
        if between.any():
            found[between] = weight[between] + (missing - weight[between].sum()) / between.sum()
        elif abs(missing) > 1e-13:
            continue
        if (found > -1e-13).all() and (found < highest + 1e-13).all():
            yield found
