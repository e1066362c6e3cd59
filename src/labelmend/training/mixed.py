"""The objective of pairs: two samples, their mixed image, and who teaches whom (eq. 10–13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from labelmend.losses.valid_positions import at_least_single
from labelmend.mixing import class_mask, draw_class, mix, soften
from labelmend.order import uniform_of
from labelmend.training.dual import (
    advantage,
    classes_of,
    confident,
    corrected,
    disagreement,
    pseudo_label,
    without_traces,
)
from labelmend.training.objective import (
    Networks,
    Objective,
    Parcel,
    Terms,
    bending,
    summed,
    weighed,
)
from labelmend.training.places import Found, joined
from labelmend.training.placing import Placed
from labelmend.training.warping import WARP
from labelmend.types import Batch

Judge = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss of logits, a target and where that is valid: ``(batch,)``, or by class."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How one image is cut into another (eq. 10).

    The class is drawn by seed, step and the two samples: another number of processes, or a
    restart, draws the same.

    Attributes:
        classes: how many there are, background included.
        background: whether class 0 may be cut out.
        border: deviation of the blended border, in positions.
    """

    seed: int
    classes: int
    background: bool = False
    border: float = 0.0

    def masks(self, first: Batch, second: Batch, step: int) -> Tensor:
        """What is taken of every first image, ``(pairs, *space)``: bool, or float if softened."""
        pairs = zip(first.index.tolist(), second.index.tolist(), strict=True)
        drawn = [uniform_of(self.seed, step, i, j) for i, j in pairs]
        uniform = torch.tensor(drawn, device=first.label.device)
        chosen = draw_class(
            first.label, first.valid, self.classes, uniform, background=self.background
        )
        mask = class_mask(first.label, first.valid, chosen)
        return soften(mask, self.border) if self.border else mask


@dataclass(frozen=True, slots=True)
class Target:
    """What a mixed image is to give, and how much it counts: λ, and r of eq. 13.

    Attributes:
        rate: λ at a training step. Where it is 0, no mixed image is made.
        predicted: what is predicted for the un-mixed images, or else the labels, mixed alike.
        trust: whether strong labels stand in the place of what is predicted for them.
        soft: a loss for probabilities; None makes classes of them.
        gate: least probability at which a position teaches.
        by_position: whether either part of a mixed image counts by its own label's weight, and
            not the whole by the mean of both.
    """

    rate: Callable[[int], float]
    predicted: bool = True
    trust: bool = False
    soft: Judge | None = None
    gate: float = 0.0
    by_position: bool = False

    def taught(self, first: Tensor, second: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The pseudo-label of mixed images and where it teaches, from logits for the un-mixed ones.

        Returns:
            Probabilities ``(pairs, classes, *space)``, and ``(pairs, *space)`` bool.
        """
        # Under autocast, logits have too few digits for probabilities.
        one, other = (at_least_single(logits).softmax(1) for logits in (first, second))
        probabilities = pseudo_label(one, other, mask)
        return probabilities, confident(probabilities, self.gate)


@dataclass(frozen=True, slots=True)
class MixedObjective:
    """``Σ γ_i l_i + γ_j l_j + λ (γ_i + γ_j)/2 · r`` (eq. 11), by one network or by two.

    A parcel holds the first samples of all pairs, then the second ones. Of two networks, the first
    learns from first samples and the other from second ones, or both from both; and each learns
    what the other makes of the mixed image. One network alone learns from both samples, and from
    their labels or its own predictions, mixed alike.

    **Passes.** Per pair and network, eq. 11–13 ask for predictions of both samples and of the mixed
    image, and for gradients of the mixed image and of the samples it learns from: 3 forward and 2
    backward passes, or 3 and 3. No more are taken: samples and mixed images with gradients in one
    call, and the samples of the other network without in another. Averages of networks add theirs.

    **Shares.** A sample has the coefficient ``scale γ`` that eq. 2 gives it, twice that where each
    of two networks learns from half of the samples; a mixed image has the mean of its samples'.

    The trap: normalisation by running statistics takes the passes without gradients into account,
    too.

    Attributes:
        plain: the objective of un-mixed samples.
        both: whether each of two networks learns from both samples of a pair.
        averages: by network, the average of it that predicts in its place.
        precision: the number type of the averages' passes, as a context.
    """

    plain: Objective
    cut: Cut
    target: Target
    both: bool = False
    averages: Mapping[str, nn.Module] = field(default_factory=dict)
    precision: Callable[[], AbstractContextManager[object]] = nullcontext

    def taught_by(
        self,
        averages: Mapping[str, nn.Module],
        precision: Callable[[], AbstractContextManager[object]],
    ) -> MixedObjective:
        """The same, where averages of the networks predict in their place."""
        return replace(self, averages=averages, precision=precision)

    def __call__(self, networks: Networks, parcel: Parcel) -> Terms:
        """The terms of a parcel; gradients flow into every network, through no pseudo-label."""
        half = len(parcel.batch) // 2
        pair = parcel.take(slice(half)), parcel.take(slice(half, None))
        predictors = {name: network for name, network in networks.items() if name != WARP}
        apart = len(predictors) > 1 and not self.both
        # A network that learns from half of the samples learns twice as much from each.
        factor = 2.0 if apart else 1.0
        rate = self.target.rate(parcel.step)
        mixture = self._mixture(*pair) if rate > 0 else None
        views = []
        for place, name in enumerate(predictors):
            own = pair[place] if apart else parcel
            unseen = self._unseen(name, predictors[name], pair, own) if mixture else ()
            views.append(self._view(name, networks, own, mixture, unseen))
        total = factor * torch.stack([view.total for view in views]).sum()
        told = views if apart else views[:1]
        losses = torch.cat([view.losses for view in told])
        meters, found = _of_places([view.placed for view in told])
        if mixture is None:
            return Terms(total, losses, meters, found)
        third, figures = self._third(mixture, views)
        return Terms(total + rate * factor * third, losses, meters | figures, found)

    # ------------------------------------------------------------------ what is looked at

    def _mixture(self, first: Parcel, second: Parcel) -> _Mixture:
        # Labels are cut and mixed before anything is predicted: where they last belonged.
        first, second = (
            replace(part, batch=self.plain.recalled(part.batch)) for part in (first, second)
        )
        mask = self.cut.masks(first.batch, second.batch, first.step)
        return _Mixture(first, second, mask, mix(first.batch.image, second.batch.image, mask))

    def _unseen(
        self, name: str, network: nn.Module, pair: tuple[Parcel, Parcel], own: Parcel
    ) -> tuple[Tensor | None, ...]:
        """Logits of first and of second samples without gradients; None where there will be some.

        Taken before the pass with gradients: what they need is free again by then.
        """
        if not self.target.predicted:
            return ()
        average = self.averages.get(name)
        with torch.no_grad():
            if average is not None:
                with self.precision():
                    logits = average(torch.cat([part.batch.image for part in pair]))
                return tuple(logits.chunk(2))
            seen = [own is part or len(own.batch) > len(part.batch) for part in pair]
            return tuple(
                None if known else network(part.batch.image)
                for part, known in zip(pair, seen, strict=True)
            )

    def _view(
        self,
        name: str,
        networks: Networks,
        own: Parcel,
        mixture: _Mixture | None,
        unseen: tuple[Tensor | None, ...],
    ) -> _View:
        image = own.batch.image
        with self.plain.turn(own.step):
            logits = networks[name](image if mixture is None else torch.cat([image, mixture.image]))
        of_own, of_mixed = logits[: len(image)], logits[len(image) :]
        losses, placed = self.plain.judge(of_own, own, networks)
        total = weighed(losses, own.weight, own.scale) + bending(placed, own)
        # Of two halves, those that were not predicted yet are what it has just seen.
        missing = iter(of_own.detach().chunk(max(sum(part is None for part in unseen), 1)))
        predicted = tuple(next(missing) if part is None else part for part in unseen)
        return _View(total, summed(losses).detach(), of_mixed, predicted, placed)

    # ------------------------------------------------------------------ the third term

    def _third(self, mixture: _Mixture, views: list[_View]) -> tuple[Tensor, dict[str, Tensor]]:
        """Σ scale · (γ_i + γ_j)/2 · r over all pairs and networks, and what is worth knowing."""
        found = [
            self._taught(mixture, pupil, teacher)
            for pupil, teacher in zip(views, reversed(views), strict=True)
        ]
        meters = {
            name: torch.stack([figures[name] for _, figures in found]).sum(0)
            for name in found[0][1]
        }
        if len(views) > 1 and self.target.predicted:
            one, other = (classes_of(torch.cat(view.predicted)) for view in views)
            meters["disagreement"] = disagreement(one, other)
        return torch.stack([value for value, _ in found]).sum(), meters

    def _taught(
        self, mixture: _Mixture, pupil: _View, teacher: _View
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One network's part of the third term, and its meters."""
        logits = pupil.mixed
        label, known = mixture.label()
        if not self.target.predicted:
            value, losses = self._counted(mixture, self.plain.loss, (logits, label, known))
            return value, {"mixed_loss": _sum_and_count(losses)}
        first, second = teacher.predicted
        probabilities, sure = self.target.taught(first, second, mixture.mask)
        trusted = known & mixture.trusted()
        gain = advantage(classes_of(probabilities), classes_of(logits.detach()), label, trusted)
        if self.target.trust:
            probabilities, sure = corrected(probabilities, label, trusted), sure | trusted
        soft = self.target.soft
        wanted = classes_of(probabilities) if soft is None else without_traces(probabilities)
        value, losses = self._counted(mixture, soft or self.plain.loss, (logits, wanted, sure))
        meters = {"mixed_loss": _sum_and_count(losses), "gated": _sum_and_count(~sure)}
        return value, meters | {"gain": gain}

    def _counted(
        self, mixture: _Mixture, loss: Judge, of: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """``Σ scale γ r`` and every r, ``(pairs,)``; of logits, target and where it is valid."""
        first, second = mixture.first, mixture.second
        scale = (first.scale + second.scale) / 2
        if not self.target.by_position:
            losses = loss(*of)
            weight = (first.weight + second.weight) / 2
            return weighed(losses, weight, scale), summed(losses).detach()
        logits, target, valid = of
        inside = mixture.mask >= 0.5
        # A mean over positions is the mean of both parts, by how much of it each is.
        known = valid.flatten(1).sum(1).clamp(min=1)
        area = (valid & inside).flatten(1).sum(1).to(scale) / known
        total, each = logits.new_zeros(()), logits.new_zeros(len(logits))
        for where, part, share in ((inside, first, area), (~inside, second, 1 - area)):
            losses = loss(logits, target, valid & where)
            total = total + weighed(losses, part.weight, scale * share)
            each = each + share * summed(losses).detach()
        return total, each


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Pairs, and the image that was mixed of each by its mask."""

    first: Parcel
    second: Parcel
    mask: Tensor
    image: Tensor

    def label(self) -> tuple[Tensor, Tensor]:
        """The labels mixed as the images are, and where anybody said anything."""
        one, other = self.first.batch, self.second.batch
        return mix(one.label, other.label, self.mask), mix(one.valid, other.valid, self.mask)

    def trusted(self) -> Tensor:
        """Positions that come from a strong label, ``(pairs, *space)`` bool."""
        return mix(self.first.strong, self.second.strong, self.mask)


@dataclass(frozen=True, slots=True)
class _View:
    """What one network made of a parcel.

    Attributes:
        total: Σ scale γ ℓ over its own samples.
        losses: those ℓ, detached.
        mixed: logits of the mixed images, none where nothing is mixed.
        predicted: logits of first and of second samples, detached; none where nothing is mixed.
        placed: its own samples' labels where they belong.
    """

    total: Tensor
    losses: Tensor
    mixed: Tensor
    predicted: tuple[Tensor, ...]
    placed: Placed


def _of_places(placed: list[Placed]) -> tuple[dict[str, Tensor], Found | None]:
    """The meters of several views added up, and what they found together."""
    names = [name for one in placed[:1] for name in one.meters]
    meters = {name: torch.stack([one.meters[name] for one in placed]).sum(0) for name in names}
    found = [one.found for one in placed if one.found is not None]
    return meters, joined(found) if found else None


def _sum_and_count(values: Tensor) -> Tensor:
    return torch.stack([values.sum(), torch.full_like(values.sum(), values.numel())])
