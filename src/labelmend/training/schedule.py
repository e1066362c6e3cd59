"""What the learning rate is at a step: a pure function, so that nothing is lost on resume."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, total: int, warmup: int, shape: str) -> float:
    """The share of the full learning rate at a step, counted from 0.

    Rises linearly over ``warmup`` steps, then falls as half a cosine or as
    ``(1 - progress) ** 0.9`` (``poly``), or stays (``constant``).

    >>> [round(learning_rate_factor(s, 10, 2, "cosine"), 2) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    if shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if shape == "poly":
        return float((1 - progress) ** 0.9)
    return 1.0
