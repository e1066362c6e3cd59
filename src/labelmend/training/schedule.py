"""When things happen: pure functions of the step, so that nothing is lost on resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from labelmend.training.endings import Ending


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


@dataclass(frozen=True, slots=True)
class Timetable:
    """When things happen, in optimiser steps, and how fast parameters move at each."""

    steps: int
    validate_every: int
    save_every: int
    weigh_start: int
    weigh_every: int
    patience: int | None
    keep: int
    learning_rate: Callable[[int], float]
    clip: float | None
    seed: int
    ending: Ending | None = None

    def due(self, step: int, *, weigh: bool, validate: bool) -> list[str]:
        """What is to be done after a step, in order."""
        last = step >= self.steps
        tasks = []
        since = step - self.weigh_start
        if weigh and since >= 0 and since % self.weigh_every == 0 and not self._alone(step):
            tasks.append("weigh")
        if step == self._fork:
            tasks.append("fork")
        ends = last or (self._fork is not None and step == self._strong_from)
        if validate and (ends or step % self.validate_every == 0):
            tasks.append("validate")
        if last and self._fork is not None:
            tasks.append("choose")
        if ends or step % self.save_every == 0:
            tasks.append("save")
        return tasks

    def turns(self, step: int) -> bool:
        """Whether the second of two endings begins with this step, counted from 0."""
        return self._fork is not None and step == self._strong_from

    def turned(self, step: int) -> bool:
        """Whether after so many steps there are two endings to choose from."""
        return self._fork is not None and step > self._strong_from

    @property
    def _fork(self) -> int | None:
        return None if self.ending is None else self.ending.fork

    @property
    def _strong_from(self) -> int:
        return self.steps if self.ending is None else self.ending.strong_from

    def _alone(self, step: int) -> bool:
        """Whether the last of so many steps saw strong labels only."""
        return self.ending is not None and step > self._strong_from

    def weighings_by(self, step: int) -> int:
        """How many weight steps are due by ``step``, that of ``step`` itself included.

        >>> table = Timetable(9, 9, 9, 2, 3, None, 1, float, None, 0)
        >>> [table.weighings_by(step) for step in range(7)]
        [0, 0, 1, 1, 1, 2, 2]
        """
        if self._alone(step):
            step = self._strong_from
        since = step - self.weigh_start
        return since // self.weigh_every + 1 if since >= 0 else 0
