"""How a training ends: with weak labels, on strong ones alone, or both ways from one point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from labelmend.training.learned import Learned
from labelmend.training.state import Groups, Progress

Kind = Literal["as_is", "strong"]

LEAST = {"dice": 0.01, "psnr": 0.1}
"""By less, a few held-out labels do not tell one ending from the other; weights then decide."""


@dataclass(frozen=True, slots=True)
class Ending:
    """When strong labels are alone, in optimiser steps.

    Attributes:
        strong_from: the steps from this one on see strong labels only.
        fork: after so many steps what was learned is kept aside. The steps up to ``strong_from``
            go on as before; those from there on begin anew from what was kept, and are as many.
            None where there is one ending.

    >>> twice = Ending.of(7, 0.5, twice=True)
    >>> twice, twice.total(7), [twice.repeats(step) for step in (6, 7, 9)]
    (Ending(strong_from=7, fork=4), 10, [False, True, True])
    >>> Ending.of(7, 0.5, twice=False)
    Ending(strong_from=4, fork=None)
    """

    strong_from: int
    fork: int | None

    @classmethod
    def of(cls, steps: int, share: float, *, twice: bool) -> Ending | None:
        """An ending that takes a share of the steps of a training, or one more beside it.

        None where that is less than a step.
        """
        each = int(steps * share)
        if each < 1:
            return None
        return cls(steps, steps - each) if twice else cls(steps - each, None)

    def repeats(self, step: int) -> bool:
        """Whether a step, counted from 0, is of the second of two endings."""
        return self.fork is not None and step >= self.strong_from

    @property
    def more(self) -> int:
        """Steps that a second ending takes beside those of the training."""
        return 0 if self.fork is None else self.strong_from - self.fork

    def total(self, steps: int) -> int:
        """All steps of a training whose networks take so many."""
        return steps + self.more


@dataclass(slots=True, eq=False)
class Aside:
    """What was learned up to the fork, then by the first ending, until one of the two is chosen.

    A part of a training that checkpoints keep, so that a stop costs nothing.
    """

    learned: Learned
    groups: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def fork(self) -> None:
        """Keep what was learned up to here."""
        self.groups = _copied(self.learned.tensors())

    def turn(self, progress: Progress) -> None:
        """Go back to the fork for the other ending; what the first one came to is kept."""
        first = _copied({name: net.state_dict() for name, net in self.learned.networks.items()})
        self.learned.restore(self.groups)
        self.groups = first
        progress.first, progress.stale = progress.figure, 0
        progress.first_best, progress.first_best_step = progress.best, progress.best_step

    def choose(
        self, progress: Progress, metric: str, trust: float
    ) -> tuple[dict[str, float | str | None], str]:
        """Have the networks be those of the better ending; figures for the records, and words."""
        kept, said = choose(progress.first, progress.figure, metric, trust)
        if kept == "as_is":
            self.learned.restore_networks(self.groups)
            # The best of an ending that is not kept belongs to networks that are gone.
            progress.best, progress.best_step = progress.first_best, progress.first_best_step
        progress.first_best = progress.first_best_step = None
        self.groups = {}
        figures = {"as_is": progress.first, "strong": progress.figure, "trust": trust}
        return {**figures, "kept": kept}, said

    def state(self) -> dict[str, Tensor]:
        """All of it by ``group/name``; a group's name has no stroke."""
        return {
            f"{group}/{name}": tensor
            for group, tensors in self.groups.items()
            for name, tensor in tensors.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit."""
        self.groups = {}
        for place, tensor in state.items():
            group, _, name = place.partition("/")
            self.groups.setdefault(group, {})[name] = tensor


def _copied(groups: Groups) -> dict[str, dict[str, Tensor]]:
    return {
        group: {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        for group, tensors in groups.items()
    }


def choose(
    mixed: float | None, strong: float | None, metric: str, trust: float
) -> tuple[Kind, str]:
    """Which of two endings is kept, by figures on held-out labels, and why, in words.

    A difference below :data:`LEAST` is no more than chance among a few held-out labels. What weak
    labels count says something, too: those that training has come to leave out are not missed.
    So the ending on strong labels alone must be better by ``(2 · trust - 1) · LEAST``: by all of
    it where weak labels count in full, and where they count nothing it may be worse by as much.

    Args:
        mixed: of the ending with weak labels to the end; None where it is not known.
        strong: of the one on strong labels alone.
        metric: ``dice`` or ``psnr``.
        trust: the mean weight of the weak labels; above 1 it counts as 1.

    >>> choose(0.81, 0.9, "dice", trust=1)
    ('strong', 'ending on strong labels alone is kept: 0.900 on held-out labels, 0.810 with weak \
labels to the end')
    >>> [choose(0.9, 0.905, "dice", trust)[0] for trust in (0.1, 0.9)]
    ['strong', 'as_is']
    """
    if mixed is None or strong is None:
        return "as_is", "ending with weak labels: held-out labels cannot tell the endings apart"
    figures = f"{strong:.3f} on held-out labels, {mixed:.3f} with weak labels to the end"
    bar = (2 * min(trust, 1) - 1) * LEAST[metric]
    ending = "ending on strong labels alone"
    if strong > mixed + bar:
        close = strong <= mixed + LEAST[metric]
        why = f", for weak labels count {trust:.2g} in the mean" if close else ""
        return "strong", f"{ending} is kept{why}: {figures}"
    how = "no better"
    if bar > 0:
        how = f"no better by more than {bar:.2g}"
    elif bar < 0:
        how = f"worse by {-bar:.2g} or more"
    return "as_is", f"{ending} is not kept, being {how}: {figures}"
