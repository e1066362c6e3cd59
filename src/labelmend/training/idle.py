"""Say so when a second network adds nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

WINDOW = 50
"""Steps over which disagreement is averaged."""

LEAST = 0.01
"""Two networks whose objects differ by less than this share have nothing to tell each other."""


class IdleWatch:
    """Watches the disagreement of two networks and speaks once when there is hardly any.

    >>> watch = IdleWatch()
    >>> said = [watch(step, {"disagreement": 0.001}) for step in range(1, 101)]
    >>> [step for step, text in enumerate(said, 1) if text]
    [50]
    """

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=WINDOW)
        self._spoken = False

    def __call__(self, step: int, figures: Mapping[str, float]) -> str | None:
        """A sentence for the person who trains, or None."""
        if "disagreement" not in figures or self._spoken:
            return None
        self._latest.append(figures["disagreement"])
        mean = sum(self._latest) / len(self._latest)
        if len(self._latest) < WINDOW or mean >= LEAST:
            return None
        self._spoken = True
        return (
            f"the second model is idle: by step {step} both predict the same but for {mean:.1%} of "
            "their objects, so neither teaches the other anything; training without dual.use "
            "would take about half the time"
        )
