"""The slow and obvious way: one image and one number after the other."""

from __future__ import annotations

import math
import statistics


def likeness(weak, strong):
    """Features by their deviations, and for every weak image how many strong ones are nearer."""
    every = [*weak, *strong]
    columns = list(zip(*every, strict=True))
    middle = [statistics.fmean(c) for c in columns]
    spread = [statistics.pstdev(c) or 1.0 for c in columns]
    scaled = [[(x - m) / s for x, m, s in zip(row, middle, spread, strict=True)] for row in every]
    own, trusted = scaled[: len(weak)], scaled[len(weak) :]
    usual = []
    for one in trusted:
        others = [math.dist(one, other) for other in trusted]
        usual.append(min((d for d in others if d > 0), default=math.inf))
    far = [min(math.dist(one, other) for other in trusted) for one in own]
    return own, [sum(u < d for u in usual) / (len(strong) + 1) for d in far]
