"""The one formula: put labels in place, take the loss of every sample, weigh, add."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from labelmend.training.places import Found
from labelmend.training.placing import Placed, Placing
from labelmend.training.warping import WARP
from labelmend.types import Batch, Loss
from labelmend.weighting.calls import call_with

Networks = Mapping[str, nn.Module]
"""The networks being trained, by name: ``main`` is the one that is used afterwards, ``warp`` bends
labels, all others predict."""

LossesOf = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A batch with what the objective must know of its samples beyond their content.

    Attributes:
        batch: the samples.
        weight: ``(batch,)`` γ, how much each label counts; 1 for strong ones. Or
            ``(batch, classes)``, for a loss that is split by class.
        scale: ``(batch,)`` one over the number of samples that its term of eq. 2 averages over,
            counted over the whole step, whatever parts and processes it is divided into.
        step: optimiser steps taken so far.
        strong: ``(batch,)`` bool, whose labels are trusted.
    """

    batch: Batch
    weight: Tensor
    scale: Tensor
    step: int
    strong: Tensor

    def take(self, which: slice) -> Parcel:
        """Some of the samples."""
        weight, scale, strong = (v[which] for v in (self.weight, self.scale, self.strong))
        return Parcel(self.batch.take(which), weight, scale, self.step, strong)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an objective made of a parcel.

    Attributes:
        total: the scalar to differentiate.
        losses: ``(batch,)`` each sample's own loss, unweighted, detached.
        meters: what else is worth knowing, ``(2,)`` each: a sum and how many it is of, to be added
            up over parts and processes before they are divided.
        found: where labels were found to belong, to be remembered; None where nobody looked.
    """

    total: Tensor
    losses: Tensor
    meters: Mapping[str, Tensor] = field(default_factory=dict)
    found: Found | None = None


Goal = Callable[[Networks, Parcel], Terms]
"""What a training step descends: an objective, whichever it is."""


@dataclass(frozen=True, slots=True)
class Objective:
    """Σ_k scale_k γ_k ℓ_k: eq. 2 of seed A, with labels put in place first where asked (seed B).

    The loss and what puts labels in place are handed in; the training loop knows neither of them.
    Mixed images and a second network are in :mod:`labelmend.training.mixed`. The trap: a γ that
    is also used to draw samples counts twice (¶77 with eq. 11).

    >>> from labelmend.losses import cross_entropy
    >>> logits = torch.zeros(2, 2, 4)
    >>> batch = Batch(logits, torch.zeros(2, 4, dtype=torch.long),
    ...               torch.ones(2, 4, dtype=torch.bool), torch.arange(2))
    >>> parcel = Parcel(batch, weight=torch.tensor([1.0, 0.5]), scale=torch.ones(2), step=0,
    ...                 strong=torch.tensor([True, False]))
    >>> round(Objective(cross_entropy)({"main": nn.Identity()}, parcel).total.item(), 3)
    1.04
    """

    loss: Loss
    place: Placing | None = None

    def __call__(self, networks: Networks, parcel: Parcel) -> Terms:
        """The terms of a parcel; gradients flow into the network ``main``."""
        with self.turn(parcel.step):
            logits = networks["main"](parcel.batch.image)
        losses, placed = self.judge(logits, parcel, networks)
        total = weighed(losses, parcel.weight, parcel.scale) + bending(placed, parcel)
        return Terms(total, summed(losses).detach(), placed.meters, placed.found)

    def judge(
        self, logits: Tensor, parcel: Parcel, networks: Networks | None = None
    ) -> tuple[Tensor, Placed]:
        """Each sample's loss against its label put in place, shaped as the loss has it."""
        warp = (networks or {}).get(WARP)
        placed = self._placed(logits, parcel.batch, parcel.step, warp)
        return self.loss(*placed.compared(logits)), placed

    def turn(self, step: int) -> AbstractContextManager[object]:
        """Where predictors predict: without gradients while it is another network's turn."""
        learns = self.place is None or self.place.predictor_learns(step)
        return nullcontext() if learns else torch.no_grad()

    def losses_of(self, network: nn.Module, batch: Batch) -> LossesOf:
        """The losses of un-mixed samples as a function of parameters: ``(batch,)``, for g_S.

        Against labels where they were last found to belong; strong ones never moved.
        """
        batch = self.recalled(batch)

        def losses(params: Mapping[str, Tensor]) -> Tensor:
            logits = call_with(network, params, batch.image)
            return summed(self.loss(logits, batch.label, batch.valid))

        return losses

    def judged_of(self, network: nn.Module, batch: Batch, fit: Loss) -> LossesOf:
        """What is asked of weak samples, by one pass: all losses, then all values of ``fit``.

        Labels are put in place once, for the network as it is, and stay there whatever the
        parameters. With a loss split by class, each value is flat over samples and classes.
        """
        placed = Placed(batch.label, batch.valid, None, {})
        if self.place is not None:
            with torch.no_grad():
                placed = self.place(network(batch.image), batch)

        def judged(params: Mapping[str, Tensor]) -> Tensor:
            compared = placed.compared(call_with(network, params, batch.image))
            return torch.cat([value(*compared).flatten() for value in (self.loss, fit)])

        return judged

    def recalled(self, batch: Batch) -> Batch:
        """The samples with their labels where they were last found to belong."""
        return batch if self.place is None else self.place.recalled(batch)

    def _placed(self, logits: Tensor, batch: Batch, step: int, warp: nn.Module | None) -> Placed:
        """Label and valid after the label was moved to where it belongs."""
        if self.place is None:
            return Placed(batch.label, batch.valid, None, {})
        return self.place(logits, batch, step, warp)


def weighed(losses: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Σ_k scale_k γ_k ℓ_k, where losses are ``(batch,)`` or by class ``(batch, classes)``."""
    return (scale.to(losses) * summed(weight.to(losses) * losses)).sum()


def bending(placed: Placed, parcel: Parcel) -> Tensor:
    """Σ_k scale_k γ_k c_k of what a network that bends labels learns from; 0 where none does."""
    if placed.cost is None:
        return parcel.scale.new_zeros(())
    weight = parcel.weight if parcel.weight.ndim == 1 else parcel.weight.mean(1)
    return weighed(placed.cost, weight, parcel.scale)


def summed(values: Tensor) -> Tensor:
    """``(batch,)``, the classes of a sample added up where they are kept apart."""
    return values if values.ndim == 1 else values.sum(1)


def scales(strong: Tensor, counts: Mapping[str, int]) -> Tensor:
    """One over the number of samples that each sample is averaged with, ``(batch,)`` float64.

    Eq. 2 averages strong and weak samples apart, so that M ≫ N does not drown the strong ones;
    where samples are drawn from all alike, one mean is taken over all.

    Args:
        strong: ``(batch,)`` bool.
        counts: samples of the whole step, over all parts and processes: ``strong`` and ``weak``,
            or ``all``.

    >>> scales(torch.tensor([True, False, False]), {"strong": 1, "weak": 2})
    tensor([1.0000, 0.5000, 0.5000], dtype=torch.float64)
    """
    of_strong = 1.0 / (counts.get("all", counts.get("strong", 0)) or 1)
    of_weak = 1.0 / (counts.get("all", counts.get("weak", 0)) or 1)
    either = torch.tensor([of_weak, of_strong], dtype=torch.float64)
    return either[strong.long()]
