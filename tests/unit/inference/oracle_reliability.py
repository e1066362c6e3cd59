"""The figures of calibration, position by position."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def figures(
    samples: Sequence[tuple[np.ndarray, np.ndarray]], temperature: float, bins: int
) -> tuple[float, float, float]:
    """Expected calibration error, mean negative log likelihood and Brier score."""
    held: dict[int, list[tuple[float, float, float]]] = {}
    nll = brier = 0.0
    for scores, label in samples:
        weight = 1 / (len(label) * len(samples))
        for place, true in enumerate(label.tolist()):
            told = [math.exp(s / temperature) for s in scores[:, place].astype(float).tolist()]
            told = [one / sum(told) for one in told]
            best = max(range(len(told)), key=told.__getitem__)
            number = min(int(told[best] * bins), bins - 1)
            held.setdefault(number, []).append((weight, told[best], float(best == true)))
            nll -= weight * math.log(told[true])
            brier += weight * sum((p - (c == true)) ** 2 for c, p in enumerate(told))
    ece = 0.0
    for rows in held.values():
        total = sum(weight for weight, _, _ in rows)
        sure = sum(weight * confidence for weight, confidence, _ in rows) / total
        right = sum(weight * true for weight, _, true in rows) / total
        ece += total * abs(sure - right)
    return ece, nll, brier
