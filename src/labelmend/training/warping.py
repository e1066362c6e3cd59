"""A second network bends labels, in turn with the one that predicts (seed B, figure 5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from labelmend.alignment.smoothness import mean_displacement
from labelmend.alignment.warp import Proposal, WarpAligner
from labelmend.types import Alignment, Batch

WARP = "warp"
"""The name of the network that bends labels, among those being trained."""

Turns = Literal["together", "step", "epoch"]
"""When either network learns: both in every step, or every other step or epoch."""

TURNS: tuple[Turns, ...] = get_args(Turns)
"""The names that turns may have."""


WINDOW = 100
"""Steps over which shares are averaged."""

MOST = {"removed": 0.9, "removed_strong": 0.5}
"""Shares of the misfit that bending may explain, of weak and of strong labels."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Who learns in a step."""

    predictor: bool
    warp: bool


@dataclass(frozen=True, slots=True)
class Bent:
    """Labels of a batch bent, what that costs, and what is worth knowing of it.

    Attributes:
        alignment: as of :class:`labelmend.alignment.warp.WarpAligner`.
        cost: ``(batch,)`` what its network descends; None where it does not learn.
        meters: sums and counts, as in Terms.
    """

    alignment: Alignment
    cost: Tensor | None
    meters: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Warping:
    """Bends labels that a search has put in place, and teaches the network that does it.

    Either network learns with the other fixed: no gradient of what the predictor descends reaches
    the other one, nor the other way round. So both may learn in one step from one pass, which is
    what ``together`` means; with ``step`` and ``epoch`` they take turns, the predictor first.

    Attributes:
        aligner: what bends labels; its network is the one of this process.
        start: steps before it begins, after the search has begun.
        turns: who learns when.
        epoch: steps to an epoch.
    """

    aligner: WarpAligner
    start: int
    turns: Turns = "together"
    epoch: int = 1

    def turn(self, step: int) -> Turn:
        """Who learns in a step.

        >>> Warping(WarpAligner(nn.Identity()), start=10, turns="step").turn(11)
        Turn(predictor=False, warp=True)
        """
        if step < self.start:
            return Turn(predictor=True, warp=False)
        if self.turns == "together":
            return Turn(predictor=True, warp=True)
        length = self.epoch if self.turns == "epoch" else 1
        first = (step - self.start) // length % 2 == 0
        return Turn(predictor=first, warp=not first)

    def __call__(
        self,
        logits: Tensor,
        batch: Batch,
        found: Alignment,
        learns: Tensor,
        network: nn.Module | None,
    ) -> Bent:
        """Labels bent after they were put where ``found`` says.

        Args:
            logits: ``(batch, classes, *space)``, detached.
            batch: the samples with their labels as they were.
            found: their labels in place; strong ones stay where they were.
            learns: ``(batch,)`` bool, the labels that may move; fields of others are to be 0.
            network: the network to teach; None only uses the one of :attr:`aligner`.
        """
        aligner = self.aligner if network is None else replace(self.aligner, network=network)
        with torch.set_grad_enabled(network is not None):
            proposal = aligner.propose(logits, found.label, found.valid)
            cost = None if network is None else aligner.price(proposal, ~learns)
        alignment = aligner.settled(proposal, found, batch.label, batch.valid)
        return Bent(alignment, cost, _meters(proposal, aligner.bends(proposal), learns))


class ExplainedAway:
    """Speaks once when bending explains nearly all that labels and predictions differ by.

    Of strong labels, which are in place, it should explain next to nothing.

    >>> watch = ExplainedAway()
    >>> said = [watch(step, {"removed": 0.99}) for step in range(1, 201)]
    >>> [step for step, text in enumerate(said, 1) if text]
    [100]
    """

    def __init__(self) -> None:
        self._latest = {name: deque[float](maxlen=WINDOW) for name in MOST}
        self._spoken = False

    def __call__(self, step: int, figures: Mapping[str, float]) -> str | None:
        """A sentence for the person who trains, or None."""
        for name, most in MOST.items():
            latest = self._latest[name]
            if name in figures:
                latest.append(figures[name])
            full = len(latest) == WINDOW
            mean = sum(latest) / max(len(latest), 1)
            if full and mean >= most and not self._spoken:
                self._spoken = True
                whose = "strong labels, which are in place" if name != "removed" else "weak labels"
                return (
                    f"the warp network explains everything away: by step {step} it removes "
                    f"{mean:.0%} of what {whose} and predictions differ by; raise "
                    "align.warp.smooth, lower align.warp.reach, or compare with --align shift"
                )
        return None


def _meters(proposal: Proposal, bent: Tensor, learns: Tensor) -> dict[str, Tensor]:
    """How much of the misfit is explained away, of labels that may be bent and of others."""
    before, after = proposal.before.detach(), proposal.after.detach()
    flow = proposal.field.detach()
    middle = mean_displacement(flow).view(*flow.shape[:2], *[1] * (flow.ndim - 2))
    uneven = (flow - middle).square().sum(1).flatten(1).mean(1).sqrt()
    number = learns.sum().to(before)
    return {
        "bent": torch.stack([bent[learns].sum().to(before), number]),
        "bent_by": torch.stack([uneven[learns].sum(), number]),
        "removed": torch.stack([(before - after)[learns].sum(), before[learns].sum()]),
        "removed_strong": torch.stack([(before - after)[~learns].sum(), before[~learns].sum()]),
    }
